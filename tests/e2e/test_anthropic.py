"""The anthropic package, unchanged, against /v1/messages."""

import json

import pytest
from serving import serving

anthropic = pytest.importorskip("anthropic", reason="the anthropic package is not installed (tests/e2e/requirements.txt)")

QUESTION = [{"role": "user", "content": "What is 2 + 3?"}]
ADD = {
    "name": "add",
    "description": "Adds two numbers.",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"enum": [1, 2, 3]}, "b": {"enum": [1, 2, 3]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def client(program):
    with serving("--served-model-name", "mini", env={"BITTERN_API_KEY": "secret"}) as server:
        yield anthropic.Anthropic(base_url=server.url, api_key="secret", max_retries=0)


def ask(client, **more):
    return client.messages.create(**{"model": "mini", "max_tokens": 40, "extra_body": {"temperature": 0}, "messages": QUESTION} | more)


def test_answers(client):
    message = ask(client)
    assert message.type == "message" and message.role == "assistant" and message.model == "mini"
    assert "5" in message.content[0].text
    assert message.stop_reason == "end_turn" and message.usage.output_tokens > 0
    counted = client.messages.count_tokens(model="mini", messages=QUESTION)
    assert counted.input_tokens == message.usage.input_tokens + message.usage.cache_read_input_tokens


def test_streams_the_same(client):
    whole = ask(client)
    with client.messages.stream(model="mini", max_tokens=40, extra_body={"temperature": 0}, messages=QUESTION) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()
    assert events[0] == "message_start" and events[-1] == "message_stop"
    assert final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason and final.usage.output_tokens == whole.usage.output_tokens


def test_stops_at_a_sequence(client):
    message = ask(client, stop_sequences=["5"])
    assert message.stop_reason == "stop_sequence" and message.stop_sequence == "5"


def test_calls_a_tool_and_takes_its_result(client):
    choice = {"type": "tool", "name": "add"}
    message = ask(client, tools=[ADD], tool_choice=choice, max_tokens=200)
    (call,) = message.content
    assert message.stop_reason == "tool_use" and call.name == "add" and call.input["a"] in (1, 2, 3)
    with client.messages.stream(
        model="mini", max_tokens=200, extra_body={"temperature": 0}, messages=QUESTION, tools=[ADD], tool_choice=choice
    ) as stream:
        assert stream.get_final_message().content[0].input == call.input
    result = [{"type": "tool_result", "tool_use_id": call.id, "content": "5"}]
    conversation = [*QUESTION, {"role": "assistant", "content": message.content}, {"role": "user", "content": result}]
    assert ask(client, messages=conversation, tools=[ADD]).content


def test_system_and_blocks(client):
    blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert ask(client, system=blocks).usage.input_tokens > 0


def test_errors_are_anthropics(client):
    with pytest.raises(anthropic.BadRequestError) as refused:
        ask(client, messages=[{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}])
    body = refused.value.body
    assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error"
    assert "messages[0].content[0].type" in body["error"]["message"]
    assert refused.value.request_id
    with pytest.raises(anthropic.NotFoundError):
        ask(client, model="nobody")
    with pytest.raises(anthropic.AuthenticationError):
        ask(anthropic.Anthropic(base_url=str(client.base_url), api_key="wrong", max_retries=0))


def test_a_schema_is_followed(client):
    schema = {"type": "object", "properties": {"sum": {"enum": [4, 5]}}, "required": ["sum"], "additionalProperties": False}
    message = ask(client, extra_body={"output_config": {"format": {"type": "json_schema", "schema": schema}}})
    assert json.loads(message.content[0].text)["sum"] in (4, 5)

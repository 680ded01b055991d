"""client.responses of the openai package, unchanged, against /v1/responses."""

import json

import pytest
from serving import serving

openai = pytest.importorskip("openai", reason="the openai package is not installed (tests/e2e/requirements.txt)")

ADD = {
    "type": "function",
    "name": "add",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"a": {"enum": [1, 2, 3]}, "b": {"enum": [1, 2, 3]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def client(program):
    with serving("--served-model-name", "mini") as server:
        yield openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def ask(client, **more):
    return client.responses.create(**{"model": "mini", "input": "What is 2 + 3?", "temperature": 0} | more)


def test_answers(client):
    response = ask(client)
    assert response.status == "completed" and "5" in response.output_text
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert client.responses.input_tokens.count(model="mini", input="What is 2 + 3?").input_tokens == response.usage.input_tokens


def test_streams_the_same(client):
    whole = ask(client)
    with client.responses.stream(model="mini", input="What is 2 + 3?", temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert final.output_text == whole.output_text


def test_calls_a_function_and_takes_its_output(client):
    response = ask(client, tools=[ADD], tool_choice={"type": "function", "name": "add"}, max_output_tokens=200)
    (call,) = response.output
    assert call.type == "function_call" and json.loads(call.arguments)["b"] in (1, 2, 3)
    conversation = [
        {"role": "user", "content": "What is 2 + 3?"},
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "5"},
    ]
    assert ask(client, input=conversation, tools=[ADD]).status in ("completed", "incomplete")


def test_a_schema_is_followed(client):
    schema = {"type": "object", "properties": {"sum": {"enum": [4, 5]}}, "required": ["sum"], "additionalProperties": False}
    response = ask(client, text={"format": {"type": "json_schema", "name": "sum", "schema": schema, "strict": True}})
    assert json.loads(response.output_text)["sum"] in (4, 5)


@pytest.mark.parametrize("field, value", [("previous_response_id", "resp_1"), ("background", True), ("conversation", "c")])
def test_what_would_be_kept_is_refused_by_name(client, field, value):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **{field: value})
    assert refused.value.param == field


def test_nothing_is_stored(client):
    assert ask(client, store=True).store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")

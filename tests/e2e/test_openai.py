"""The OpenAI API with OpenAI's own client: ordinary flows, streams, tools, forms of output, errors by their classes."""

import concurrent.futures
import json
import time
import typing

import pytest
from serving import serving

openai = pytest.importorskip("openai", reason="the openai package is not installed (tests/e2e/requirements.txt)")

QUESTION = [{"role": "user", "content": "What is 2 + 3?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
IMAGE = {"type": "image_url", "image_url": {"url": "x"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture(scope="module")
def server(program):
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def model(client):
    return client.models.list().data[0].id


def chat(client, model, **more):
    given = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 16}
    return client.chat.completions.create(**given | more)


def test_a_chat(client, model):
    reply = chat(client, model)
    assert reply.choices[0].message.content and reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_stream_joins_to_the_same(client, model):
    whole = chat(client, model)
    chunks = list(chat(client, model, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(c.usage is None for c in chunks[:-1])


def test_samples_seed_and_logprobs(client, model):
    first, second = (
        chat(client, model, n=2, seed=5, temperature=1.2, logprobs=True, top_logprobs=2) for _ in range(2)
    )
    assert [c.message.content for c in first.choices] == [c.message.content for c in second.choices]
    for choice in first.choices:
        assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)
        joined = b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode()
        assert joined == choice.message.content


def test_async_client(server, model):
    import asyncio

    async def ask():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model=model, messages=QUESTION, temperature=0, max_tokens=16, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask())


def test_completions(client, model):
    reply = client.completions.create(model=model, prompt=["The sun", "One day"], max_tokens=5, temperature=0)
    assert [choice.index for choice in reply.choices] == [0, 1]
    echoed = client.completions.create(model=model, prompt="The sun", max_tokens=0, echo=True, logprobs=1)
    scores = echoed.choices[0].logprobs
    assert echoed.choices[0].text == "The sun" and scores.token_logprobs[0] is None
    assert len(scores.tokens) == len(scores.top_logprobs) == len(scores.text_offset) == echoed.usage.prompt_tokens
    streamed = client.completions.create(model=model, prompt="The sun", max_tokens=5, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == reply.choices[0].text


def test_a_forced_tool_call_whole_and_streamed(client, model):
    reply = chat(client, model, tools=[WEATHER], tool_choice=NAMED, max_tokens=100)
    call = reply.choices[0].message.tool_calls[0]
    assert reply.choices[0].finish_reason == "tool_calls" and call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    arguments = ""
    for chunk in chat(client, model, tools=[WEATHER], tool_choice=NAMED, max_tokens=100, stream=True):
        assert not chunk.choices[0].delta.content
        for delta in chunk.choices[0].delta.tool_calls or []:
            arguments += delta.function.arguments or ""
    assert arguments == call.function.arguments


def test_a_call_in_free_text_is_found(client, model):
    """tool_choice auto: a regular expression makes the model write what one that was trained to would."""
    text = '<tool_call>\\n\\{"name": "get_weather", "arguments": \\{"city": "(Rome|Paris)"\\}\\}\\n</tool_call>'
    more = {"tools": [WEATHER], "max_tokens": 100, "extra_body": {"guided_regex": "Let me see\\. " + text}}
    choice = chat(client, model, **more).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "Let me see."
    call = choice.message.tool_calls[0].function
    assert call.name == "get_weather" and json.loads(call.arguments)["city"] in ("Paris", "Rome")
    content = arguments = ""
    for chunk in chat(client, model, stream=True, **more):
        content += chunk.choices[0].delta.content or ""
        for delta in chunk.choices[0].delta.tool_calls or []:
            arguments += delta.function.arguments or ""
    assert content == "Let me see." and arguments == call.arguments


def test_a_conversation_with_tool_results(client, model):
    call = chat(client, model, tools=[WEATHER], tool_choice="required", max_tokens=100).choices[0].message
    result = {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "22 degrees"}
    assert chat(client, model, messages=[*QUESTION, call, result], tools=[WEATHER]).choices[0].message


def test_cached_prefixes_are_counted(client, model):
    ask = {"messages": [{"role": "user", "content": "Tell me a story about a hunter. " * 20}], "max_tokens": 4}
    first, second = (chat(client, model, extra_body={"cache_salt": "mine"}, **ask) for _ in range(2))
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert 0 < second.usage.prompt_tokens_details.cached_tokens < second.usage.prompt_tokens
    assert first.choices[0].message.content == second.choices[0].message.content
    other = chat(client, model, extra_body={"cache_salt": "theirs"}, **ask)
    assert other.usage.prompt_tokens_details.cached_tokens == 0


def test_calls_are_counted_as_such(server, client, model):
    chat(client, model, tools=[WEATHER], tool_choice=NAMED, max_tokens=100)
    assert 'finished_reason="tool_calls"' in server.get("/metrics")[2].decode()


def test_structured_output(client, model):
    pydantic = pytest.importorskip("pydantic")

    class Sum(pydantic.BaseModel):
        sum: int = pydantic.Field(ge=0, le=99)
        sure: bool

    parsed = client.chat.completions.parse(
        model=model, messages=QUESTION, temperature=0, max_tokens=100, response_format=Sum
    )
    assert isinstance(parsed.choices[0].message.parsed, Sum)
    reply = chat(client, model, extra_body={"structured_outputs": {"choice": ["zebra", "giraffe"]}})
    assert reply.choices[0].message.content in ("zebra", "giraffe")
    reply = chat(client, model, extra_body={"guided_regex": "[0-9]{3}"})
    assert reply.choices[0].message.content.isdigit() and len(reply.choices[0].message.content) == 3


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"n": 0}, "n"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"stop": [""]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].type"),
        ({"extra_body": {"use_beam_search": True}}, "use_beam_search"),
        ({"extra_body": {"guided_json": {"type": "strange"}}}, "guided_json"),
        ({"extra_body": {"chat_template": "x"}}, "chat_template"),
    ],
)
def test_bad_requests_name_the_field(client, model, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, model, **more)
    assert caught.value.param == param and caught.value.type == "invalid_request_error"


def test_errors_have_their_classes(client, model):
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client, "unknown-model")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, model, messages=[{"role": "user", "content": "word " * 3000}])
    assert caught.value.code == "context_length_exceeded" and "1024" in caught.value.message


def test_keys_are_asked_for(program):
    with serving(env={"BITTERN_API_KEY": "secret"}) as server:
        wrong = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        assert openai.OpenAI(base_url=server.url + "/v1", api_key="secret", max_retries=0).models.list().data


def test_a_full_queue_is_a_rate_limit(program):
    with serving("--max-queued", "1", "--max-sequences", "1") as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
        model = client.models.list().data[0].id
        long = {"model": model, "prompt": "Once", "max_tokens": 900, "stream": True, "extra_body": {"ignore_eos": True}}
        streams = []
        with pytest.raises(openai.RateLimitError):
            for _ in range(10):
                streams.append(client.completions.create(**long))
        for stream in streams:
            stream.close()
        server.wait_for_metric("bittern:num_requests_running", 0)


def test_parallel_requests_equal_single_ones(client, model):
    questions = [[{"role": "user", "content": f"What is {a} + {b}?"}] for a in range(3) for b in range(4)]
    def ask(messages):
        return chat(client, model, messages=messages).choices[0].message.content

    alone = [ask(messages) for messages in questions]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, questions)) == alone


def test_a_client_that_goes_frees_its_blocks(server, client, model):
    stream = client.completions.create(
        model=model, prompt="Once", max_tokens=900, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    end = time.monotonic() + 10
    while server.metric("bittern:num_requests_running"):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert server.metric("bittern:kv_cache_usage_perc") == 0


def test_langchain(server, model):
    lc = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    from langchain_core.tools import tool

    llm = lc.ChatOpenAI(base_url=server.url + "/v1", api_key="none", model=model, temperature=0, max_tokens=100)
    reply = llm.invoke("What is 2 + 3?")
    assert reply.content and reply.usage_metadata["total_tokens"] > 0
    assert "".join(chunk.content for chunk in llm.stream("What is 2 + 3?")) == reply.content

    @tool
    def add(first: typing.Literal[1, 2], second: typing.Literal[3, 4]) -> int:
        """Adds two numbers."""
        return first + second

    bound = llm.bind_tools([add], tool_choice="add")
    assert bound.invoke("Add 2 and 3.").tool_calls[0]["name"] == "add"
    schema = {
        "title": "Sum",
        "description": "a sum",
        "type": "object",
        "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["sum"],
        "additionalProperties": False,
    }
    assert "sum" in llm.with_structured_output(schema, method="json_schema").invoke("What is 2 + 3?")
    assert "sum" in llm.with_structured_output(schema, method="function_calling").invoke("What is 2 + 3?")
    assert len(llm.batch(["Hello", "Bye"])) == 2

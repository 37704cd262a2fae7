"""The public OpenAI client against the real server: a completion, a chat, streams, an error, a hang-up."""

from collections.abc import Iterator

import openai
import pytest

from tests.running_server import RunningServer

MESSAGES = [{"role": "user", "content": "Tell me a story about a port."}]


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def blocks(server: RunningServer, kind: str) -> int | None:
    """None before the engine core has told any."""
    lines = server.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith(f"lab_engine_{kind}_blocks{{")]
    return int(float(found[0].split()[-1])) if found else None


def test_a_completion(client: openai.OpenAI) -> None:
    name = client.models.list().data[0].id
    answer = client.completions.create(model=name, prompt="Once upon a time", max_tokens=12, temperature=0)
    assert answer.choices[0].text
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens <= 12
    again = client.completions.create(model=name, prompt="Once upon a time", max_tokens=12, temperature=0)
    assert again.choices[0].text == answer.choices[0].text


def test_several_choices_with_logprobs(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="model",
        prompt=["Once", "The server"],
        n=2,
        max_tokens=5,
        logprobs=3,
        seed=1,
        extra_body={"ignore_eos": True},
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    for choice in answer.choices:
        assert choice.finish_reason == "length"
        assert choice.logprobs is not None
        assert len(choice.logprobs.tokens or []) == 5
        assert all(logprob <= 0 for logprob in choice.logprobs.token_logprobs or [])


def test_a_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="model", messages=MESSAGES, max_completion_tokens=20, temperature=0, logprobs=True, top_logprobs=2
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].logprobs is not None
    assert all(len(entry.top_logprobs) == 2 for entry in answer.choices[0].logprobs.content or [])


def test_a_stream_with_usage_is_the_whole_answer_in_pieces(client: openai.OpenAI) -> None:
    request = {"model": "model", "messages": MESSAGES, "max_completion_tokens": 40, "temperature": 0}
    whole = client.chat.completions.create(**request)
    chunks = list(client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}))
    *parts, last = chunks
    text = "".join(part.choices[0].delta.content or "" for part in parts)
    assert text == whole.choices[0].message.content
    assert len(parts) > 5
    assert parts[0].choices[0].delta.role == "assistant"
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.usage == whole.usage


def test_a_stop_string(client: openai.OpenAI) -> None:
    request = {"model": "model", "prompt": "Once upon a time", "max_tokens": 60, "temperature": 0}
    text = client.completions.create(**request).choices[0].text
    stop = text[10:14]
    answer = client.completions.create(**request, stop=stop)
    assert answer.choices[0].text == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="model", prompt="a", max_tokens=100_000)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "max_tokens"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="other", prompt="a")
    with pytest.raises(openai.BadRequestError, match="tools"):
        tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        client.chat.completions.create(model="model", messages=MESSAGES, tools=tools)


def test_a_client_that_hangs_up_leaves_nothing(client: openai.OpenAI, server: RunningServer) -> None:
    stream = client.completions.create(
        model="model", prompt="a", max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    while blocks(server, "free") == blocks(server, "total"):
        pass  # the engine core's figures are a moment behind
    stream.close()
    while blocks(server, "free") != blocks(server, "total"):
        pass  # each look is a request; the test's own time limit ends it
    assert server.get("/load").json() == {"server_load": 0}

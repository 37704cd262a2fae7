"""--stream-interval: fewer events with more tokens each, and in all of them together the same answer."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.frontend.events import events, streamed_text
from tests.frontend.serving import FakeServer, serving

INTERVAL = 5
COUNTED = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with serving(stream_interval=INTERVAL) as server:
        yield server


def stream(fake: FakeServer, request: dict[str, Any]) -> list[Any]:
    """The events of its choices, in order."""
    path = "/v1/chat/completions" if "messages" in request else "/v1/completions"
    *parsed, done = events(fake.post(path, request | COUNTED).text)
    assert done == "[DONE]"
    return [event for event in parsed if event["choices"]]


def counts(parsed: list[Any]) -> list[int]:
    """Tokens that have come by each event."""
    return [event["usage"]["completion_tokens"] for event in parsed]


def test_the_first_token_comes_alone_and_the_last_ones_at_the_end(fake: FakeServer) -> None:
    assert counts(stream(fake, {"prompt": "Once upon a time", "max_tokens": 23})) == [1, 6, 11, 16, 21, 23]
    assert counts(stream(fake, {"prompt": "Once upon a time", "max_tokens": 1})) == [1]


def test_the_first_text_comes_at_once_after_tokens_without_text(fake: FakeServer) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 23}  # the fake repeats <|user|>
    assert counts(stream(fake, asked)) == [2, 7, 12, 17, 22, 23]


@pytest.mark.parametrize("more", [{}, {"echo": True}, {"stop": ["time"]}, {"logprobs": 2}, {"n": 2}])
def test_the_events_together_are_the_whole_answer(fake: FakeServer, more: dict[str, Any]) -> None:
    request = {"prompt": ["Once upon a time", "Grüße 🤷"], "max_tokens": 40} | more
    whole = fake.post("/v1/completions", request).json()["choices"]
    parsed = stream(fake, request)
    for choice in whole:
        own = [event["choices"][0] for event in parsed if event["choices"][0]["index"] == choice["index"]]
        assert streamed_text(parsed, choice["index"]) == choice["text"]
        assert [each["finish_reason"] for each in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
        assert len(own) <= 2 + 40 // INTERVAL
        if choice["logprobs"] is not None:
            for name, values in choice["logprobs"].items():
                assert [each for part in own for each in part["logprobs"][name]] == values


def test_a_held_token_is_not_waited_for_when_the_engine_core_dies() -> None:
    with serving(stream_interval=INTERVAL) as fake:
        fake.engine.step_seconds = 0.01
        request = {"prompt": "a", "max_tokens": 2000, "stream": True}
        with fake.post("/v1/completions", request, stream=True) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith(b'data: {"id"')
            fake.call(lambda: fake.engine.die("a test"))
            told = [line for line in lines if line]
        assert b'"error"' in told[-1]

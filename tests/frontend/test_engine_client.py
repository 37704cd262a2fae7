"""Who answers whom, without sockets: what is sent, who hears what, and who hears no more."""

import pytest

from lab_support.boundary.messages import (
    Abort,
    EngineReady,
    Fatal,
    Generate,
    SequenceTokens,
    ToEngineCore,
    Tokens,
)
from lab_support.frontend.engine_client import EngineClient
from lab_support.generation import FinishReason, SamplingParams

SAMPLING = SamplingParams()
FATAL = Fatal("engine-0", "it failed")


class Wire:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, ToEngineCore]] = []

    def send(self, engine_index: int, message: ToEngineCore) -> None:
        self.sent.append((engine_index, message))


class Ear:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_tokens(self, tokens: SequenceTokens) -> None:
        self.heard.append(tokens)

    def on_fatal(self, fatal: Fatal) -> None:
        self.heard.append(fatal)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def client(wire: Wire) -> EngineClient:
    made = EngineClient(wire, client_index=1, client_count=2, engine_count=2)
    made.on_message(EngineReady(0, 2048, 64))
    assert not made.ready
    made.on_message(EngineReady(1, 2048, 64))
    assert made.ready
    assert made.max_model_len == 2048
    return made


def test_tokens_go_to_the_one_who_asked(client: EngineClient, wire: Wire) -> None:
    first, second = Ear(), Ear()
    one = client.submit([1], SAMPLING, first)
    two = client.submit([2], SAMPLING, second)
    assert [index for index, _ in wire.sent] == [one.engine_index, two.engine_index]
    assert all(isinstance(message, Generate) and message.client_index == 1 for _, message in wire.sent)
    news = [SequenceTokens(two.request_id, [7]), SequenceTokens(one.request_id, [8], FinishReason.STOP)]
    client.on_message(Tokens(0, news))
    assert (first.heard, second.heard) == ([news[1]], [news[0]])


def test_after_an_abort_nothing_is_heard(client: EngineClient, wire: Wire) -> None:
    ear = Ear()
    asked = client.submit([1], SAMPLING, ear, engine_index=1)
    client.abort(asked)
    client.abort(asked)
    assert wire.sent[1:] == [(1, Abort(1, [asked.request_id]))]
    client.on_message(Tokens(1, [SequenceTokens(asked.request_id, [7])]))
    assert ear.heard == []


def test_what_has_ended_is_not_aborted(client: EngineClient, wire: Wire) -> None:
    asked = client.submit([1], SAMPLING, Ear())
    client.on_message(Tokens(0, [SequenceTokens(asked.request_id, [7], FinishReason.LENGTH)]))
    client.abort(asked)
    assert len(wire.sent) == 1


def test_bad_news_reaches_every_open_sequence_once(client: EngineClient) -> None:
    ears = [Ear(), Ear()]
    for ear in ears:
        client.submit([1], SAMPLING, ear)
    client.fail(FATAL)
    client.fail(Fatal("launcher", "and again"))
    assert [ear.heard for ear in ears] == [[FATAL], [FATAL]]
    assert client.fatal == FATAL
    assert not client.ready

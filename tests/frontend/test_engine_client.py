"""The routing of answers, without sockets: messages sent, their receivers, and the end of deliveries."""

import pytest

from lab_support.boundary.messages import (
    Abort,
    EngineCoreGone,
    EngineLoad,
    EngineReady,
    Fatal,
    Generate,
    Loads,
    SequenceTokens,
    ToEngineCore,
    Tokens,
)
from lab_support.frontend.routing.engine_client import EngineClient
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

    def on_defect(self, error: BaseException) -> None:
        self.heard.append(error)


class Stumbling(Ear):
    """Raises at every token, and where `deaf` when it is told of that, too."""

    def __init__(self, error: BaseException, deaf: bool = False) -> None:
        super().__init__()
        self.error = error
        self.deaf = deaf

    def on_tokens(self, tokens: SequenceTokens) -> None:
        raise self.error

    def on_fatal(self, fatal: Fatal) -> None:
        raise self.error

    def on_defect(self, error: BaseException) -> None:
        super().on_defect(error)
        if self.deaf:
            raise self.error


class Panic(BaseException):
    """As a Rust library raises it."""


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


@pytest.mark.parametrize("error", [ZeroDivisionError(), Panic()], ids=["an error", "a panic"])
@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("finish", [None, FinishReason.STOP])
def test_who_stumbles_over_its_tokens_fails_alone(
    client: EngineClient, wire: Wire, error: BaseException, deaf: bool, finish: FinishReason | None
) -> None:
    stumbling = Stumbling(error, deaf and not isinstance(error, Panic))
    ears = [Ear(), stumbling, Ear()]
    asked = [client.submit([1], SAMPLING, ear, engine_index=0) for ear in ears]
    step = [SequenceTokens(each.request_id, [7], finish) for each in asked]
    for _ in range(2):
        client.on_message(Tokens(0, step))
    heard = 2 if finish is None else 1
    assert [ear.heard for ear in ears] == [[step[0]] * heard, [error], [step[2]] * heard]
    aborts = [message for _, message in wire.sent if isinstance(message, Abort)]
    assert aborts == ([Abort(1, [asked[1].request_id])] if finish is None else [])


def test_bad_news_reaches_the_others_where_one_stumbles_over_it(client: EngineClient) -> None:
    ears = [Ear(), Stumbling(ZeroDivisionError()), Ear()]
    for ear in ears:
        client.submit([1], SAMPLING, ear)
    client.fail(FATAL)
    assert [ear.heard for ear in ears] == [[FATAL], [], [FATAL]]


def test_a_sequence_that_could_not_be_sent_is_not_in_flight(client: EngineClient, wire: Wire) -> None:
    """Requests in flight decide where the next one goes: a count that stays would turn all others away."""
    send = wire.send

    def gone(engine_index: int, message: ToEngineCore) -> None:
        raise EngineCoreGone("engine-0 has ended")

    wire.send = gone  # type: ignore[method-assign]
    ear = Ear()
    for _ in range(10):
        with pytest.raises(EngineCoreGone):
            client.submit([1], SAMPLING, ear, engine_index=0)
    wire.send = send  # type: ignore[method-assign]
    client.on_message(Loads([EngineLoad()] * 2))  # what was sent since the last news counts no more
    assert ear.heard == []
    assert sorted(client.submit([1], SAMPLING, ear).engine_index for _ in range(4)) == [0, 0, 1, 1]


def test_an_abort_for_an_engine_core_that_is_gone_is_no_error(client: EngineClient, wire: Wire) -> None:
    asked = client.submit([1], SAMPLING, Ear(), engine_index=0)

    def gone(engine_index: int, message: ToEngineCore) -> None:
        raise EngineCoreGone("engine-0 has ended")

    wire.send = gone  # type: ignore[method-assign]
    client.abort(asked)


@pytest.mark.parametrize("lengths", [(50, 100), (100, 50)])
def test_what_is_promised_is_what_every_engine_core_can_take(wire: Wire, lengths: tuple[int, int]) -> None:
    made = EngineClient(wire, client_index=0, client_count=1, engine_count=2)
    for index, length in enumerate(lengths):
        made.on_message(EngineReady(index, length, 64))
    assert made.max_model_len == 50

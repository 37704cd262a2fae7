"""Joins the events of all processes into requests, and divides the time of each into stages.

An engine core knows a sequence by the slot of its API server and a number. Both come again if another API server takes
over the slot. So an event belongs to the last sequence with this key that had been sent by then: all processes share
one clock, and nothing arrives before it is sent.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from lab_support.instruments.trace.read import ProcessTrace, Run
from lab_support.tracing.events import (
    Abandoned,
    Arrived,
    Closed,
    Finished,
    Parsed,
    Queued,
    Received,
    Sent,
    Step,
    Streamed,
    Tokenised,
)


@dataclass(slots=True)
class Share:
    """A sequence's share of a step. tokens: of its prompt; 0 in a decode step."""

    step: Step
    tokens: int


@dataclass(slots=True)
class Sequence:
    """One sequence of a request. None: the event is not in the trace."""

    sent: Sent
    engine: ProcessTrace | None = None
    arrived_at: float | None = None
    queued_at: float | None = None
    abandoned_at: float | None = None
    steps: list[Share] = field(default_factory=list)
    streamed: list[Streamed] = field(default_factory=list)
    finished: Finished | None = None

    @property
    def first_ran_at(self) -> float | None:
        """When the step that made its first token had run: the last one before its first decode step."""
        decodes = (index for index, share in enumerate(self.steps) if not share.tokens)
        before = self.steps[: next(decodes, len(self.steps))]
        return before[-1].step.ran_at if before else None

    @property
    def tokens(self) -> int:
        """Those that its API server has received."""
        return sum(each.tokens for each in self.streamed)


@dataclass(slots=True)
class Request:
    """One client's request. `sequences` in the order in which they were sent."""

    api: ProcessTrace
    received: Received
    parsed: Parsed | None = None
    tokenised: Tokenised | None = None
    sequences: list[Sequence] = field(default_factory=list)
    closed: Closed | None = None

    @property
    def id(self) -> str:
        """Its x-request-id, or, if it never got that far, its number in its API server."""
        return self.parsed.id if self.parsed else f"{self.api.role}#{self.received.request}"

    @property
    def begun_at(self) -> float:
        """When its head was complete."""
        return self.received.at

    @property
    def last(self) -> Sequence | None:
        """The sequence whose tokens ended last."""
        return max(self.sequences, key=lambda each: each.streamed[-1].at if each.streamed else 0.0, default=None)

    @property
    def seconds(self) -> float | None:
        """From its head to its end; None if the end is not in the trace."""
        return self.closed.at - self.received.at if self.closed else None

    @property
    def tokens(self) -> int:
        """Those of all its sequences."""
        return sum(sequence.tokens for sequence in self.sequences)

    @property
    def end(self) -> str:
        """How it ended, in words."""
        if self.closed is None:
            return "no end in the trace"
        reasons = sorted({each.finished.reason for each in self.sequences if each.finished})
        return f"{self.closed.status} {self.closed.left or ', '.join(reasons)}".strip()


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a request's time. role: the process in which it is spent, or the two between which."""

    name: str
    role: str
    begun_at: float
    ended_at: float

    @property
    def seconds(self) -> float:
        return self.ended_at - self.begun_at


def requests_of(run: Run) -> tuple[list[Request], int]:
    """All requests of a run, by the time of their heads; and the number of events that belong to none."""
    requests: list[Request] = []
    keys: dict[tuple[str, int, int], list[Sequence]] = {}
    lost = 0
    for process in run.processes:
        if process.slot >= 0:
            found = _ApiServer(process)
            lost += found.read()
            requests += found.requests.values()
            for number, sequence in found.sequences.items():
                keys.setdefault((f"engine-{sequence.sent.engine}", process.slot, number), []).append(sequence)
    for sequences in keys.values():
        sequences.sort(key=_sent_at)
    for process in run.processes:
        if process.role.startswith("engine-"):
            lost += _EngineCore(process, keys).read()
    return sorted(requests, key=lambda request: request.begun_at), lost


def _sent_at(sequence: Sequence) -> float:
    return sequence.sent.at


class _ApiServer:
    """The requests of one API server."""

    def __init__(self, process: ProcessTrace) -> None:
        self._process = process
        self.requests: dict[int, Request] = {}
        self.sequences: dict[int, Sequence] = {}

    def read(self) -> int:
        """Returns the number of events whose request is not in the trace."""
        return sum(not self._take(event) for event in self._process.events)

    def _take(self, event: object) -> bool:
        match event:
            case Received():
                self.requests[event.request] = Request(self._process, event)
            case Parsed() | Tokenised() | Sent() | Closed():
                request = self.requests.get(event.request)
                return request is not None and self._take_of_request(request, event)
            case Streamed() | Finished():
                sequence = self.sequences.get(event.sequence)
                return sequence is not None and self._take_of_sequence(sequence, event)
        return True

    def _take_of_request(self, request: Request, event: Parsed | Tokenised | Sent | Closed) -> bool:
        match event:
            case Parsed():
                request.parsed = event
            case Tokenised():
                request.tokenised = event
            case Closed():
                request.closed = event
            case Sent():
                self.sequences[event.sequence] = Sequence(event)
                request.sequences.append(self.sequences[event.sequence])
        return True

    def _take_of_sequence(self, sequence: Sequence, event: Streamed | Finished) -> bool:
        if isinstance(event, Streamed):
            sequence.streamed.append(event)
        else:
            sequence.finished = sequence.finished or event
        return True


class _EngineCore:
    """The steps of one engine core, and what else it says of sequences."""

    def __init__(self, process: ProcessTrace, keys: dict[tuple[str, int, int], list[Sequence]]) -> None:
        self._process = process
        self._keys = keys
        self._lost = 0

    def read(self) -> int:
        """Returns the number of sequences in events that are not in the trace."""
        for event in self._process.events:
            match event:
                case Arrived():
                    if sequence := self._find(event.client, event.sequence, event.at):
                        sequence.arrived_at = event.at
                case Queued():
                    if sequence := self._find(event.client, event.sequence, event.at):
                        sequence.queued_at = event.at
                case Abandoned():
                    if sequence := self._find(event.client, event.sequence, event.at):
                        sequence.abandoned_at = event.at
                case Step():
                    self._take(event)
        return self._lost

    def _take(self, step: Step) -> None:
        for client, number, tokens in _sharers(step):
            if sequence := self._find(client, number, step.at):
                sequence.steps.append(Share(step, tokens))

    def _find(self, client: int, number: int, at: float) -> Sequence | None:
        known = self._keys.get((self._process.role, client, number), [])
        index = bisect_right(known, at, key=_sent_at) - 1
        if index < 0:
            self._lost += 1
            return None
        known[index].engine = self._process
        return known[index]


def _sharers(step: Step) -> Iterator[tuple[int, int, int]]:
    """(API server's slot, sequence, tokens of its prompt or 0) for each sequence of a step."""
    for client, number in zip(step.decodes[::2], step.decodes[1::2], strict=False):
        yield client, number, 0
    yield from zip(step.prefills[::3], step.prefills[1::3], step.prefills[2::3], strict=False)


def stages(request: Request) -> list[Stage]:
    """The time of a request, divided without a gap: by the sequence that ended last, if it has several."""
    api, made = request.api.role, []
    at = request.received.at
    for name, role, until in _ends(request, api):
        if until is not None:
            made.append(Stage(name, role, at, max(at, until)))
            at = made[-1].ended_at
    return made


def _ends(request: Request, api: str) -> Iterator[tuple[str, str, float | None]]:
    """(stage, process, its end) in order; None if the end is not in the trace, and then it is part of the next one."""
    yield "body read and checked", api, request.parsed.at if request.parsed else None
    yield "prompt tokenised", api, request.tokenised.at if request.tokenised else None
    if sequence := request.last:
        yield from _ends_of_sequence(sequence, api)
    yield "answer ended", api, request.closed.at if request.closed else None


def _ends_of_sequence(sequence: Sequence, api: str) -> Iterator[tuple[str, str, float | None]]:
    engine = f"engine-{sequence.sent.engine}"
    begun_at = sequence.steps[0].step.at if sequence.steps else None
    yield "engine core chosen", api, sequence.sent.at
    yield "sent to the engine core", f"{api} → {engine}", sequence.arrived_at
    yield "waited for the end of a step", engine, sequence.queued_at
    yield "waited for its first step", engine, begun_at
    if not sequence.streamed:
        return
    first, last = sequence.streamed[0], sequence.streamed[-1]
    yield "prompt computed (prefill)", engine, sequence.first_ran_at
    yield "first token sent back", f"{engine} → {api}", first.at
    yield "first token to text", api, first.decoded_at
    yield "first token written", api, first.written_at
    if last is not first:
        yield "further tokens (decode)", f"{engine}, {api}", last.at
        yield "last token to text", api, last.decoded_at
        yield "last token written", api, last.written_at

"""The trace of one request in its API server, from its head to its end. Runs in the event loop.

Routes call it whether --trace-dir was given or not: `UNTRACED` does nothing. Per token nothing of it is called; a
traced sequence has a `TracedMeter` in place of its meter, so that an untraced one pays nothing.
"""

from time import monotonic
from typing import Any, Protocol

from lab_support.frontend.trace.traceparent import traceparent_of
from lab_support.tracing.events import (
    Closed,
    Finished,
    Parsed,
    Received,
    Sent,
    Streamed,
    Tokenised,
    shortened,
)
from lab_support.tracing.trace import Trace

RECEIVED = "lab.received"
"""In a request's scope, if it is traced: (when its head was complete, when its connection was accepted)."""


class Meter(Protocol):
    """Counts one sequence's tokens: `metrics.EngineMeter`."""

    def submitted(self, prompt_tokens: int) -> None: ...

    def on_step(self, tokens: int, last_at: float, started: float, decoded: float, sent: float) -> None: ...

    def first_token(self, seconds: float) -> None: ...

    def ended(self, reason: Any, seconds: float, seconds_per_token: float, tokens: int) -> None: ...

    def aborted(self) -> None: ...


class Untraced:
    """Each method is called once for a request, in this order; `sending` and `sent` once for each of its sequences."""

    __slots__ = ()

    def parsed(self, request_id: str) -> None: ...

    def tokenised(self, prompt_tokens: int) -> None: ...

    def sending(self) -> float:
        """The time just before a sequence is sent, for `sent`."""
        return 0.0

    def sent(self, at: float, sequence: int, engine: int, meter: Meter) -> Meter:
        """The meter that this sequence has to use."""
        return meter

    def closed(self, status: int, left: str) -> None: ...


UNTRACED = Untraced()


class Traced(Untraced):
    """Writes the request's events to the process's trace. number: of the request in this API server."""

    __slots__ = ("_number", "_trace")

    def __init__(self, trace: Trace, number: int, scope: dict[str, Any]) -> None:
        self._trace = trace
        self._number = number
        received_at, accepted_at = scope.get(RECEIVED) or (monotonic(), 0.0)
        trace_id, parent_id = traceparent_of(scope["headers"])
        trace.add(Received(received_at, number, shortened(scope["path"]), accepted_at, trace_id, parent_id))

    def parsed(self, request_id: str) -> None:
        self._trace.add(Parsed(monotonic(), self._number, shortened(request_id)))

    def tokenised(self, prompt_tokens: int) -> None:
        self._trace.add(Tokenised(monotonic(), self._number, prompt_tokens))

    def sending(self) -> float:
        return monotonic()

    def sent(self, at: float, sequence: int, engine: int, meter: Meter) -> Meter:
        self._trace.add(Sent(at, self._number, sequence, engine))
        return TracedMeter(self._trace, sequence, meter)

    def closed(self, status: int, left: str) -> None:
        self._trace.add(Closed(monotonic(), self._number, status, shortened(left)))


class TracedMeter:
    """Writes what happens to one sequence, then lets its own meter count it."""

    __slots__ = ("_add", "_meter", "_sequence", "_trace", "submitted")

    def __init__(self, trace: Trace, sequence: int, meter: Meter) -> None:
        self._trace, self._sequence, self._meter = trace, sequence, meter
        self._add = trace.add
        self.submitted = meter.submitted

    def on_step(self, tokens: int, last_at: float, started: float, decoded: float, sent: float) -> None:
        self._add(Streamed(started, self._sequence, tokens, decoded, sent))
        self._meter.on_step(tokens, last_at, started, decoded, sent)

    def first_token(self, seconds: float) -> None:
        self._trace.first("first token")
        self._meter.first_token(seconds)

    def ended(self, reason: Any, seconds: float, seconds_per_token: float, tokens: int) -> None:
        self._add(Finished(monotonic(), self._sequence, reason))
        self._meter.ended(reason, seconds, seconds_per_token, tokens)

    def aborted(self) -> None:
        self._add(Finished(monotonic(), self._sequence, "aborted"))
        self._meter.aborted()


class Requests:
    """Numbers the traced requests of one API server."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._count = 0

    def begin(self, scope: Any) -> Untraced:
        """The trace of a request for text, which has just come."""
        if not self._trace.on:
            return UNTRACED
        self._count += 1
        return Traced(self._trace, self._count, scope)

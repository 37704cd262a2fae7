"""`server.trace`: what a live server that was started with `trace=True` has written of its start and its requests.

All times are seconds of CLOCK_MONOTONIC, one clock for all processes of a machine: they can be compared with
`time.monotonic()` here. Runs in the kernel, or in a cell's own process.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lab_support.instruments.trace.read import Run, TraceError, read_run
from lab_support.instruments.trace.requests import Request, requests_of, stages
from lab_support.plural import counted

PATIENCE = 20.0  # seconds; processes write four times a second

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class ServerTrace:
    """The trace in `folder`. Each call reads the files anew."""

    folder: Path

    def address(self) -> tuple[str, int] | None:
        """Of the listening socket, as soon as it is open; None before."""
        opened = [each for each in self._milestones() if each["stage"] == "port open"]
        if not opened:
            return None
        host, _, port = opened[0]["detail"].removeprefix("http://").rpartition(":")
        return host, int(port)

    def milestones(self) -> list[dict[str, Any]]:
        """The start of every process: dicts with `role`, `at`, `stage`, `about` and `detail`, in order of time.

        Waits until the trace has the first token, which ends a start. Raises `LookupError` if it has none.
        """
        return _awaited(lambda: self._milestones_to_first_token(), "a first token; ask the server for one before")

    def request(self, name: str) -> Request:
        """The request with this x-request-id, once all of it is in the trace. Raises `LookupError` if it never is."""
        return self.requests([name])[0]

    def requests(self, names: Iterable[str]) -> list[Request]:
        """Those with these x-request-ids, in this order, once all of them are whole. Raises `LookupError`."""
        wanted = list(names)
        words = ", ".join(map(repr, wanted[:3])) + ", …" * (len(wanted) > 3)
        return _awaited(lambda: self._whole(wanted), f"{counted(len(wanted), 'ended request')}: {words}")

    def _run(self) -> Run | None:
        try:
            return read_run(self.folder)
        except TraceError:  # nothing has been written yet
            return None

    def _milestones(self) -> list[dict[str, Any]]:
        run = self._run()
        found = [
            {"role": process.role, "at": each.at, "stage": each.stage, "about": each.about, "detail": each.detail}
            for process in (run.processes if run else ())
            for each in process.milestones
        ]
        return sorted(found, key=lambda each: float(each["at"]))

    def _milestones_to_first_token(self) -> list[dict[str, Any]] | None:
        found = self._milestones()
        return found if any(each["stage"] == "first token" for each in found) else None

    def _whole(self, names: Sequence[str]) -> list[Request] | None:
        """None as long as one of them is not whole."""
        run = self._run()
        found = {each.id: each for each in requests_of(run)[0] if _is_whole(each)} if run else {}
        return [found[name] for name in names] if found.keys() >= set(names) else None


def _awaited(look: Callable[[], _Found | None], expected: str) -> _Found:
    deadline = time.monotonic() + PATIENCE
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise LookupError(f"got no such thing in the trace within {PATIENCE:.0f} s, expected {expected}")
        time.sleep(0.05)
    return found


def _is_whole(request: Request) -> bool:
    """Whether its end and every step of its tokens are there."""
    return request.closed is not None and all(len(each.steps) >= each.tokens for each in request.sequences)


# ---- for figures and verdicts ----------------------------------------------------------------------------------------


def times_of(request: Request) -> dict[str, Any]:
    """The times of a request with one sequence, as plain data: seconds since its head was complete.

    api, engine: the processes that it passed. trace_id: its client's, "" for none. total: until its end. waited: for
    its first step, in the engine core. steps: begin and end of each step, and the number of sequences in it. written:
    begin and end of the work on each piece of text, in the API server. stages: name, process, begin and end of each.
    """
    zero, [sequence] = request.begun_at, request.sequences
    steps = [share.step for share in sequence.steps]
    return {
        "api": request.api.role,
        "engine": f"engine-{sequence.sent.engine}",
        "trace_id": request.received.trace_id,
        "total": request.seconds,
        "waited": steps[0].at - (sequence.arrived_at or sequence.sent.at),
        "steps": _since(
            zero, [(each.at, each.ended_at, len(each.decodes) // 2 + len(each.prefills) // 3) for each in steps]
        ),
        "written": _since(zero, [(each.at, each.written_at) for each in sequence.streamed]),
        "stages": [
            (each.name, each.role, *_since(zero, [(each.begun_at, each.ended_at)])[0]) for each in stages(request)
        ],
    }


def _since(zero: float, spans: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Spans with their begin and end relative to `zero`; what else a span has stays."""
    return [(round(begun - zero, 6), round(ended - zero, 6), *rest) for begun, ended, *rest in spans]

"""What a load has come to so far, while it runs: one JSON line now and then on a descriptor (`lab load --progress-fd`).

The lines are for a picture in another process. They cost one look at the answers under way each; nothing is counted
per token. `Progress` is one line; the writer runs in the load generator, `read_progress` in who draws.
"""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import IO

EVERY = 0.2
"""Seconds between two lines."""

Arrivals = Iterable[tuple[float, Sequence[float]]]
"""Of each answer: when it was due, and when each piece of its text came, in `time.monotonic()` seconds."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a load stands. at: seconds since it began; requests: ended so far, of `asked`; errors: among them.

    tokens: so far, of answers under way too, pieces of text counted. tokens_per_second, first_token, inter_token: of
    the time since the line before; the latter two are medians in seconds, None where nothing of the kind came.
    """

    at: float
    requests: int
    asked: int
    errors: int
    tokens: int
    tokens_per_second: float
    first_token: float | None
    inter_token: float | None


def read_progress(lines: IO[str]) -> Iterator[Progress]:
    """The lines as they come, to the end of the load."""
    for line in lines:
        yield Progress(**json.loads(line))


@dataclass(slots=True)
class Pace:
    """Turns what has arrived until now into one `Progress` after the other."""

    asked: int
    began: float
    last: float = 0.0
    tokens: int = 0
    counted: dict[int, int] = field(default_factory=dict)
    """Of each array of arrivals that may still grow, by id: how many were counted."""

    def step(self, now: float, ended: Arrivals, under_way: Arrivals, requests: int, errors: int) -> Progress:
        """ended: answers that have ended since the last step; under_way: all that have not."""
        firsts: list[float] = []
        gaps: list[float] = []
        came = 0
        growing: dict[int, int] = {}
        for due_at, times in under_way:
            came += self._count(due_at, times, firsts, gaps)
            growing[id(times)] = len(times)
        for due_at, times in ended:
            came += self._count(due_at, times, firsts, gaps)
        self.counted = growing
        seconds = max(now - self.began - self.last, 1e-6)
        self.last, self.tokens = now - self.began, self.tokens + came
        return Progress(
            round(self.last, 3), requests, self.asked, errors, self.tokens, round(came / seconds, 1),
            _median(firsts), _median(gaps),
        )  # fmt: skip

    def _count(self, due_at: float, times: Sequence[float], firsts: list[float], gaps: list[float]) -> int:
        done = self.counted.get(id(times), 0)
        if done == 0 and len(times):
            firsts.append(times[0] - due_at)
        gaps.extend(times[index] - times[index - 1] for index in range(max(done, 1), len(times)))
        return len(times) - done


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 6) if values else None


async def tell_progress(descriptor: int, step: Callable[[float], Progress]) -> None:
    """Write a line every `EVERY` seconds until cancelled, and a last one then. A reader that is gone or slow gets none.

    Runs in the load generator's event loop, so it never blocks: what the pipe does not take is left out.
    """
    os.set_blocking(descriptor, False)
    try:
        while True:
            await asyncio.sleep(EVERY)
            _write(descriptor, step(time.monotonic()))
    finally:
        _write(descriptor, step(time.monotonic()))


def _write(descriptor: int, progress: Progress) -> None:
    line = json.dumps(asdict(progress), separators=(",", ":")).encode() + b"\n"
    with suppress(BlockingIOError, BrokenPipeError):
        os.write(descriptor, line)  # shorter than PIPE_BUF: whole or not at all, pipe(7)

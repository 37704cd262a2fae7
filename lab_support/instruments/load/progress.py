"""Progress of a running load: a JSON line every 0.2 s on a descriptor (`lab load --progress-fd`).

The lines are for a picture in another process. Each costs one look at the answers under way; nothing is counted per
token. `Progress` is one line; the writer runs in the load generator, `read_progress` in the process that draws.
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
"""For each answer: its due time and the arrival of each piece of its text, in `time.monotonic()` seconds."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A load's progress. at: seconds since it began; requests: ended so far, of `asked`; errors: among them.

    tokens: pieces of text so far, including answers under way. tokens_per_second, first_token, inter_token: since the
    previous line; the latter two are medians in seconds, None without samples.
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
    """The lines as they arrive, until the load ends."""
    for line in lines:
        yield Progress(**json.loads(line))


@dataclass(slots=True)
class Pace:
    """Turns arrivals so far into one `Progress` after another."""

    asked: int
    began: float
    last: float = 0.0
    tokens: int = 0
    counted: dict[int, int] = field(default_factory=dict)
    """Counts of arrivals so far, by the id of each array that may still grow."""

    def step(self, now: float, ended: Arrivals, under_way: Arrivals, requests: int, errors: int) -> Progress:
        """ended: answers that have ended since the last step; under_way: those that have not ended."""
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
    """Write a line every `EVERY` seconds until cancelled, and a last one then.

    Runs in the load generator's event loop, so it never blocks: a line that the pipe does not take, because its
    reader is slow or gone, is dropped.
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
        os.write(descriptor, line)  # shorter than PIPE_BUF, so written whole or not at all: pipe(7)

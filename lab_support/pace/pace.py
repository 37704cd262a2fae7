"""One pace: a grid of measured steps, and the time of any step between them."""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import msgspec

SHORTER, LONGER = "shorter", "longer"


class PaceCounts(msgspec.Struct, array_like=True, gc=False):
    """An engine core's counts at a pace. The engine's object is packed into the message without a copy.

    late_steps, late_seconds: of steps for which Python took longer than the pace. shorter, longer: steps whose context
    lies outside what was recorded.
    """

    late_steps: int = 0
    late_seconds: float = 0.0
    shorter: int = 0
    longer: int = 0


@dataclass(frozen=True, slots=True)
class Curve:
    """Steps of the same rows: milliseconds over context in tokens, ascending."""

    contexts: tuple[float, ...]
    step_ms: tuple[float, ...]

    def at(self, context: float) -> float:
        """Interpolated in a straight line; the nearest end outside."""
        return _between(context, self.contexts, self.step_ms)


@dataclass(frozen=True, slots=True)
class Pace:
    """The time of a step by its rows (sequences) and by their context (tokens of each, on average).

    name: as in `--device paced:NAME`. origin: where the figures are from, for titles. curves: by rows, ascending.
    shortest, longest: the contexts that were measured, in tokens. prompt_ms: milliseconds more for each token of a
    prompt that a step computes. kv_tokens: the tokens in the KV cache of that GPU; None if it isn't known.
    """

    name: str
    origin: str
    curves: dict[int, Curve]
    shortest: float
    longest: float
    prompt_ms: float = 0.0
    kv_tokens: int | None = None

    @property
    def title(self) -> str:
        """For `/version`, the log and figures: "stand-in for a GPU, paced like 8B (NVIDIA H200, 2026-11-26)"."""
        return f"stand-in for a GPU, paced like {self.name} ({self.origin})"

    @property
    def least_rows(self) -> int:
        return next(iter(self.curves))

    @property
    def most_rows(self) -> int:
        return next(reversed(self.curves))

    def step_ms(self, rows: int, context: float, prompt_tokens: int = 0) -> float:
        """Milliseconds of a step, interpolated between measured rows and contexts; the nearest measured one outside."""
        counts = tuple(self.curves)
        place = bisect_left(counts, rows)
        near = counts[max(0, place - 1) : place + 1] if place < len(counts) else counts[-1:]
        steps = tuple(self.curves[count].at(context) for count in near)
        return _between(rows, near, steps) + prompt_tokens * self.prompt_ms

    def outside(self, context: float) -> str | None:
        """`SHORTER` or `LONGER` if the context is outside what was measured."""
        if context < self.shortest:
            return SHORTER
        return LONGER if context > self.longest else None


def _between(at: float, places: tuple[float, ...], values: tuple[float, ...]) -> float:
    if at <= places[0]:
        return values[0]
    for (left, low), (right, high) in pairwise(zip(places, values, strict=True)):
        if at <= right:
            return low + (high - low) * (at - left) / (right - left)
    return values[-1]

"""Latency arithmetic: from the moments at which one request's pieces arrived to percentiles over many requests.

Pure functions over times in seconds (`time.monotonic()`); no clock is read here and nothing is sent.

Three latencies, all of one request: time to first token (from when it was due to its first piece of
text), inter-token latency (between one piece of text and the next), end to end (to the end of the
answer). *Due* is the intended send time in an open loop. A generator that was held up by a slow server
and counted from the actual send would leave out the very waiting that it caused: coordinated omission.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

COMPLETED = "completed"
HUNG_UP = "hung up"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What happened to one request. Times in seconds on one monotonic clock.

    due_at: when it was meant to be sent; started_at: when the generator got to it (connecting comes after).
    token_times: arrival of each piece of streamed text; empty where the answer came in one piece.
    outcome: `COMPLETED`, `HUNG_UP` (by us, on purpose), or the kind of error.
    """

    due_at: float
    started_at: float
    ended_at: float
    token_times: Sequence[float]
    tokens: int
    outcome: str
    served_by: str = ""
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Distribution:
    """`n` values by their percentiles. Every figure is 0 where n is 0.

    quantiles: the 0th, 1st, … 100th percentile, for drawing; empty where only the summary was kept.
    """

    n: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0
    quantiles: tuple[float, ...] = field(default=(), repr=False)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank: the least value that at least `percent` % of the values do not exceed. `ordered` ascends."""
    assert ordered, "a percentile of nothing"
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def distribution(values: Iterable[float], *, with_quantiles: bool = True) -> Distribution:
    """The percentiles of `values`, in their unit."""
    ordered = sorted(values)
    if not ordered:
        return Distribution()
    quantiles = tuple(round(percentile(ordered, percent), 6) for percent in range(101)) if with_quantiles else ()
    return Distribution(
        n=len(ordered),
        mean=sum(ordered) / len(ordered),
        p50=percentile(ordered, 50),
        p90=percentile(ordered, 90),
        p99=percentile(ordered, 99),
        max=ordered[-1],
        quantiles=quantiles,
    )


def times_to_first_token(records: Iterable[RequestRecord]) -> list[float]:
    """Seconds from due to the first piece of text, for every record that got one."""
    return [record.token_times[0] - record.due_at for record in records if record.token_times]


def inter_token_latencies(records: Iterable[RequestRecord]) -> list[float]:
    """Seconds between consecutive pieces of text, of all records together.

    Pieces that arrive in one read of the socket are 0 apart, as a user would see them.
    """
    gaps: list[float] = []
    for record in records:
        times = record.token_times
        gaps.extend(times[i] - times[i - 1] for i in range(1, len(times)))
    return gaps


def end_to_end_latencies(records: Iterable[RequestRecord]) -> list[float]:
    """Seconds from due to the end of the answer, of completed requests alone."""
    return [record.ended_at - record.due_at for record in records if record.outcome == COMPLETED]


def latenesses(records: Iterable[RequestRecord]) -> list[float]:
    """Seconds by which the generator got to each request after it was due."""
    return [record.started_at - record.due_at for record in records]

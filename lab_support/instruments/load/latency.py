"""Latency arithmetic: from the arrival times of one request's pieces to percentiles over many requests.

Pure functions over times in seconds (`time.monotonic()`); no clock is read here and nothing is sent.

There are three latencies of one request: time to first token (from its due time to its first piece of text),
inter-token latency (between one piece of text and the next), and end to end (from its due time to the end of the
answer). In an open loop, *due* is the intended send time. A generator that is held up by a slow server and counts from
the actual send leaves out the very waiting that the server caused: coordinated omission.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

COMPLETED = "completed"
HUNG_UP = "hung up"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """The record of one request. Times in seconds on one monotonic clock.

    due_at: intended send time; started_at: when the generator got to it (connecting comes after).
    token_times: arrival of each piece of streamed text; empty if the answer came in one piece.
    outcome: `COMPLETED`, `HUNG_UP` (by us, on purpose), or the kind of error. stand_in: the answer's words for what
    stands in for the server's device; "" if nothing does.
    """

    due_at: float
    started_at: float
    ended_at: float
    token_times: Sequence[float]
    tokens: int
    outcome: str
    served_by: str = ""
    engine: str = ""
    stand_in: str = ""


@dataclass(frozen=True, slots=True)
class Distribution:
    """`n` values by their percentiles. Every figure is 0 if n is 0.

    quantiles: the 0th, 1st, … 100th percentile, for drawing; empty if only the summary was kept.
    """

    n: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0
    quantiles: tuple[float, ...] = field(default=(), repr=False)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank: the least value that at least `percent` % of the values do not exceed. `ordered`: ascending."""
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
    """Seconds from the due time to the first piece of text, for every record that got one."""
    return [record.token_times[0] - record.due_at for record in records if record.token_times]


def inter_token_latencies(records: Iterable[RequestRecord]) -> list[float]:
    """Seconds between consecutive pieces of text, over all records.

    Pieces that arrive in one read of the socket are 0 apart, as a user would see them.
    """
    gaps: list[float] = []
    for record in records:
        times = record.token_times
        gaps.extend(times[i] - times[i - 1] for i in range(1, len(times)))
    return gaps


def end_to_end_latencies(records: Iterable[RequestRecord]) -> list[float]:
    """Seconds from the due time to the end of the answer, for completed requests only."""
    return [record.ended_at - record.due_at for record in records if record.outcome == COMPLETED]


def latenesses(records: Iterable[RequestRecord]) -> list[float]:
    """Seconds from each request's due time until the generator got to it."""
    return [record.started_at - record.due_at for record in records]

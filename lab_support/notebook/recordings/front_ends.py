"""The H200's front ends, from its recording: tokens per second and CPU time for a token over API servers, and what the
engine's pace asks of an API server. It measures nothing.

Taught in: 08_does_another_api_server_help
"""

from dataclasses import dataclass
from statistics import median
from typing import Any

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.page.tables import Table

RECORDING = "server_step_times"
_TOKENS, _CPU = "lab_engine_generation_tokens_total", "lab_api_cpu_seconds"


@dataclass(frozen=True, slots=True)
class FrontEnds:
    """One recorded load: API servers, tokens per second, and microseconds of CPU time in all of them for a token."""

    api_servers: int
    tokens_per_second: float
    us_per_token: float


def front_ends(run: Recording) -> list[FrontEnds]:
    """By API servers. Raises `LookupError` if the run ended before it saw some."""
    found = [_front_ends(sample) for sample in run.of("front ends")]
    if not found:
        raise LookupError(f"got a recording of {run.name} without front ends, expected some")
    return found


def _front_ends(sample: dict[str, Any]) -> FrontEnds:
    tokens = sample["spent"][_TOKENS]
    cpu = sum(seconds for name, seconds in sample["spent"].items() if name.startswith(_CPU))
    return FrontEnds(sample["api_servers"], tokens / sample["seconds"], cpu / tokens * 1e6)


def table(run: Recording) -> Table:
    """A row for each number of API servers."""
    rows = (
        (str(each.api_servers), f"{each.tokens_per_second:,.0f}", f"{each.us_per_token:.0f}")
        for each in front_ends(run)
    )
    return Table(("API servers", "tokens/s", "µs of CPU time in API servers for each token"), tuple(rows))


def dearer_and_no_faster(run: Recording) -> bool:
    """Each further API server made a token dearer, and four brought no quarter more tokens than one."""
    found = front_ends(run)
    costs = [each.us_per_token for each in found]
    return costs == sorted(costs) and found[-1].tokens_per_second < 1.25 * found[0].tokens_per_second


def pace(run: Recording, model: str, context: int) -> float:
    """Tokens per second of `model` at its most rows and a context of about `context` tokens, by its median step.

    Raises `LookupError` if that was not recorded.
    """
    points = [each for each in run.of("point", model=model) if each["step_ms"]]
    if not points:
        raise LookupError(f"got a recording of {run.name} without steps of {model!r}, expected some")
    rows = max(each["batch"] for each in points)
    nearest = min(
        (each for each in points if each["batch"] == rows), key=lambda each: abs(float(each["context"]) - context)
    )
    return float(rows / median(nearest["step_ms"]) * 1000)

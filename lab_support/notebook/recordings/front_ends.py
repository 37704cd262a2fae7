"""The H200's front ends, from its recording: tokens per second over API servers, CPU time for a token, and the pace of
the models. It measures nothing.

Taught in: 08_does_another_api_server_help
"""

from dataclasses import dataclass
from statistics import median
from typing import Any

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.page.tables import Table

RECORDING = "server_step_times"
_TOKENS, _RUN = "lab_engine_generation_tokens_total", 'lab_engine_stage_seconds_total{stage="run"}'
_CPU = 'lab_api_cpu_seconds{api_server="0"}'


@dataclass(frozen=True, slots=True)
class FrontEnds:
    """One recorded load. in_steps: the share of the time that the engine core spent in steps of the GPU."""

    api_servers: int
    tokens_per_second: float
    in_steps: float


def front_ends(run: Recording) -> list[FrontEnds]:
    """By API servers. Raises `LookupError` if the run ended before it saw some."""
    return [_front_ends(sample) for sample in _loads(run)]


def _loads(run: Recording) -> list[dict[str, Any]]:
    found = run.of("front ends")
    if not found:
        raise LookupError(f"got a recording of {run.name} without front ends, expected some")
    return found


def _front_ends(sample: dict[str, Any]) -> FrontEnds:
    spent, seconds = sample["spent"], sample["seconds"]
    return FrontEnds(sample["api_servers"], spent[_TOKENS] / seconds, spent[_RUN] / seconds)


def us_per_token(run: Recording) -> float:
    """Microseconds of CPU time in the one API server for a token. Raises `LookupError` if that was not recorded.

    Of several, the recording of 2026-11-26 can't tell: they publish their CPU time up to 0.2 s late, and its first look
    came sooner, so that the start of some of them is counted, too. The experiment has waited for them since.
    """
    alone = next(sample["spent"] for sample in _loads(run) if sample["api_servers"] == 1)
    return float(alone[_CPU] / alone[_TOKENS] * 1e6)


def table(run: Recording) -> Table:
    """Tokens per second, and the engine core's share of the time in steps, for each number of API servers."""
    rows = (
        (str(each.api_servers), f"{each.tokens_per_second:,.0f}", f"{each.in_steps:.0%}") for each in front_ends(run)
    )
    return Table(("API servers", "tokens/s", "engine core in steps"), tuple(rows))


def hardly_faster(run: Recording) -> bool:
    """Whether four API servers brought less than a quarter more tokens than one."""
    found = front_ends(run)
    return found[-1].tokens_per_second < 1.25 * found[0].tokens_per_second


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

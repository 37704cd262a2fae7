"""Paces from the recording of the server on a GPU, data/recordings/server_step_times.json.

A look there is [seconds, steps, prompt tokens, generated tokens, running, waiting, seconds in the stage `run`]: the
engine core's own totals (experiments/server_step_times.py). The time of a step is that of its stage `run`.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from lab_support.config import ConfigError
from lab_support.pace.pace import Curve, Pace

RECORDING = Path(__file__).resolve().parents[2] / "data" / "recordings" / "server_step_times.json"
BLOCK_SIZE = 16  # of the recorded server: the default


class Look(NamedTuple):
    """A line of `looks`; times in seconds."""

    at: float
    steps: float
    prompt_tokens: float
    generated: float
    running: float
    waiting: float
    run: float


def read_recorded(file: Path = RECORDING) -> dict[str, Pace]:
    """The recorded paces by name. Raises `ConfigError` if the recording can't be read."""
    try:
        recording = json.loads(file.read_bytes())
        origin = f"{recording['machine']['gpu']}, {recording['date'][:10]}"
        return {pace.name: pace for pace in _paces(recording["samples"], origin)}
    except OSError as error:
        raise ConfigError(
            f"{file}: can't be read ({error.strerror}), expected the recorded paces; restore it"
        ) from None
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{file}: got no recording of paces ({error!r}); restore the file") from None


def _paces(samples: list[dict[str, Any]], origin: str) -> Iterator[Pace]:
    points: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        if sample["what"] == "point":
            points.setdefault(sample["model"], []).append(sample)
    blocks = {each["model"]: each["details"]["engine-0"]["blocks"] for each in samples if each["what"] == "server"}
    for model, own in points.items():
        if curves := _curves(own):
            pace = Pace(
                name=model,
                origin=origin,
                curves=curves,
                shortest=min(point["context"] for point in own),
                longest=max(point["context"] + point["output_tokens"] for point in own),
                kv_tokens=blocks[model] * BLOCK_SIZE,
            )
            yield _with_prompts(pace, own)


def _curves(points: list[dict[str, Any]]) -> dict[int, Curve]:
    """By rows. A point is at the mean context of its measured steps, which the answers have made longer."""
    found: dict[int, list[tuple[float, float]]] = {}
    for point in points:
        if measured := list(_decodes(point)):
            context, step_ms = zip(*measured, strict=True)
            found.setdefault(point["batch"], []).append((mean(context), median(step_ms)))
    return {rows: Curve(*map(tuple, zip(*sorted(found[rows]), strict=True))) for rows in sorted(found)}  # type: ignore[arg-type]


def _decodes(point: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """(mean context, milliseconds a step) of each pair of looks between which only decodes of all rows ran."""
    rows = point["batch"]
    first = Look(*point["looks"][0])
    for before, after in pairwise(Look(*each) for each in point["looks"]):
        steps = after.steps - before.steps
        if steps > 0 and after.prompt_tokens == before.prompt_tokens and before.running == after.running == rows:
            generated = (before.generated + after.generated) / 2 - first.generated
            yield point["context"] + generated / rows, (after.run - before.run) / steps * 1000


def _with_prompts(pace: Pace, points: list[dict[str, Any]]) -> Pace:
    """With the median over all single steps that ended prompts of the time that they took longer than decodes.

    Except in a model's first point, in which kernels are loaded. Prompts beside decodes took longer than prompts alone
    there, so single steps lie up to a third beside the median.
    """
    more = [
        ((after.run - before.run) * 1000 - pace.step_ms(int(after.running), point["context"])) / tokens
        for point in points[1:]
        for before, after in pairwise(Look(*each) for each in point["looks"])
        if (tokens := after.prompt_tokens - before.prompt_tokens) and after.steps - before.steps == 1
    ]
    return replace(pace, prompt_ms=max(0.0, median(more))) if more else pace

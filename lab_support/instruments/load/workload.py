"""The requests of a load: arrival times, prompts from files or made up, output lengths, early hang-ups.

Everything is drawn from one seed, so the same `Load` sends the same requests at the same times. Nothing is
sent here.
"""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

PROMPTS_IN_THE_BOX = Path(__file__).resolve().parents[3] / "data" / "prompts"

_WORDS = (
    "the",
    "port",
    "listens",
    "while",
    "a",
    "process",
    "waits",
    "for",
    "requests",
    "and",
    "kernel",
    "keeps",
    "queue",
)


class WorkloadError(ValueError):
    """A load that makes no sense. The text says what was got, what was expected and what to do."""


@dataclass(frozen=True, slots=True)
class LengthRange:
    """From `least` to `most`, both included; lengths are drawn uniformly."""

    least: int
    most: int

    def draw(self, chance: random.Random) -> int:
        return chance.randint(self.least, self.most)

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.least}-{self.most}"


def length_range(text: str) -> LengthRange:
    """`"4-64"` or `"16"`. Raises `WorkloadError`."""
    least, _, most = text.partition("-")
    if not (least.isdigit() and (most or least).isdigit() and 1 <= int(least) <= int(most or least)):
        raise WorkloadError(f"got {text!r}, expected a length such as 16 or a range such as 4-64, from 1")
    return LengthRange(int(least), int(most or least))


@dataclass(frozen=True, slots=True)
class Question:
    """One planned request. hang_up_after: close the connection after so many pieces of text; None: never."""

    path: str
    body: dict[str, Any]
    hang_up_after: int | None


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The lines `{"prompt" or "messages": …, "max_tokens": …}` of a file, or of all `*.jsonl` files in a folder."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    prompts = [_read_prompt(line, file) for file in files for line in _text(file).split("\n") if line.strip()]
    if not prompts:
        raise WorkloadError(f'{path}: got no prompts, expected lines of JSON such as {{"prompt": …, "max_tokens": 16}}')
    return prompts


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise WorkloadError(
            f"{file.name}: got text that is not UTF-8 at byte {error.start}; save it as UTF-8"
        ) from error


def _read_prompt(line: str, file: Path) -> dict[str, Any]:
    try:
        prompt = json.loads(line)
    except ValueError as error:
        raise WorkloadError(f"{file.name}: got {line[:60]!r}, expected one JSON object a line") from error
    if not isinstance(prompt, dict) or ("prompt" in prompt) == ("messages" in prompt):
        raise WorkloadError(f"{file.name}: got {line[:60]!r}, expected either `prompt` or `messages` in each line")
    wanted = {key: prompt[key] for key in ("prompt", "messages") if key in prompt}
    most = prompt.get("max_tokens", 16)
    if not isinstance(most, int) or most < 1:
        raise WorkloadError(f"{file.name}: got max_tokens {most!r}, expected a whole number from 1")
    return {**wanted, "max_tokens": most}


def made_up_prompts(words: LengthRange, chance: random.Random) -> Iterator[dict[str, Any]]:
    """An endless iterator of prompts of plain words, about one token a word."""
    while True:
        yield {"prompt": " ".join(chance.choices(_WORDS, k=words.draw(chance))), "max_tokens": 16}


def shuffled_for_ever(prompts: list[dict[str, Any]], chance: random.Random) -> Iterator[dict[str, Any]]:
    """All of `prompts` in random order, then all again in another order, without end."""
    while True:
        yield from chance.sample(prompts, len(prompts))


def poisson_arrivals(rate: float, chance: random.Random) -> Iterator[float]:
    """Arrival times in seconds from the start, without end: independent users, `rate` a second on average."""
    at = 0.0
    while True:
        at += chance.expovariate(rate)
        yield at


def read_trace(path: Path) -> list[float]:
    """Arrival times in seconds from the start, one a line; `#` begins a comment."""
    lines = (line.partition("#")[0].strip() for line in _text(path).split("\n"))
    try:
        times = sorted(float(line) for line in lines if line)
    except ValueError as error:
        raise WorkloadError(f"{path.name}: {error}; expected one arrival time in seconds a line") from error
    odd = [time for time in times if not 0 <= time < math.inf]
    if odd or not times:
        raise WorkloadError(f"{path.name}: got {odd[:1] or 'nothing'}, expected arrival times from 0 seconds")
    return times


def questions(
    prompts: Iterator[dict[str, Any]],
    count: int,
    chance: random.Random,
    *,
    output_tokens: LengthRange | None,
    hangup_share: float,
    fields: dict[str, Any],
) -> list[Question]:
    """`count` requests, of which exactly the rounded `hangup_share` hang up early; which ones is random.

    They hang up after a random number of pieces, at most half of the tokens they ask for.
    """
    leavers = set(chance.sample(range(count), round(count * hangup_share)))
    result = []
    for index, prompt in enumerate(islice(prompts, count)):
        body = {**prompt, **fields}
        if output_tokens is not None:
            body["max_tokens"] = output_tokens.draw(chance)
        path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        hang_up_after = chance.randint(0, body["max_tokens"] // 2) if index in leavers else None
        result.append(Question(path, body, hang_up_after))
    return result

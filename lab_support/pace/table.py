"""A reader's own pace: a text file that any editor can change.

    # rows  context  milliseconds per step
    1       512      5.1
    1       2048     5.3
    64      512      7.1
    64      2048     9.8
    prompt_ms 0.04             # more for each token of a prompt; 0 without this line

`#` begins a remark. Rows are the sequences in a step, context their mean length in tokens. All rows need the same
contexts, and the first rows are 1. A table with one line is a constant pace for one sequence.
"""

import math
import stat
from pathlib import Path

from lab_support.config import ConfigError
from lab_support.pace.pace import Curve, Pace

MOST_BYTES = 1 << 16
MOST_SHOWN = 40
MOST_MS = 60_000.0
MOST_COUNT = 1_000_000
_LINE = "three numbers: rows, context and milliseconds, such as `64 512 7.1`"

Steps = dict[int, dict[int, float]]
"""Milliseconds by rows and by context."""


def read_table(file: Path) -> Pace:
    """Raises `ConfigError`, which names the line."""
    steps: Steps = {}
    prompt_ms: float | None = None
    for number, words in _lines(_text(file)):
        where = f"{file}, line {number}"
        if words[0] == "prompt_ms":
            prompt_ms = _prompt_ms(words, where, prompt_ms)
        else:
            _add_step(steps, words, where)
    curves = _curves(steps, file)
    contexts = next(iter(curves.values())).contexts
    return Pace(_shown(file.name), "the reader's own table", curves, contexts[0], contexts[-1], prompt_ms or 0.0)


def _shown(name: str) -> str:
    """The file's name as a header and a label can carry it."""
    return "".join(each if each.isascii() and each.isprintable() else "?" for each in name[:MOST_SHOWN])


def _text(file: Path) -> str:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would never end
            raise ConfigError(f"--device: got {file}, which is not a plain file; name the file of a table")
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"--device: got {file}, which can't be read ({why}); name the file of a table") from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{file}: got more than {MOST_BYTES} bytes, expected a table of a few lines; shorten it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: got no UTF-8 at byte {error.start}, expected text; save it as UTF-8") from None


def _lines(text: str) -> list[tuple[int, list[str]]]:
    """Number and words of each line that says something. Commas count as spaces."""
    parts = (line.partition("#")[0].replace(",", " ").split() for line in text.splitlines())
    return [(number, words) for number, words in enumerate(parts, 1) if words]


def _prompt_ms(words: list[str], where: str, before: float | None) -> float:
    if before is not None:
        raise ConfigError(f"{where}: got prompt_ms again, expected one such line; remove this one")
    if len(words) != 2:
        raise ConfigError(f"{where}: got {_short(words)}, expected `prompt_ms` and one number of milliseconds")
    return _milliseconds(words[1], where, least=0.0)


def _add_step(steps: Steps, words: list[str], where: str) -> None:
    if len(words) != 3:
        raise ConfigError(f"{where}: got {_short(words)}, expected {_LINE}")
    rows, context = _count(words[0], "rows", where), _count(words[1], "context", where)
    if context in steps.setdefault(rows, {}):
        raise ConfigError(f"{where}: got rows {rows} and context {context} again, expected them once; remove a line")
    steps[rows][context] = _milliseconds(words[2], where)


def _count(word: str, name: str, where: str) -> int:
    number = int(word) if word.isascii() and word.isdecimal() and len(word) < 10 else 0
    if not 1 <= number <= MOST_COUNT:
        raise ConfigError(f"{where}: got {name} {word!r:.40}, expected a whole number from 1 to {MOST_COUNT} ({_LINE})")
    return number


def _milliseconds(word: str, where: str, least: float = 0.001) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not least <= number <= MOST_MS:
        raise ConfigError(f"{where}: got {word!r:.40}, expected milliseconds, from {least:g} to {MOST_MS:g}")
    return number


def _curves(steps: Steps, file: Path) -> dict[int, Curve]:
    """By rows. Raises `ConfigError` if the table is empty, begins above one row, or has a hole."""
    if not steps:
        raise ConfigError(f"{file}: got no line of a table, expected at least one of {_LINE}")
    if min(steps) > 1:
        raise ConfigError(
            f"{file}: got rows from {min(steps)} on, expected them from 1 on, because every batch shrinks to one row; "
            "add lines for 1"
        )
    wanted = sorted(steps[1])
    for rows, own in steps.items():
        if sorted(own) != wanted:
            got = _some(sorted(own))
            raise ConfigError(f"{file}: got contexts {got} for rows {rows}, expected {_some(wanted)}, as for rows 1")
    contexts = tuple(map(float, wanted))
    return {rows: Curve(contexts, tuple(steps[rows][context] for context in wanted)) for rows in sorted(steps)}


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")


def _short(words: list[str]) -> str:
    return f"{' '.join(words)!r:.80}"

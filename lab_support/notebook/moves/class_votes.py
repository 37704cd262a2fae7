"""A class's predictions as one histogram, from the files of all readers: `lab.class_histogram`, `lab class`.

Each reader counts once, with the first answer that they gave before they saw the result. It only reads files.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lab_support.instruments.foreign_text import visible
from lab_support.notebook.canvas.plots import HATCHES, INK, Picture, quiet, title
from lab_support.notebook.cells.cell_words import colour_of
from lab_support.notebook.page import record
from lab_support.notebook.page.predictions import Answer, answer_of
from lab_support.notebook.page.record import Entry

Place = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Votes:
    """The votes on one prediction. answers: one for each reader who gave one in time. supported: option → how many
    readers' measurements supported it. options, sketch, rows: as asked. skipped: a sentence for each unusable file.
    """

    number: str
    words: str = ""
    options: dict[str, str] = field(default_factory=dict)
    sketch: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()
    supported: dict[str, int] = field(default_factory=dict)
    readers: int = 0
    skipped: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Readers by option; for a table, by row, those who filled it in as most measurements have it."""
        if self.rows:
            filled = [str(answer) for answer in self.answers]
            return {
                row: sum(answer[place] == self.right[place : place + 1] for answer in filled)
                for place, row in enumerate(self.rows)
            }
        found = Counter(answer for answer in self.answers if isinstance(answer, str))
        return {letter: found[letter] for letter in sorted({*self.options, *found})}

    @property
    def right(self) -> str:
        """The option that most measurements support, or ""."""
        return max(self.supported, key=lambda letter: self.supported[letter], default="")

    @property
    def finding(self) -> str:
        if not self.answers:
            return f"None of {self.readers} answered {self.number} before the result"
        if self.sketch:
            return f"Mean of {len(self.answers)} sketches: {self._average_in_words}"
        if self.rows:
            row, count = min(self.counts.items(), key=lambda item: item[1])
            return f"The row that fewest had right, {count} of {len(self.answers)}: {row}"
        letter, count = max(self.counts.items(), key=lambda item: item[1])
        found = f"{count} of {len(self.answers)} chose {letter}"
        if not self.right:
            return found
        if letter == self.right:
            return f"{found}, which the measurements support"
        return f"{found}; the measurements support {self.right}, chosen by {self.counts.get(self.right, 0)}"

    @property
    def averages(self) -> list[float]:
        return [mean(column) for column in zip(*self.answers, strict=True)]  # type: ignore[arg-type]

    @property
    def _average_in_words(self) -> str:
        return ", ".join(f"{label} {part:.0%}" for label, part in zip(self.sketch, self.averages, strict=True))

    def __str__(self) -> str:
        return "\n".join([*self.skipped, self.histogram])

    @property
    def histogram(self) -> str:
        """As lines of text without control characters, because other people wrote it and a terminal would obey them."""
        most = max(self.counts.values(), default=0)
        lines = [f"{self.number} {self.words}".rstrip(), self.finding]
        for letter, count in self.counts.items():
            bar = "█" * round(40 * count / max(1, most))
            sign = " ✔" if letter == self.right else ""
            lines.append(f"  {letter} {bar} {count}{sign}  {self.options.get(letter, '')}".rstrip())
        return "\n".join(map(visible, lines))


def class_histogram(places: Place | Sequence[Place], number: str) -> Picture:
    """The answers to prediction `number` of all readers whose records are in `places`, files or folders, as a figure.

    A file that can't be read or is no record is named in a sentence and left out.
    """
    votes = collect([places] if isinstance(places, str | os.PathLike) else places, number)
    for sentence in votes.skipped:
        print(sentence, file=sys.stderr)
    return draw(votes)


def collect(places: Sequence[Place], number: str) -> Votes:
    """Read the records and count each reader once."""
    readers, skipped = _readers(places)
    mine = [[entry for entry in each if (entry.kind, entry.name) == ("prediction", number)] for each in readers]
    return _votes(number, mine, skipped)


def _readers(places: Sequence[Place]) -> tuple[list[list[Entry]], tuple[str, ...]]:
    """Each reader's entries, and a sentence for each file that is left out."""
    readers, skipped = [], []
    for file in _files(places):
        try:
            entries = record.entries(path=file)
        except OSError as error:
            skipped.append(f"{file} is left out: {error.strerror or error}.")
            continue
        if not entries:
            skipped.append(f"{file} is left out: got no line of a record, expected a reader's record.jsonl.")
            continue
        readers.append([entry for entry in entries if _is_whole(entry)])
    return readers, tuple(skipped)


def _is_whole(entry: Entry) -> bool:
    """Whether the entry has the shape that a kernel writes; a file may have been edited."""
    fields = entry.fields
    answer, options = fields.get("answer", ""), fields.get("options", {})
    texts = [entry.name, fields.get("words", ""), fields.get("supported", ""), *fields.get("rows", ())]
    if not all(isinstance(text, str) for text in texts) or not isinstance(options, dict):
        return False
    if fields.get("event") == "answer" and "answer" not in fields:
        return False
    return isinstance(answer, str) or (
        isinstance(answer, list) and all(isinstance(share, int | float) for share in answer)
    )


def _files(places: Sequence[Place]) -> Iterator[Path]:
    for place in map(Path, places):
        yield from sorted(place.rglob("*.jsonl")) if place.is_dir() else [place]


def _votes(number: str, readers: list[list[Entry]], skipped: tuple[str, ...]) -> Votes:
    firsts = [first for mine in readers if (first := _first_in_time(mine)) is not None]
    found = (entry.fields.get("supported") for mine in readers for entry in mine if entry.fields.get("event") == "seen")
    options: dict[str, str] = {}
    for fields in firsts:
        options |= fields.get("options", {})
    sketch, rows = (tuple(firsts[0].get(what, ())) if firsts else () for what in ("sketch", "rows"))
    return Votes(
        number,
        firsts[0].get("words", "") if firsts else "",
        options,
        sketch,
        rows,
        tuple(answer for answer in map(answer_of, firsts) if len(answer) == len(sketch or rows or answer)),
        dict(Counter(letter for letter in found if letter)),
        len(readers),
        skipped,
    )


def _first_in_time(mine: list[Entry]) -> dict[str, Any] | None:
    answers = (entry.fields for entry in mine if entry.fields.get("event") == "answer")
    return next((fields for fields in answers if not fields.get("late")), None)


def draw(votes: Votes) -> Picture:
    """Bars of counts; for a table, of right answers by row; for sketches, of mean shares, with readers as dots."""
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    axes = figure.subplots()
    if votes.sketch:
        bars = list(zip(votes.sketch, (100 * part for part in votes.averages), strict=True))
    else:
        bars = [(_label(votes, letter), float(count)) for letter, count in votes.counts.items()]
    for index, (_, height) in enumerate(bars):
        axes.barh(index, height, color=colour_of(index), hatch=HATCHES[index % len(HATCHES)], edgecolor=INK, alpha=0.85)
        axes.text(height, index, f"  {height:.0f}", va="center", fontsize=10, color=INK)
    if votes.sketch:
        for answer in votes.answers:
            axes.plot([100 * float(part) for part in answer], range(len(answer)), "o", color="white",
                      markeredgecolor=INK, markersize=4)  # fmt: skip
    axes.set_yticks(range(len(bars)), [label for label, _ in bars])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(
        "% of the whole, mean; a dot for each reader"
        if votes.sketch
        else f"readers{' who had it right' if votes.rows else ''} (n = {len(votes.answers)})"
    )
    quiet(axes)
    title(axes, votes.finding)
    return Picture(
        figure, f"Histogram of prediction {votes.number}, {votes.words}. {votes.finding}. " + _in_words(votes)
    )


def _label(votes: Votes, letter: str) -> str:
    if votes.rows:
        return letter
    sign = "✔ " if letter == votes.right else ""
    text = votes.options.get(letter, "")
    return f"{sign}{letter}  {text if len(text) < 44 else text[:42] + '…'}"


def _in_words(votes: Votes) -> str:
    return "; ".join(f"{letter} {count}" for letter, count in votes.counts.items())


# ---- the command -----------------------------------------------------------------------------------------------------


def add_class_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `lab class`."""
    parser.description = "A histogram of each prediction, or of one, from the files of all readers."
    parser.add_argument("places", nargs="+", metavar="FOLDER_OR_FILE", help="readers' record.jsonl, or folders of them")
    parser.add_argument("--prediction", metavar="NUMBER", help="such as 04.1; by default, all that were answered")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write the figure: .svg or .png, of one prediction"
    )


def run_class_command(arguments: argparse.Namespace) -> int:
    """`lab class`: 0; 2 if no file could be used, or the figure can't be written."""
    if arguments.out and (refused := _no_figure(arguments.out, arguments.prediction)):
        print(f"lab class: {refused}", file=sys.stderr)
        return 2
    numbers = [arguments.prediction] if arguments.prediction else numbers_in(arguments.places)
    found = [collect(arguments.places, number) for number in numbers or [""]]
    if not found[0].readers:
        print(*map(visible, found[0].skipped), sep="\n", end="\n" * bool(found[0].skipped), file=sys.stderr)
        print("lab class: got no record, expected files or folders with record.jsonl", file=sys.stderr)
        return 2
    for sentence in found[0].skipped:
        print(visible(sentence))
    print("\n\n".join(votes.histogram for votes in found) if numbers else "Nobody has answered a prediction yet.")
    return _write(found[0], arguments.out) if arguments.out else 0


def numbers_in(places: Sequence[Place]) -> list[str]:
    """The numbers of all predictions that any reader has answered or seen, in order."""
    readers, _ = _readers(places)
    return sorted({entry.name for reader in readers for entry in reader if entry.kind == "prediction"})


def _no_figure(out: Path, prediction: str | None) -> str:
    """The reason why no figure can be written to `out`, or ""."""
    if out.suffix not in (".svg", ".png"):
        return f"got --out {out}, expected a name that ends in .svg or .png"
    return "" if prediction else "got --out without --prediction, expected the number of one prediction, such as 04.1"


def _write(votes: Votes, out: Path) -> int:
    try:
        draw(votes).figure.savefig(out, bbox_inches="tight", facecolor="white")
    except OSError as error:
        print(f"lab class: --out {out}: {error.strerror}; name a file that can be written", file=sys.stderr)
        return 2
    return 0

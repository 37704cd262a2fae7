"""The form of one notebook: everything that the bounds are about, counted."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lab_support.notebook.moves.answer_files import SOLUTIONS
from lab_support.notebook.moves.asked import number_of
from lab_support.notebook.publishing.estimate import doing, reading
from lab_support.notebook.publishing.sections import is_blank, is_exercise, sections, words_of
from tests.notebook_form import giveaways
from tests.notebook_form.questions import Asked, asked_in
from tests.notebook_form.verdicts import claims_of_verdicts

_VERDICT = re.compile(r"""^lab\.verdict\(\s*["']([^"']+)["']""", re.MULTILINE)
_CLAIM = re.compile(r"\blab\.claim\(")
_AGAIN = re.compile(r"^lab\.again\(", re.MULTILINE)


@dataclass(frozen=True)
class Loop:
    """A section with a prediction, before the exercises. told: what gives an outcome away, each with its cell."""

    heading: str
    predictions: int
    claims: int
    blanks: int
    told: tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """The committed notebook at `path`, and its verdicts in the folder `solutions`."""

    path: Path
    solutions: Path = SOLUTIONS

    @cached_property
    def notebook(self) -> NotebookNode:
        return nbformat.read(self.path, as_version=4)

    @property
    def number(self) -> str:
        return number_of(self.path)

    @property
    def is_appendix(self) -> bool:
        return self.number[2:] != ""

    @property
    def cells(self) -> int:
        return len(self.notebook.cells)

    @property
    def words(self) -> int:
        return sum(map(words_of, self.notebook.cells))

    @property
    def largest(self) -> int:
        """Lines of the longest code cell."""
        return max((cell.source.count("\n") + 1 for cell in self._code if cell.source), default=0)

    @property
    def variants(self) -> int:
        return sum(len(_AGAIN.findall(cell.source)) for cell in self._code)

    @property
    def _code(self) -> list[NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @cached_property
    def asked(self) -> list[Asked]:
        return asked_in(self.notebook.cells)

    @cached_property
    def gaps(self) -> list[float]:
        """Minutes without a piece of code that the reader writes: before the first, between two, after the last."""
        found, running = [0.0], self.notebook.metadata.get("course", {}).get("seconds", {})
        for section in sections(self.notebook):
            found[-1] += running.get(section.heading, 0) / 60
            for cell in section.cells:
                found[-1] += reading(cell)
                if is_blank(cell) or is_exercise(cell):
                    found.append(0.0)
                else:
                    found[-1] += doing(cell)
        return found

    @cached_property
    def loops(self) -> list[Loop]:
        return [loop for section in self._before_the_exercises() if (loop := self._loop(*section)).predictions]

    def _before_the_exercises(self) -> Iterator[tuple[str, list[tuple[int, NotebookNode]]]]:
        """Sections, each with its cells and their places."""
        place = 0
        for section in sections(self.notebook):
            if section.heading == "Your turn" or any(map(is_exercise, section.cells)):
                return
            yield section.heading, list(enumerate(section.cells, place))
            place += len(section.cells)

    def _loop(self, heading: str, cells: list[tuple[int, NotebookNode]]) -> Loop:
        only = [cell for _, cell in cells]
        return Loop(
            heading,
            len(asked_in(only)),
            sum(map(self._claims_of, only)),
            sum(map(is_blank, only)),
            tuple(giveaways.in_loop(cells)),
        )

    def _claims_of(self, cell: NotebookNode) -> int:
        if cell.cell_type != "code":
            return 0
        judged = sum(self._in_verdicts.get(number, 0) for number in _VERDICT.findall(cell.source))
        return len(_CLAIM.findall(cell.source)) + judged

    @cached_property
    def _in_verdicts(self) -> dict[str, int]:
        return claims_of_verdicts(self.solutions / f"{self.number}_verdicts.py")

    @property
    def told(self) -> list[str]:
        """Everything that gives away the outcome of a prediction above it."""
        in_text = giveaways.in_text(list(enumerate(self.notebook.cells)))
        return [*(each for loop in self.loops for each in loop.told), *in_text]

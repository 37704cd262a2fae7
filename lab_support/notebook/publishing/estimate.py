"""The minutes of each section, by a rule: an estimate, for one reader alone, for a class, and for a demo.

Alone:  1 minute for a prediction or a variant of one (`lab.again`), 3 for a cell with blanks, 12 for an exercise; all
        other words, of the text and of code that is not folded away, at 200 a minute; the run time of the cells.
Class:  half of the minutes for words, because the instructor says them; the run time; and the predictions, blanks and
        exercises with the tag `class`: two predictions, one blank and one exercise in a notebook. A prediction takes 5
        minutes, because a class votes, talks with its neighbours, and votes again.
Demo:   the cells with the tag `demo` alone, as one reader would take them, and the run time of sections in which such a
        cell runs.

Each section gets whole minutes, alone at least one. The build keeps the run times, in tens of seconds (run_times.py).
Time to look at figures and to talk about them is not in it.
"""

from dataclasses import asdict, dataclass

from nbformat import NotebookNode

from lab_support.notebook.publishing.sections import (
    Section,
    code_words_of,
    has_tag,
    is_blank,
    is_exercise,
    questions_of,
    sections,
    words_of,
)

WORDS_IN_A_MINUTE = 200
PREDICTION, BLANK, EXERCISE = 1, 3, 12
VOTE = 5
"""Minutes of a prediction in a class."""


@dataclass(frozen=True, slots=True)
class Minutes:
    """Whole minutes of a section, or of a notebook."""

    alone: int
    in_class: int
    demo: int

    @property
    def as_metadata(self) -> dict[str, int]:
        """As a cell's metadata has them."""
        return {name.removeprefix("in_"): value for name, value in asdict(self).items()}


def reading(cell: NotebookNode) -> float:
    """Minutes that the words of a cell take one reader, unless they are part of what the reader does there."""
    return 0 if doing(cell) else (words_of(cell) + code_words_of(cell)) / WORDS_IN_A_MINUTE


def doing(cell: NotebookNode, prediction: int = PREDICTION) -> int:
    """Minutes that readers work at a cell: predict, fill in, or solve. prediction: the minutes of one."""
    if is_exercise(cell):
        return EXERCISE
    return BLANK if is_blank(cell) else prediction * questions_of(cell)


def of_section(section: Section, seconds: float = 0) -> Minutes:
    """seconds: the run time of its cells."""
    running = seconds / 60
    in_demo = [cell for cell in section.cells if has_tag(cell, "demo")]
    alone = sum(reading(cell) + doing(cell) for cell in section.cells) + running
    in_class = sum(reading(cell) / 2 + doing(cell, VOTE) * has_tag(cell, "class") for cell in section.cells) + running
    demo = sum(reading(cell) + doing(cell) for cell in in_demo) + running * any(map(_runs, in_demo))
    return Minutes(max(1, _whole(alone)), _whole(in_class), _whole(demo))


def _runs(cell: NotebookNode) -> bool:
    return cell.cell_type == "code"


def _whole(minutes: float) -> int:
    return int(minutes + 0.5)


def of_sections(notebook: NotebookNode) -> list[tuple[Section, Minutes]]:
    """Each section of a notebook with its minutes."""
    seconds = notebook.metadata.get("course", {}).get("seconds", {})
    return [(each, of_section(each, seconds.get(each.heading, 0))) for each in sections(notebook)]


def together(minutes: list[Minutes]) -> Minutes:
    """The sum for a whole notebook."""
    return Minutes(*(sum(getattr(each, name) for each in minutes) for name in ("alone", "in_class", "demo")))

"""The predictions, blanks, exercises and quiz questions of a notebook, found in its source. Runs nothing."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from lab_support.notebook.moves import quiz_data
from lab_support.notebook.page.committed import find

_CALLS = re.compile(r"""^lab\.(predict|check|quiz)\(\s*["']([\w.]+)["']""", re.MULTILINE)
_BLANKS = re.compile(r"^%%python_process .*--blank ([\w.]+)")
_NUMBER = re.compile(r"\d\d[a-z]?")


@dataclass(frozen=True, slots=True)
class Asked:
    """The names by kind, as the reader's record has them, in the order of the notebook."""

    prediction: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    quiz: tuple[str, ...] = ()

    def names(self, kind: str) -> tuple[str, ...]:
        """The names of one of the record's kinds; () for a kind that no notebook asks for, such as claims."""
        return getattr(self, kind, ())


def asked_in(number: str) -> Asked:
    """The names asked by the notebook with exactly this number, "04" or "04a"; empty if there is none."""
    paths = [path for path in find([number] if number else []) if number_of(path) == number]
    return _asked_in(paths[0]) if paths else Asked()


def number_of(notebook: Path) -> str:
    """`04a` of 04a_what_else_happens_at_the_door.ipynb."""
    found = _NUMBER.match(notebook.name)
    return found[0] if found else ""


def _asked_in(path: Path) -> Asked:
    # As JSON, because `import nbformat` takes over a second: it compiles grammars for checks of URLs.
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    calls = [found for source in sources for found in _CALLS.findall(source)]
    blanks = [name for source in sources for name in _BLANKS.findall(source)]
    names = {kind: tuple(dict.fromkeys(name for call, name in calls if call == kind)) for kind in ("predict", "check")}
    quizzes = [name for call, name in calls if call == "quiz"]
    return Asked(
        names["predict"], (*blanks, *names["check"]), tuple(one for name in quizzes for one in _questions(name))
    )


def _questions(quiz: str) -> list[str]:
    try:
        return [f"{quiz}.{index}" for index in range(1, len(quiz_data.read(quiz)) + 1)]
    except LookupError:
        return []

"""`lab.hint`, `lab.reveal`: helping with an exercise or a blank, and showing its solution. Run in the kernel."""

from difflib import SequenceMatcher

from lab_support.notebook.moves.blanks import BLANK_NAME, Blank, blank
from lab_support.notebook.moves.checks import keep, standing
from lab_support.notebook.moves.exercises import Exercise, exercise
from lab_support.notebook.page.views import View, escaped, highlighted


def _task(name: str) -> Exercise | Blank:
    return blank(name) if BLANK_NAME.fullmatch(name) else exercise(name)


def hint(name: str) -> View:
    """The next hint for the exercise or blank `name`; after the last, the last again."""
    task = _task(name)
    number = min(standing(name).get("hints", 0) + 1, len(task.hints))
    keep(name, hints=number)
    head = f"Hint {number} of {len(task.hints)} for {name}"
    more = "" if number < len(task.hints) else f'There is no further hint: `lab.reveal("{name}")` shows a solution.'
    text = "\n".join(filter(None, (f"{head}: {task.hints[number - 1]}", more)))
    html = "".join(f"<div>{escaped(line)}</div>" for line in text.splitlines())
    return View(text, html)


def reveal(name: str, anyway: bool = False) -> View:
    """A solution of the exercise or blank `name`, folded. It is refused before an attempt, unless `anyway`."""
    task = _task(name)
    if not anyway and "state" not in standing(name):
        text = (
            f'{name} has not been checked yet. Try it first: {task.task}\nIf you are stuck: `lab.hint("{name}")`. '
            f'To see the solution all the same: `lab.reveal("{name}", anyway=True)`.'
        )
        return View(text, "".join(f"<div>{escaped(line)}</div>" for line in text.splitlines()))
    keep(name, revealed=True)
    return _solution(task)


def _solution(task: Exercise | Blank) -> View:
    titles = [f"A solution of {task.name}", *("Another one" for _ in task.also_right)]
    parts = list(zip(titles, (task.reference, *task.also_right), strict=True))
    text = "\n\n".join(f"{title}:\n\n{source.strip()}" for title, source in parts)
    html = "".join(
        f"<details{' open' if not index else ''}><summary>{title}</summary>"
        f"{highlighted(source.strip(), _new_lines(task.skeleton, source))}</details>"
        for index, (title, source) in enumerate(parts)
    )
    return View(text, html)


def _new_lines(skeleton: str, source: str) -> list[int]:
    """The lines of `source`, from 1, that the reader's cell did not have; none if nearly all are new."""
    before, after = skeleton.strip().splitlines(), source.strip().splitlines()
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    new = [line for kind, _, _, start, end in blocks if kind != "equal" for line in range(start + 1, end + 1)]
    return new if len(new) < 0.7 * len(after) else []

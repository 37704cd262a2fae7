"""The reader's `my_server.py`, and the cells that it was made of, as files. Runs in the kernel.

`my_server.py` is beside the reader's notebooks. The cells are kept in .lab/my_server/, beside the record, because a
later step replaces functions in the file. Batch runs have no reader: nothing is read or written then.
"""

import os
from collections.abc import Collection
from pathlib import Path

from lab_support.notebook.page import record
from lab_support.notebook.page.committed import NOTEBOOKS

VARIABLE = "LAB_MY_SERVER"
"""Names another file than `my_server.py`."""
STEPS = 5
REFERENCES = "the reference's"
"""Whose a step is, in its heading, if the reader has not got it."""
REFERENCE = NOTEBOOKS / "solutions" / "my_server.py"
"""The finished server of the five reference steps; a test says that it is their composition."""


def heading(step: int, whose: str = "") -> str:
    """The title of a step's section in the file."""
    return f"step {step}" + (f", {whose}" if whose else "")


def path() -> Path:
    """The reader's file, whether it exists or not; never among the committed notebooks."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    here = Path.cwd()
    return (NOTEBOOKS.parent / "workspace" if here == NOTEBOOKS else here) / "my_server.py"


def kept_step(step: int) -> str | None:
    """The reader's cell of that step, which passed its check; None if there is none."""
    file = _folder() / f"step_{step}.py"
    return None if record.in_batch() or not file.is_file() else file.read_text(encoding="utf-8", errors="replace")


def keep_step(step: int, source: str) -> None:
    """Keep the reader's cell. Raises `OSError`."""
    _folder().mkdir(parents=True, exist_ok=True)
    (_folder() / f"step_{step}.py").write_text(source, encoding="utf-8")


def set_steps_aside(steps: Collection[int]) -> Path | None:
    """Forget the reader's cells of these steps. Returns the folder that keeps them; None if there were none.

    The reader's file stays. Raises `OSError`.
    """
    kept = [file for step in steps if (file := _folder() / f"step_{step}.py").is_file()]
    if not kept:
        return None
    number = 1
    while (aside := _folder().with_name(f"{_folder().name}.before-reset-{number}")).exists():
        number += 1
    aside.mkdir()
    for file in kept:
        file.rename(aside / file.name)
    return aside


def write(text: str) -> Path | None:
    """Make `text` the reader's file. Returns where the file is that the reader had changed by hand, if so.

    Raises `OSError`.
    """
    file, last = path(), _folder() / "last_written.py"
    aside = _set_aside(file) if _changed_by_hand(file, last, text) else None
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    last.parent.mkdir(parents=True, exist_ok=True)
    last.write_text(text, encoding="utf-8")
    return aside


def why_unfinished(text: str) -> str:
    """Why `text` is no finished server; "" if it has the last step, or was not made by the cells."""
    there = [step for step in range(1, STEPS + 1) if f"# ---- {heading(step)} " in text or f"{heading(step)}," in text]
    return f"yours has not come to step {STEPS} yet" if there and STEPS not in there else ""


def steps_of_reference(text: str) -> list[int]:
    """The steps whose section in `text` is labelled as the reference's."""
    return [step for step in range(1, STEPS + 1) if f"# ---- {heading(step, REFERENCES)} " in text]


def _folder() -> Path:
    return record.path().parent / "my_server"


def _changed_by_hand(file: Path, last: Path, text: str) -> bool:
    if not file.is_file():
        return False
    now = file.read_bytes()
    return now != text.encode() and not (last.is_file() and now == last.read_bytes())


def _set_aside(file: Path) -> Path:
    number = 1
    while (aside := file.with_name(f"{file.stem}.before-{number}.py")).exists():
        number += 1
    return file.rename(aside)

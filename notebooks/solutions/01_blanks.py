"""The blanks of notebook 01."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed, stopped_by

# ---- one file, two readers

SAME = "the child still reads through the open file description that it shares with its parent"
EMPTIED = "the mode with `w` empties the file as it is opened, so neither has anything to read"


def judge_opened_again(result: ProcessResult) -> Verdict:
    child, parent = (result.events[-1].fields[who] for who in ("child", "parent"))
    if "Error" in child:
        return stopped_by(child)
    measured = f"the child read {child!r}, then the parent {parent!r}"
    if (child, parent) == ("0123", "012"):
        return passed(measured)
    cause = SAME if child else EMPTIED
    return failed(measured, "the child reads '0123', and then the parent '012'", cause)


OPENED_AGAIN = Blank(
    name="01.b1",
    cell="opened_again",
    task="let the child open the file itself, by its name",
    right=(
        ('open(file.name, "rb")',),
        ("io.FileIO(file.name)",),
        ('os.fdopen(os.open(file.name, os.O_RDONLY), "rb")',),
    ),
    wrong=(
        WrongFilling(SAME, ("file",)),
        WrongFilling(SAME, ('open(file.fileno(), "rb", closefd=False)',)),
        WrongFilling(SAME, ('os.fdopen(os.dup(file.fileno()), "rb")',)),
        WrongFilling(EMPTIED, ('open(file.name, "w+b")',)),
    ),
    hints=(
        "Which call makes a new open file description? Neither `fork` nor `dup` does.",
        "`open` makes one, if you give it a name. Given a number, it makes only a new Python object.",
        "The name is in `file.name`, and the child needs to read bytes only: mode `rb`.",
    ),
    judge=judge_opened_again,
)

BLANKS = (OPENED_AGAIN,)

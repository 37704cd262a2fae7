"""The blank of appendix 02a."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed

IN_THE_CHILD_TOO = "it is true in the child as well, so the child tries to start a child, and stops before its work"
IN_NOBODY = "it is false in the program itself, so nobody starts a child"


def judge_guarded(result: ProcessResult) -> Verdict:
    children, worked = len(result.spawned), sum("worked" in event.fields for event in result.events)
    measured = f"children started: {children}; the work was done {worked} times"
    if (children, worked) == (1, 1):
        return passed(measured)
    return failed(measured, "one child, which does the work once", IN_THE_CHILD_TOO if children else IN_NOBODY)


BLANKS = (
    Blank(
        name="02a.b1",
        cell="guarded",
        task="write the guard: true in the program, and false when a child runs the script again",
        right=(
            ('__name__ == "__main__"',),
            ('__name__ != "__mp_main__"',),
            ('multiprocessing.current_process().name == "MainProcess"',),
        ),
        wrong=(
            WrongFilling(IN_THE_CHILD_TOO, ("True",)),
            WrongFilling(IN_THE_CHILD_TOO, ("multiprocessing.parent_process() is None",)),
            WrongFilling(IN_NOBODY, ('__name__ == "__mp_main__"',)),
            WrongFilling(IN_NOBODY, ('multiprocessing.current_process().name == "Process-1"',)),
        ),
        hints=(
            "The script runs twice. By what does it find out for which of the two it runs?",
            "Python gives the script a name: `__main__` in the program, `__mp_main__` in a spawned child.",
            "Compare `__name__` with the name that the program has.",
        ),
        judge=judge_guarded,
    ),
)

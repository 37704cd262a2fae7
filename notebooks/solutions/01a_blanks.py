"""The blanks of the appendix 01a."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed, stopped_by

# ---- random numbers

ALL_ALIKE = "all workers have the same seed, so all draw the same; the worker's number has to be part of it"
NEVER_AGAIN = (
    "the seed is another one in each run, so nobody can repeat it; let it depend on 7 and the worker's number alone"
)


def judge_seeded(result: ProcessResult) -> Verdict:
    first, second = (fields["drawn"] for fields in result.by("run").values())
    if errors := [number for number in first if isinstance(number, str)]:
        return stopped_by(errors[0])
    measured = f"first run {_in_words(first)}, second run {_in_words(second)}"
    expected = "three different numbers, and the same three in the second run"
    if len(set(first)) < 3:
        return failed(measured, expected, ALL_ALIKE)
    return passed(measured) if first == second else failed(measured, expected, NEVER_AGAIN)


def _in_words(numbers: list[float]) -> str:
    return " ".join(f"{number:.3f}" for number in numbers)


SEEDED = Blank(
    name="01a.b1",
    cell="seeded",
    task="give each worker a seed of its own that is the same in each run",
    right=(("[7, worker]",), ("7 + worker",), ("numpy.random.SeedSequence(7, spawn_key=(worker,))",)),
    wrong=(
        WrongFilling(ALL_ALIKE, ("7",)),
        WrongFilling(ALL_ALIKE, ("[7, 7, 7]",)),
        WrongFilling(NEVER_AGAIN, ("None",)),
        WrongFilling(NEVER_AGAIN, ('[7, worker, __import__("os").getpid()]',)),
    ),
    hints=(
        "What is different in each of the three workers, and the same in each run?",
        "A worker knows its number. A seed may be a list of numbers.",
        "`[7, …]`, with the worker's number.",
    ),
    judge=judge_seeded,
)

# ---- how a child ends

FAREWELL = "the child ends as a program of Python ends, and writes what lies in its copy of the buffer"
GOES_ON = "the child does not end there: it goes on with its parent's lines"


def judge_farewell(result: ProcessResult) -> Verdict:
    written = result.output.count("written once or twice?")
    measured = f"the line was written {written} time{'s' if written != 1 else ''}"
    if written == 1:
        return passed(measured)
    went_on = "ChildProcessError" in result.output_of("P1", "err")
    return failed(measured, "it is written once", GOES_ON if went_on else FAREWELL)


END = Blank(
    name="01a.b2",
    cell="farewell",
    task="end the child without its parent's farewell",
    right=(
        ("os._exit(0)",),
        ("os.kill(os.getpid(), signal.SIGKILL)",),
        ('os.execvp("true", ["true"])',),
    ),
    wrong=(
        WrongFilling(FAREWELL, ("raise SystemExit",)),
        WrongFilling(FAREWELL, ("exit(0)",)),
        WrongFilling(GOES_ON, ("pass",)),
    ),
    hints=(
        "`sys.exit` raises an exception, and the program ends in the usual way. Which call of `os` ends the process?",
        "Its name begins with an underscore.",
        "`os._exit`, with an exit code.",
    ),
    judge=judge_farewell,
)

BLANKS = (SEEDED, END)

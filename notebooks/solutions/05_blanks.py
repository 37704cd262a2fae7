"""The blanks of notebook 05."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import (
    Blank,
    Verdict,
    WrongFilling,
    could_not_be_measured,
    failed,
    passed,
    stopped_by,
)
from lab_support.notebook.stages.shared_memory import GONE

# ---- 05.b1: a question that bars nobody ------------------------------------------------------------------------------

BARRED = "the question was a first call of the launcher's own, so every worker that it forks later finds the flag set"
NOT_ASKED = "nobody called is_available(), so the launcher does not know whether there is a GPU"
BARRED_BY_THREAD = (
    "a thread shares the launcher's memory, so this was the launcher's call, and every worker that it forks later "
    "finds the flag set"
)
ANSWER_LOST = "the question was asked, but its answer did not come back to the launcher"


def judge_asked(result: ProcessResult) -> Verdict:
    last = result.told
    if last["missing"]:
        return could_not_be_measured(f"the guard can't be driven here: {last['missing']}")
    asked = [event.fields for event in result.events if "asked" in event.fields]
    in_thread = any(not each["by_main_thread"] for each in asked)
    measured = f"the launcher found {last['found']!r}; its worker is {'refused' if last['refused'] else 'not refused'}"
    expected = "the launcher finds True, and its worker is not refused"
    findings = (
        (not asked, NOT_ASKED),
        (last["refused"], BARRED_BY_THREAD if in_thread else BARRED),
        (last["found"] != "True", ANSWER_LOST),
    )
    if cause := next((cause for found, cause in findings if found), ""):
        return failed(measured, expected, cause)
    return passed(measured)


ASKED = Blank(
    name="05.b1",
    cell="asked",
    task="let the question be asked so that the launcher's workers may still use the GPU",
    right=(
        ("in_child(is_available)",),
        ("in_child(lambda: is_available())",),
        ('multiprocessing.get_context("fork").Pool(1).apply(is_available)',),
    ),
    wrong=(
        WrongFilling(BARRED, ("is_available()",)),
        WrongFilling(BARRED_BY_THREAD, ("multiprocessing.pool.ThreadPool(1).apply(is_available)",)),
        WrongFilling(NOT_ASKED, ("True",)),
        WrongFilling(ANSWER_LOST, ('multiprocessing.get_context("fork").Process(target=is_available).start()',)),
    ),
    hints=(
        "In whose memory does the C library keep the handler that sets the flag?",
        "A process that ends takes its memory with it, and the handler. `in_child` returns the result of its function.",
        "`in_child(is_available)`",
    ),
    judge=judge_asked,
)

# ---- 05.b2: a driver that starts anew --------------------------------------------------------------------------------

STUCK = "the child still has its parent's driver, which says that it was started and has no thread"
REFUSED = "the child's driver refuses: here the child is to use it, with a handle of its own"

CALLED_AT_ONCE = "with parentheses it is called at once, in the parent; give the function itself, without calling it"


def judge_anew(result: ProcessResult) -> Verdict:
    if "must be callable" in (said := result.output_of("P0", "err")):
        return failed(said.strip().splitlines()[-1], "a function as the hook", CALLED_AT_ONCE)
    told = result.events[-1].fields
    measured = f"the child: {told['child']}; the parent: {told['parent']}"
    expected = "the child stores 8 and loads it, and the parent still loads its 7"
    if (told["child"], told["parent"]) == (8, 7):
        return passed(measured)
    if told["child"] == "stuck":
        return failed(measured, expected, STUCK)
    if "not to be used in this process" in str(told["child"]):
        return failed(measured, expected, REFUSED)
    if isinstance(told["child"], str):
        return stopped_by(told["child"])
    return failed(measured, expected, "one of the two values was lost or changed on the way")


ANEW = Blank(
    name="05.b2",
    cell="anew",
    task="let a forked child use the driver, with a handle of its own",
    right=(("driver.forget",), ("lambda: driver.forget()",), ("driver._start",)),
    wrong=(
        WrongFilling(CALLED_AT_ONCE, ("driver.forget()",)),
        WrongFilling(REFUSED, ("driver.refuse",)),
        WrongFilling(STUCK, ("lambda: driver.forget",)),
        WrongFilling(STUCK, ("lambda: driver.store(0)",)),
        WrongFilling(STUCK, ("os.getpid",)),
    ),
    hints=(
        "What in the copied memory makes the child believe that the driver was started?",
        "A hook is a function, which `fork` calls in the child. One method of the driver returns to the state before "
        "the first use.",
        "`driver.forget`, without parentheses: it is to be called later, in the child.",
    ),
    judge=judge_anew,
)

# ---- 05.b3: multiplication without the pool --------------------------------------------------------------------------

POOL = "PyTorch still gives a share of the work to a thread of its pool, and the child has no such thread"


def judge_alone(result: ProcessResult) -> Verdict:
    alone: Any = result.events[-1].fields["gets"]
    measured = f"the child gets {alone}"
    if alone == 700:
        return passed(measured)
    if alone == "stuck":
        return failed(f"{measured}: it had not come back after 5 s", "the child gets 700.0", POOL)
    if isinstance(alone, str):
        return stopped_by(alone)
    return failed(measured, "the child gets 700.0", "the product is another one than the parent's")


ALONE = Blank(
    name="05.b3",
    cell="multiply",
    task="tell PyTorch, in the second child, to compute with one thread",
    right=(
        ("torch.set_num_threads(1)",),
        ('torch.set_num_threads(len(os.listdir("/proc/self/task")))',),
        ("setter = torch.set_num_threads; setter(1)",),
    ),
    wrong=(
        WrongFilling(POOL, ('os.environ["OMP_NUM_THREADS"] = "1"',)),
        WrongFilling(POOL, ("torch.set_num_threads(2)",)),
        WrongFilling(POOL, ("torch.get_num_threads()",)),
    ),
    hints=(
        "The table's third column comes from `torch.get_num_threads()`. What sets that number?",
        "libgomp reads its variable of the environment once, when it starts. So a call is needed, in the child.",
        "`torch.set_num_threads(1)`",
    ),
    judge=judge_alone,
)

# ---- 05.b4: a child that lets go -------------------------------------------------------------------------------------

HELD = "the child still has a descriptor of the memory, and that holds it after its owner's end"
ENDED = "the child ended; it is to live on, without the descriptor"
A_NUMBER = "`memory` is a number: use the function of `os` that closes one"
TAKEN = "the memory was taken from its owner as well: only the child is to let go of it"


def judge_lets_go(result: ProcessResult) -> Verdict:
    told = result.by("child")["lets_go"]
    expected = "about 268 while the owner lives, and about 0 once it is killed"
    if error := told["said"][0]:
        return _stopped(error, expected)
    owned, killed = (step["seen"][-1][1] - told["before"] for step in told["steps"][:2])
    half = 128 << 20
    mb = [round(used / 1e6) for used in (owned, killed)]
    measured = f"MB in use while the owner lives: {mb[0]}; after kill -9, the child alive: {mb[1]}"
    if told["steps"][1]["descriptor"]:
        return failed(measured, expected, HELD)
    if owned < half:
        return failed(measured, expected, TAKEN)
    return failed(measured, expected, HELD) if killed > half else passed(measured)


def _stopped(error: str, expected: str) -> Verdict:
    if error == GONE or error.startswith("SystemExit"):
        return failed(f"in place of the child's report: {error}", expected, ENDED)
    if "'int' object has no attribute" in error:
        return failed(error, expected, A_NUMBER)
    return stopped_by(error)


LETS_GO = Blank(
    name="05.b4",
    cell="orphan",
    task="let the second child close its descriptor of the memory before it sleeps",
    right=(("os.close(memory)",), ("os.closerange(memory, memory + 1)",), ('open(memory, "rb").close()',)),
    wrong=(
        WrongFilling(ENDED, ("os._exit(0)",)),
        WrongFilling(ENDED, ("exit()",)),
        WrongFilling(A_NUMBER, ("memory.close()",)),
        WrongFilling(HELD, ("del memory",)),
        WrongFilling(HELD, ("os.set_inheritable(memory, False)",)),
        WrongFilling(HELD, ("os.close(os.dup(memory))",)),
        WrongFilling(TAKEN, ("os.ftruncate(memory, 0); os.close(memory)",)),
    ),
    hints=(
        "`memory` is a number. Which table of the child's does it point into?",
        "A copied entry of that table is the child's own. Taking it out leaves the owner's entry alone.",
        "`os.close(memory)`",
    ),
    judge=judge_lets_go,
)

BLANKS = (ASKED, ANEW, ALONE, LETS_GO)

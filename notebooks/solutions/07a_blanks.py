"""The blanks of appendix 07a."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Verdict, WrongFilling, failed, passed
from lab_support.notebook.moves.steps import Step
from lab_support.plural import counted

# ---- the reader's server, steps 4 and 5 ------------------------------------------------------------------------------

ALL, FEW_STEPS, MOST_SERVED_APART = 8, 1000, 4
NEVER_READY = "the server has not said READY"
WAITS = "the engine core waited for a message while rows waited for their next token"
SPINS = "the engine core never sleeps, even with nothing to compute: then it has to wait for a message"
NO_END = "the tokens came, but no end: the API server takes the last message for another token"
APART = "the clients were not computed together"
GOES_ON = "the engine core went on computing for a client that is gone: it has to be told"
ORPHANS = "processes outlive the launcher: an exception ends the thread that raises it, and not the process"
UNSEEN = "the launcher did not notice that a child has died: it has to wait for every sentinel"
OTHERWISE = "the clients did not get their own tokens"


def judge_step_4(result: ProcessResult) -> Verdict:
    told = result.told["measured"]
    idle = "sleeps" if told["sleeps"] else "spins"
    measured = (
        f"{told['own']} of {ALL} clients got their own tokens and an end; {told['begun']} had their first token before "
        f"anyone had the last; up to {told['rows']} rows in a step; idle, the engine core {idle}"
    )
    expected = f"all {ALL} with their tokens and an end, beginning together; several rows in a step; idle, it sleeps"
    if not told["ready"]:
        return failed("no READY line", expected, NEVER_READY)
    if not told["some"]:
        return failed(measured, expected, WAITS)
    if told["all_tokens"] > told["ended"]:
        return failed(measured, expected, NO_END)
    if not told["sleeps"]:
        return failed(measured, expected, SPINS)
    if told["own"] < ALL:
        return failed(measured, expected, OTHERWISE)
    together = told["rows"] > MOST_SERVED_APART and told["begun"] > MOST_SERVED_APART
    return passed(measured) if together else failed(measured, expected, APART)


def judge_step_5(result: ProcessResult) -> Verdict:
    told = result.told["measured"]
    left = {role: ", ".join(death["left"]) for role, death in told["deaths"].items() if not death["ended"]}
    survivors = "; ".join(f"after {role}'s death: {names}" for role, names in left.items()) or "nothing"
    measured = f"{counted(told['steps_after_hang_up'], 'step')} after a client hung up; left running: {survivors}"
    expected = "a few steps after a client hung up; left running: nothing"
    if not told["ready"]:
        return failed("no READY line", expected, NEVER_READY)
    if told["steps_after_hang_up"] > FEW_STEPS:
        return failed(measured, expected, GOES_ON)
    if "launcher" in left:
        return failed(measured, expected, ORPHANS)
    if left or not all(death["named"] for role, death in told["deaths"].items() if role != "launcher"):
        return failed(measured, expected, UNSEEN)
    return passed(measured) if told.get("own") == ALL else failed(measured, expected, OTHERWISE)


_ABORT, _EXIT, _ENDS = 'engine.send(b"")', "os._exit(1)", "ends"

BLANKS = (
    Step(
        name="07a.s4",
        number=4,
        cell="step_4",
        task="say when the engine core may wait for a message, and by what an API server knows the end of an answer",
        right=(("not batch", 'b""'), ("len(batch) == 0", "bytes()")),
        wrong=(
            WrongFilling(WAITS, ("batch", 'b""')),
            WrongFilling(WAITS, ("True", 'b""')),
            WrongFilling(SPINS, ("False", 'b""')),
            WrongFilling(NO_END, ("not batch", "None")),
        ),
        hints=(
            "When would a blocking call to `recv_multipart` keep nobody waiting? And what follows the last token?",
            "An empty batch is false. `iter(call, end)` calls until the result is `end`; an empty message is bytes.",
            '`not batch` and `b""`.',
        ),
        judge=judge_step_4,
    ),
    Step(
        name="07a.s5",
        number=5,
        cell="step_5",
        task="tell the engine core of a hang-up, end the process with the launcher, and wait for every child's end",
        right=((_ABORT, _EXIT, _ENDS), ('engine.send_multipart([b""])', "os.kill(os.getpid(), 9)", "[*ends]")),
        wrong=(
            WrongFilling(GOES_ON, ("pass", _EXIT, _ENDS)),
            WrongFilling(GOES_ON, ("engine.close()", _EXIT, _ENDS)),
            WrongFilling(ORPHANS, (_ABORT, "raise SystemExit(1)", _ENDS)),
            WrongFilling(UNSEEN, (_ABORT, _EXIT, "[children[0].sentinel]")),
        ),
        hints=(
            "An empty message from a client ends its row. Which call ends a process from any of its threads?",
            "`sys.exit` raises an exception, and only in its own thread; `os._exit` doesn't. `ends` has all sentinels.",
            '`engine.send(b"")`, `os._exit(1)` and `ends`.',
        ),
        judge=judge_step_5,
    ),
)

"""The blanks of notebook 09: two precautions against a parent's death, and a wait for all children."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed, stopped_by

# ---- 09.b1: two precautions ------------------------------------------------------------------------------------------

PLAIN, EARLY, THREAD, SIBLING, STOPPED, IN_C = (
    "the parent is killed",
    "the parent is killed before the precaution is taken",
    "the thread that made the worker ends",
    "the parent has forked a sibling, and is killed",
    "the worker is stopped, and the parent is killed",
    "the worker is in C code that holds Python's lock, and the parent is killed",
)
ENDS, LIVES_ON, TOO_EARLY = "it ends", "it lives on", "it dies, and its parent lives"
NO_SIGNAL = (
    "the worker outlives its parent with `the_signal`: prctl takes the option first, and then the signal that the "
    "kernel is to send"
)
CAN_WAIT = (
    "a stopped worker gets that signal only when it goes on: the kernel ends it at once with SIGKILL alone, which "
    "nothing can stop or block"
)
HARMLESS = "that signal does not end a process: take one that nothing can block"
NO_END = (
    "the worker outlives its parent with `the_pipe`: its thread has to wait until the pipe is at its end, and a read "
    "returns there"
)
AT_ONCE = "with `the_pipe` the worker ends while its parent lives: nothing in that line waits for the pipe's end"
ASKS_FOR_PARENT = (
    "`the_pipe` does not wait for the pipe: its worker ends with its parent even where a sibling has the write end, so "
    "something asks for the parent itself"
)
OTHERWISE = "the two precautions do not do what they can: the signal by the kernel, the pipe by its end"

_RIGHT = {
    "the_signal": {PLAIN: ENDS, EARLY: LIVES_ON, THREAD: TOO_EARLY, SIBLING: ENDS, STOPPED: ENDS, IN_C: ENDS},
    "the_pipe": {PLAIN: ENDS, EARLY: ENDS, THREAD: LIVES_ON, SIBLING: LIVES_ON, STOPPED: LIVES_ON, IN_C: LIVES_ON},
}


def judge_precautions(result: ProcessResult) -> Verdict:
    found = {(each.fields["precaution"], each.fields["event"]): each.fields for each in result.events}
    fates = {arm: {event: found[arm, event]["fate"] for event in _RIGHT[arm]} for arm in _RIGHT}
    measured, expected = (_in_words(each) for each in (fates, _RIGHT))
    signal, pipe = fates["the_signal"], fates["the_pipe"]
    by_kernel = found["the_signal", PLAIN]["how"] == "killed by SIGKILL"
    findings = (
        (fates == _RIGHT and by_kernel, ""),
        (pipe[THREAD] == TOO_EARLY, AT_ONCE),
        (pipe[PLAIN] != ENDS, NO_END),
        (signal[PLAIN] == ENDS and signal[STOPPED] == LIVES_ON, CAN_WAIT),
        (signal[PLAIN] != ENDS, NO_SIGNAL),
        (pipe[SIBLING] == ENDS, ASKS_FOR_PARENT),
        (True, OTHERWISE),
    )
    cause = next(cause for holds, cause in findings if holds)
    return failed(measured, expected, cause) if cause else passed(measured)


def _in_words(fates: dict[str, dict[str, str]]) -> str:
    """Of each precaution, in which events its worker ends."""
    ends = {
        arm: [str(place) for place, event in enumerate(each, 1) if each[event] != LIVES_ON]
        for arm, each in fates.items()
    }
    return "; ".join(f"{arm}: the worker ends in event {', '.join(places) or 'none'}" for arm, places in ends.items())


_PRCTL, _READ = "PR_SET_PDEATHSIG, signal.SIGKILL", "os.read(pipe, 1)"

# ---- 09.b2: a process that stands still ------------------------------------------------------------------------------

IT_ENDS = (
    "without a deadline the server noticed, too: that signal ends the process, and an end is reported; a process that "
    "stands still has not ended"
)
NOT_FOUND = (
    "with your deadline nobody noticed either: it has to be over while the stopped process is watched, which is for "
    "6 seconds, and 0 means that there is none"
)
NOT_STOPPED = "the process goes on working after that signal: there is one that stops any process"


def judge_stop(result: ProcessResult) -> Verdict:
    without, with_one = (each.fields for each in result.events)
    measured = f"without a deadline the server {without['server']}; with one of {with_one['deadline']:g} s it "
    measured += with_one["server"]
    expected = "without a deadline the server goes on; with one it ended"
    findings = (
        (without["server"] == "ended", IT_ENDS),
        ("still waiting" not in without["clients"], NOT_STOPPED),
        (with_one["server"] != "ended", NOT_FOUND),
    )
    cause = next((cause for found, cause in findings if found), "")
    return failed(measured, expected, cause) if cause else passed(measured)


# ---- 09.b3: wait for all ---------------------------------------------------------------------------------------------

CLEAN, KILLED, TWICE, THEN_ANOTHER, COORDINATOR, ONE_ASKED, ASKED = (
    "api-0 ends with exit code 0",
    "api-0 is killed",
    "api-0 is killed, and then its successor",
    "api-0 is killed, and then the coordinator",
    "the coordinator ends with exit code 0",
    "api-1 is asked to end, and api-0 is killed",
    "all are asked to end, and do",
)
AS_VLLM = (
    "an API server has ended with exit code 0, nobody has asked it to, and it has no successor: the exit code does not "
    "say whether somebody asked"
)
NOT_ASKED = "all were asked to end and did, and the function takes it for a failure: `asked` has the names"
DEAF = "a child has ended and the function did not notice: it has to wait for every sentinel, at the same time"
UNWATCHED = "the successor has ended too, and nobody noticed: its sentinel has to go into `ends` as well"
THE_DEAD = "it waits for the dead one again, whose sentinel is ready for ever: put the successor's there"
SILENT = "the coordinator has ended unasked, and the function goes on without it"
FORGETS = (
    "after api-0 was killed, the coordinator ended, and the function did not notice: while it waits for a successor, "
    "it has to wait for the others as well"
)
ANY_ASKED = (
    "api-1 was asked to end, api-0 was killed, and api-0 has no successor: ask whether the name of *this* child is in "
    "`asked`"
)


def judge_wait(result: ProcessResult) -> Verdict:
    told = {each.fields["ending"]: each.fields for each in result.events}
    if broken := next((each for each in told.values() if each["did"] == "fails"), None):
        return stopped_by(broken["said"])
    starts = {ending: told[ending]["starts"] for ending in (CLEAN, KILLED, TWICE, ONE_ASKED)}
    measured = (
        f"successors: {', '.join(map(str, starts.values()))}; without the coordinator it {told[COORDINATOR]['did']}, "
        f"and after a death {told[THEN_ANOTHER]['did']}; if all are asked to end, it {told[ASKED]['did']}"
    )
    expected = (
        "successors: 1, 1, 2, 1; without the coordinator it raises, and after a death raises; if all are asked to end, "
        "it returns"
    )
    cause = _cause(told)
    return failed(measured, expected, cause) if cause else passed(measured)


def _cause(told: dict[str, dict[str, Any]]) -> str:
    clean, killed, twice = told[CLEAN], told[KILLED], told[TWICE]
    stops = [told[ASKED]["did"], *(each["stopped"] for each in (clean, killed, twice))]
    findings = (
        (clean["starts"] > 1 or killed["starts"] > 1, THE_DEAD),
        (killed["starts"] == 0 and told[COORDINATOR]["did"] == "waits on", DEAF),
        (clean["starts"] == 0 and killed["starts"] == 1, AS_VLLM),
        (killed["starts"] == 0, DEAF),
        (twice["starts"] < 2, UNWATCHED),
        (told[COORDINATOR]["did"] != "raises", SILENT),
        (set(stops) != {"returns"}, NOT_ASKED),
        (told[THEN_ANOTHER]["did"] != "raises", FORGETS),
        (told[ONE_ASKED]["starts"] != 1, ANY_ASKED),
    )
    return next((cause for found, cause in findings if found), "")


_WAIT, _ASKED, _WATCHED = "ends", "child.name in asked", "ends[successor.sentinel] = successor"


BLANKS = (
    Blank(
        name="09.b1",
        cell="precautions",
        task="ask the kernel for a signal at the parent's death; and let a thread wait for the end of the pipe",
        right=(
            (_PRCTL, _READ),
            ("1, 9", "open(pipe, 'rb').read()"),
            ("PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0", "os.read(pipe, 4096)"),
        ),
        wrong=(
            WrongFilling(CAN_WAIT, ("PR_SET_PDEATHSIG, signal.SIGTERM", _READ)),
            WrongFilling(NO_SIGNAL, ("signal.SIGKILL, PR_SET_PDEATHSIG", _READ)),
            WrongFilling(NO_SIGNAL, ("PR_SET_PDEATHSIG, 0", _READ)),
            WrongFilling(AT_ONCE, (_PRCTL, "os.getppid()")),
            WrongFilling(NO_END, (_PRCTL, "os.waitpid(parent, 0)")),
            WrongFilling(NO_END, (_PRCTL, "signal.pause()")),
            WrongFilling(ASKS_FOR_PARENT, (_PRCTL, "while os.getppid() == parent: pass")),
        ),
        hints=(
            "prctl(2): the first argument says what is wanted, and the second one is a signal's number. Which signal "
            "ends even a stopped process?",
            "Nobody ever writes into the pipe. What does a read do while a writer lives, and when none does?",
            f"`{_PRCTL}`, and `{_READ}`.",
        ),
        judge=judge_precautions,
    ),
    Blank(
        name="09.b2",
        cell="stopped",
        task="stop the engine core without ending it, and choose a deadline that finds it in time",
        right=(("2", "signal.SIGSTOP"), ("1.5", "19"), ("2.5", "signal.Signals.SIGSTOP")),
        wrong=(
            WrongFilling(IT_ENDS, ("2", "signal.SIGKILL")),
            WrongFilling(NOT_FOUND, ("30", "signal.SIGSTOP")),
            WrongFilling(NOT_FOUND, ("0.0", "signal.SIGSTOP")),
        ),
        hints=(
            "signal(7) has two signals that no process can catch or ignore. One ends it. And the other?",
            "A child that has been silent for the deadline is given up half a second later. You watch for 6 seconds.",
            "`2`, and `signal.SIGSTOP`.",
        ),
        judge=judge_stop,
    ),
    Blank(
        name="09.b3",
        cell="mine",
        task="wait for every child at once; tell an end that was asked for; and watch the successor, too",
        right=(
            (_WAIT, _ASKED, _WATCHED),
            ("list(ends)", "asked and child.name in asked", "ends |= {successor.sentinel: successor}"),
            ("[*ends.keys()]", "{child.name} <= asked", "ends.update({successor.sentinel: successor})"),
        ),
        wrong=(
            WrongFilling(AS_VLLM, (_WAIT, "child.exitcode == 0", _WATCHED)),
            WrongFilling(NOT_ASKED, (_WAIT, "False", _WATCHED)),
            WrongFilling(UNWATCHED, (_WAIT, _ASKED, "children.append(successor)")),
            WrongFilling(THE_DEAD, (_WAIT, _ASKED, "ends[child.sentinel] = child")),
            WrongFilling(DEAF, ("[]", _ASKED, _WATCHED)),
            WrongFilling(ANY_ASKED, (_WAIT, "asked", _WATCHED)),
            WrongFilling(FORGETS, (_WAIT, _ASKED, "wait_for_completion_or_failure([successor], asked, start)")),
            WrongFilling(SILENT, ('[end for end in ends if ends[end].name.startswith("api-")]', _ASKED, _WATCHED)),
        ),
        hints=(
            "`connection.wait` takes any iterable of sentinels. Which of your variables has all of them?",
            "The exit code says how it ended, and `asked` says who was to end.",
            f"`{_WAIT}`, `{_ASKED}`, and `{_WATCHED}`.",
        ),
        judge=judge_wait,
    ),
)

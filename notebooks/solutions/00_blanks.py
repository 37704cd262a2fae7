"""The blanks of notebook 00."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed
from lab_support.plural import counted

# ---- b1 --------------------------------------------------------------------------------------------------------------

STILL_THERE = (
    "the process that holds this connection does not stand still: stop the one that has just answered, `first`"
)
GONE = "a process that has ended closes its connections, so the client gets an error; it is only to stand still"
BY_NAME = "`server.pids` is keyed by the process's name, such as `api-0`"


def judge_kept(result: ProcessResult) -> Verdict:
    expected = "TimeoutError on the same connection, and the other API server on a new one"
    if not result.events and "KeyError" in result.output:
        return failed("KeyError", expected, BY_NAME)
    told = result.events[-1].fields
    measured = f"first {told['first']}, then on the same connection {told['same']}, on a new one {told['new']}"
    if told["same"] == "TimeoutError" and told["new"] not in (told["first"], "TimeoutError"):
        return passed(measured)
    return failed(measured, expected, STILL_THERE if told["same"] == told["first"] else GONE)


# ---- b2 --------------------------------------------------------------------------------------------------------------

BY_NUMBER = (
    "it compares numbers, and a number is a place in one process's own table: two descriptors lead to the same thing "
    "if their links are the same"
)
BY_KIND = "these are sockets, but not all of them are the launcher's: compare the whole link, with the inode"
ONLY_ONE = "the launcher alone is found: look at what the other processes' descriptors lead to"
_HOLDERS = ["api-0", "api-1", "api-2", "api-3", "launcher"]


def judge_holders(result: ProcessResult) -> Verdict | None:
    if "views" not in result.events[-1].fields:
        return None  # the server did not start, or was not looked at to the end
    found = [event.fields for event in result.events if "role" in event.fields]
    roles, links = sorted({each["role"] for each in found}), sorted({each["link"] for each in found})
    places = ", ".join(roles) or "no process"
    measured = f"{counted(len(found), 'descriptor')} in {places}, leading to {counted(len(links), 'thing')}"
    expected = f"5 descriptors in {', '.join(_HOLDERS)}, leading to 1 thing"
    if not found:
        return failed(measured, expected, BY_NUMBER)
    if len(links) == 1:
        return passed(measured) if roles == _HOLDERS else failed(measured, expected, ONLY_ONE)
    same_number = len({each["number"] for each in found}) == 1
    return failed(measured, expected, BY_NUMBER if same_number else BY_KIND)


# ---- b3 --------------------------------------------------------------------------------------------------------------

SINCE_THE_START = "the count of steps goes on from the server's start: take the difference of the two readings"
UPSIDE_DOWN = "that is steps for each token; tokens in one step are the tokens divided by the steps"
NO_TOKENS = "the tokens of the load are `load.tokens`; this divides something else"


def judge_steps(result: ProcessResult) -> Verdict:
    loads = [event.fields for event in result.events]
    of_eight = next(each for each in loads if each["clients"] == 8)
    wanted = of_eight["tokens"] / (of_eight["after"] - of_eight["before"])
    got = of_eight["measured"]
    measured = f"with 8 clients {got:.2f} in a step"
    if abs(got - wanted) < 0.01:
        return passed(measured)
    if abs(got - of_eight["tokens"] / of_eight["after"]) < 0.01:
        cause = SINCE_THE_START
    else:
        cause = UPSIDE_DOWN if abs(got - 1 / wanted) < 0.001 else NO_TOKENS
    return failed(measured, f"{of_eight['tokens']} tokens in the steps of this load: {wanted:.2f}", cause)


# ---- b4 --------------------------------------------------------------------------------------------------------------

ORDERLY = (
    "the launcher could act: it told its processes to end, and ended with exit code 0; use the signal that nobody can "
    "catch"
)
ORDERLY_WRITER = f"{ORDERLY}; and you hold a write end yourself, so the pipe can't end"
NOT_ENDED = "the launcher has not ended, and a process keeps its descriptors until it does"
A_WRITER = "the pipe has no end while somebody can write to it, and that is you: open it for reading only"


def judge_killed(result: ProcessResult) -> Verdict:
    told = result.events[-1].fields
    code, at_its_end = told["launcher_ended_with"], told["pipe_at_its_end"]
    ended = "runs" if code is None else f"ended with {code}"
    measured = f"the launcher {ended}; the pipe {'is at its end' if at_its_end else 'is not at its end'}"
    expected = "the launcher ended with -9, and the pipe is at its end"
    if code is None:
        return failed(measured, expected, NOT_ENDED)
    if code >= 0:
        return failed(measured, expected, ORDERLY if at_its_end else ORDERLY_WRITER)
    return passed(measured) if at_its_end else failed(measured, expected, A_WRITER)


BLANKS = (
    Blank(
        name="00.b1",
        cell="kept",
        task="let the process stand still that has just answered",
        right=(("first", "SIGSTOP"), ("str(first)", "Signals.SIGSTOP")),
        wrong=(
            WrongFilling(STILL_THERE, ('"launcher"', "SIGSTOP")),
            WrongFilling(STILL_THERE, ("first", "SIGCONT")),
            WrongFilling(STILL_THERE, ('"api-1" if first == "api-0" else "api-0"', "SIGSTOP")),
            WrongFilling(GONE, ("first", "SIGKILL")),
            WrongFilling(BY_NAME, ("connection", "SIGSTOP")),
        ),
        hints=(
            "Two questions: which process holds this connection, and which signal stops a process without ending it?",
            "`server.pids` has a pid for each role, and `who_answers` has returned a role.",
            "The role is in `first`, and the signal is `SIGSTOP`.",
        ),
        judge=judge_kept,
    ),
    Blank(
        name="00.b2",
        cell="holders",
        task="find the descriptors that lead to the same object as the launcher's",
        right=(("link", "socket_link"), ("socket_link.encode()", "link.encode()")),
        wrong=(
            WrongFilling(BY_NUMBER, ("number", "socket_number")),
            WrongFilling(BY_KIND, ("link[:7]", '"socket:"')),
            WrongFilling(BY_KIND, ("link[:7]", "socket_link[:7]")),
            WrongFilling(ONLY_ONE, ("(role, number)", '("launcher", socket_number)')),
        ),
        hints=(
            "`number`, `link`, `socket_number`, `socket_link`: which two say what a descriptor leads to?",
            "The inode is in the link.",
            "Compare `link` with `socket_link`.",
        ),
        judge=judge_holders,
    ),
    Blank(
        name="00.b3",
        cell="steps",
        task="compute the tokens in one step, from the load's tokens and the two readings",
        right=(("load.tokens", "(after - before)"), ("load.tokens", "max(1, after - before)")),
        wrong=(
            WrongFilling(SINCE_THE_START, ("load.tokens", "after")),
            WrongFilling(UPSIDE_DOWN, ("(after - before)", "load.tokens")),
            WrongFilling(NO_TOKENS, ("load.completed", "(after - before)")),
            WrongFilling(NO_TOKENS, ("load.tokens_per_second", "(after - before)")),
        ),
        hints=(
            "How many tokens came in this load, and how many steps were made meanwhile?",
            "`before` and `after` are readings of one count, which began at the server's start.",
            "`load.tokens` divided by `(after - before)`.",
        ),
        judge=judge_steps,
    ),
    Blank(
        name="00.b4",
        cell="killed",
        task="open the pipe so that you only read, and kill both parents so that they can do nothing more",
        right=(("O_RDONLY", "SIGKILL"), ("O_RDONLY | os.O_NONBLOCK", "Signals.SIGKILL")),
        wrong=(
            WrongFilling(A_WRITER, ("O_RDWR", "SIGKILL")),
            WrongFilling(A_WRITER, ("O_WRONLY", "SIGKILL")),
            WrongFilling(ORDERLY, ("O_RDONLY", "SIGTERM")),
            WrongFilling(ORDERLY_WRITER, ("O_WRONLY", "SIGTERM")),
            WrongFilling(NOT_ENDED, ("O_RDONLY", "SIGSTOP")),
        ),
        hints=(
            "When does a reader see the end of a pipe? And which signal can no process catch?",
            "As long as anybody has the write end open, the pipe has no end. You may have it open, too.",
            "`os.O_RDONLY` and `signal.SIGKILL`.",
        ),
        judge=judge_killed,
    ),
)

"""The blanks of notebook 04: right and wrong fillings, and their judges."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed
from lab_support.plural import counted


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events if "xray" not in event.fields]


# ---- 04.b1: asleep in accept() ---------------------------------------------------------------------------------------

HAS_A_TIMEOUT = (
    "the first function has a timeout: Python then sleeps in poll(), which is not exclusive, and calls accept() after "
    "it; without one it sleeps in accept() itself"
)
NEVER_SLEEPS = (
    "a process does not sleep, because its socket does not block: accept() fails at once, and the loop calls it again"
)
HAS_NONE = "the second function sleeps in accept() for as long as it takes; give its socket a timeout of 60 seconds"


def judge_sleeping(result: ProcessResult) -> Verdict:
    if "a listener that does not sleep" in result.output:
        return failed("a process ran all the time", "both sleep while no client comes", NEVER_SLEEPS)
    by_way = result.by("way")
    blocking, timed = (by_way[way]["wakeups_per_connection"] for way in ("in_accept", "with_a_timeout"))
    measured = f"wake-ups per connection: {blocking:.1f} and {timed:.1f}"
    if blocking > 2.5:
        return failed(measured, "the first sleeps in accept() itself", HAS_A_TIMEOUT)
    if timed < 2.5:
        return failed(measured, "the second waits for at most a minute", HAS_NONE)
    return passed(measured)


# ---- 04.b2: to the back of the queue ---------------------------------------------------------------------------------

NEVER_LEFT = (
    "one worker has them all, because its entry stays first in the wait queue: it has to leave the queue (unregister) "
    "and enter it again (register)"
)
NOT_BACK = "a worker that has left the wait queue is not woken any more: register the socket again after unregister"
MODIFIED = (
    "the kernel refuses `modify` for an entry with EPOLLEXCLUSIVE: take it out by `unregister`, and put it in again by "
    "`register`"
)
DIED = "a worker ended by an error, and its client was cut off; the error stands in the output above"
NO_TURNS = (
    "they don't take turns, because an entry without EPOLLEXCLUSIVE is woken for every connection: register with flags"
)


def judge_staying(result: ProcessResult) -> Verdict:
    order = [each["by"] for each in _told(result)]
    turns = "the four take turns: 1, 2, 3, 4, 1, …"
    last = order[-1]
    findings = (
        (last == "cut off" and "Invalid argument" in result.output, MODIFIED),
        (last == "no answer", NOT_BACK),
        (last == "cut off", DIED),
        (set(order) == {order[0]}, NEVER_LEFT),
        (order != [f"worker {1 + index % 4}" for index in range(40)], NO_TURNS),
    )
    cause = next((cause for found, cause in findings if found), "")
    measured = _who_took(order)
    return failed(measured, turns, cause) if cause else passed(measured)


def _who_took(order: list[str]) -> str:
    taken = [name.removeprefix("worker ") for name in order if name.startswith("worker")]
    more = ", …" if len(taken) > 8 else ""
    words = f"{counted(len(taken), 'connection')}, taken by {', '.join(taken[:8])}{more}" if taken else ""
    lost = {"cut off": f"client {len(order)} was cut off", "no answer": f"client {len(order)} had no answer"}
    return "; ".join(filter(None, (words, lost.get(order[-1]))))


# ---- 04.b3: the length of the queue ----------------------------------------------------------------------------------

IS_THE_LIMIT = "that is the limit, the backlog (Send-Q), which stays the same; those that wait are Recv-Q: `waiting`"
IS_THE_ROOM = "that is the room left in the queue, which grows; the question is how many connections wait in it"
IS_THE_NUMBER = "that is the number of queues; one socket has one queue, and the figure wanted is its `waiting`"


def judge_taken(result: ProcessResult) -> Verdict:
    """uvloop takes one after the other, so the queue becomes shorter; another version may have emptied it."""
    first, second = [each["left"] for each in _told(result) if each["loop"] == "uvloop"][:2]
    measured = f"at uvloop's first and second answer: {first} and {second}"
    expected = "of 64 clients those that still wait, fewer with each answer"
    if second < first <= 63 or first == second == 0:
        return passed(measured)
    cause = IS_THE_ROOM if first != second else IS_THE_NUMBER if first == 1 else IS_THE_LIMIT
    return failed(measured, expected, cause)


# ---- 04.b4: hang and die ---------------------------------------------------------------------------------------------

DOES_NOT_HANG = (
    "every client of the worker's own socket was answered, so it goes on working, or it ended and took its socket "
    "along; a process that is stopped (SIGSTOP) is alive and does nothing more"
)
IS_NOT_KILLED = (
    "every client in its own queue was answered, so it was not killed: a stopped process goes on with the others"
)


def judge_hanging(result: ProcessResult) -> Verdict:
    by_row = result.by("row")
    hangs, killed = (by_row[f"own sockets, {what}"] for what in (
        "one of four workers hangs", "200 wait, a worker is killed"))  # fmt: skip
    measured = f"own sockets: {hangs['no answer']} without an answer, {killed['cut off']} cut off"
    expected = "clients of worker 1's own socket wait while it hangs, and are cut off when it dies"
    if hangs["no answer"] < 5:
        return failed(measured, expected, DOES_NOT_HANG)
    return passed(measured) if killed["cut off"] > 5 else failed(measured, expected, IS_NOT_KILLED)


BLANKS = (
    Blank(
        name="04.b1",
        cell="sleeping",
        task="let the first function sleep in accept() for as long as it takes, and the second for a minute at most",
        right=(
            ("setblocking(True)", "settimeout(60)"),
            ("settimeout(None)", "settimeout(60.0)"),
        ),
        wrong=(
            WrongFilling(HAS_A_TIMEOUT, ("settimeout(60)", "settimeout(60)")),
            WrongFilling(HAS_A_TIMEOUT, ("settimeout(60)", "settimeout(None)")),
            WrongFilling(HAS_NONE, ("setblocking(True)", "setblocking(True)")),
            WrongFilling(NEVER_SLEEPS, ("setblocking(False)", "settimeout(60)")),
        ),
        hints=(
            "Is the socket blocking when the function gets it? (`listeners` says so.) Which two methods change it?",
            "`settimeout` takes seconds, and None for no timeout. `setblocking(True)` does the latter as well.",
            "`listening_socket.setblocking(True)`, and `listening_socket.settimeout(60)`",
        ),
        judge=judge_sleeping,
    ),
    Blank(
        name="04.b2",
        cell="staying",
        task="let each worker go to the back of the wait queue after each connection",
        right=(
            ("poll.unregister(listening_socket)", "poll.register(listening_socket, flags)"),
            ("poll.close()", "poll = select.epoll(); poll.register(listening_socket, flags)"),
        ),
        wrong=(
            WrongFilling(NEVER_LEFT, ("pass", "pass")),
            WrongFilling(NOT_BACK, ("poll.unregister(listening_socket)", "pass")),
            WrongFilling(
                NO_TURNS, ("poll.unregister(listening_socket)", "poll.register(listening_socket, select.EPOLLIN)")
            ),
            WrongFilling(MODIFIED, ("poll.modify(listening_socket, flags)", "pass")),
            WrongFilling(MODIFIED, ("poll.modify(listening_socket, 0)", "poll.modify(listening_socket, flags)")),
            WrongFilling(DIED, ("pass", "poll.register(listening_socket, flags)")),
        ),
        hints=(
            "How did the process enter the wait queue, a few lines above?",
            "An epoll object has `register`, `modify` and `unregister`. Only two of them move an entry.",
            "`poll.unregister(listening_socket)`, and then `poll.register` as above, with the same flags",
        ),
        judge=judge_staying,
    ),
    Blank(
        name="04.b3",
        cell="taken",
        task="measure how many connections still wait in the accept queue",
        right=(
            ("queues[0].waiting",),
            ("sum(queue.waiting for queue in queues)",),
            ("accept_queues(port).waiting",),
        ),
        wrong=(
            WrongFilling(IS_THE_LIMIT, ("queues[0].limit",)),
            WrongFilling(IS_THE_NUMBER, ("len(queues)",)),
            WrongFilling(IS_THE_ROOM, ("queues[0].limit - queues[0].waiting",)),
        ),
        hints=(
            "How many listening sockets are there, and so, how many entries has `queues`?",
            "Recv-Q is what waits, Send-Q is the limit. Their names here are `waiting` and `limit`.",
            "`queues[0].waiting`",
        ),
        judge=judge_taken,
    ),
    Blank(
        name="04.b4",
        cell="hanging",
        task="send worker 1 the signal that makes it hang, and then the one that kills it",
        right=(
            ("SIGSTOP", "SIGKILL"),
            ("Signals(19)", "Signals(9)"),
            ("SIGSTOP", "SIGTERM"),
        ),
        wrong=(
            WrongFilling(DOES_NOT_HANG, ("SIGTERM", "SIGKILL")),
            WrongFilling(DOES_NOT_HANG, ("SIGCONT", "SIGKILL")),
            WrongFilling(IS_NOT_KILLED, ("SIGSTOP", "SIGSTOP")),
        ),
        hints=(
            "Which signal leaves a process alive, but never lets it run? Which one does no process survive?",
            "A stopped process keeps all its descriptors. `workers.stop()` sends the same signal.",
            "`SIGSTOP`, and `SIGKILL`",
        ),
        judge=judge_hanging,
    ),
)

"""The claims of appendix 09a, each with an experiment in which it is false."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left
from lab_support.notebook.moves.verdicts import broken_claim, judge_of

LEFT, UNREAD, DRAINED = (cell("09a", name) for name in ("left", "unread", "drained"))
NOTICED, REFUSED = (blank(f"09a.b{number}").reference for number in (1, 3))

# ---- the client hangs up

_FORKED_IN_BOTH = changed(
    LEFT,
    "(server, closes, times=3)",
    "(server, closes, copied=True)",
    "(server, half_closes, times=3)",
    "(server, closes, copied=True)",
)
_NOBODY_FORKS = changed(
    LEFT,
    "closes, copied=True",
    "closes",
    "leave_in_the_queue(server, closes)",
    "leave_in_the_stream(server, closes)",
)
_READS_NO_MORE = changed(LEFT, "socket.SHUT_WR", "socket.SHUT_RD")
_GOES_BY_WRITES = changed(NOTICED, "reader.read()", "writer.wait_closed()")

# ---- the client does not read

_A_LITTLE = changed(UNREAD, "choices=16, tokens=1900", "choices=1, tokens=300")
_TOO_EARLY = changed(UNREAD, "tokens=1900)", "tokens=1900, look_after=3000)")
_NEARLY_NOTHING = changed(UNREAD, "choices=16, tokens=1900", "choices=1, tokens=40")

# ---- the server is told to stop

_ALL_AT_ONCE = changed(DRAINED, "drain(timeout)", "drain(0)")
_IDLE_IS_BUSY = changed(DRAINED, "drain(timeout)", "drain(timeout, idle_asks=100)")
_LATE_IS_EARLY = changed(DRAINED, "drain(timeout)", "drain(timeout, late_is_early=True)")
_ONE_KEEPS_IT = changed(REFUSED, "# it does this first\n    listening_socket.close()", "# it does this first\n    pass")
_ALL_PATIENT = changed(DRAINED, "drain(timeout)", "drain(60)")

# ---- the live picture

_WATCHED = """\
import os, signal
import lab_support.notebook as lab
from lab_support.notebook.script import emit

with lab.live_server(device="paced:8B", api_server_count=2) as server, lab.watch(server) as watched:
    os.kill(server.pids["api-1"], signal.SIGKILL)
    emit(replaced=watched.await_event("takes the place", seconds=20), events=watched.events)
"""
_STOPPED_ALONE = changed(_WATCHED, "SIGKILL", "SIGSTOP", "seconds=20", "seconds=2")


def _tells(result: ProcessResult) -> bool:
    told = result.events[0].fields
    return told["replaced"] and any("api-1" in event and "SIGKILL" in event for event in told["events"])


def _of_row(number: str, row: str, experiment: str, broken: str) -> BrokenClaim:
    judge = judge_of(number)
    option = judge.expected[row]

    def holds(result: ProcessResult) -> bool:
        return judge.find(result).rows[row] == option

    return BrokenClaim(judge.row_words.format(row=row, option=option), experiment, broken, holds)


BROKEN_CLAIMS = (
    _of_row("09a.1", "it closes the connection after two tokens", LEFT, _FORKED_IN_BOTH),
    _of_row("09a.1", "it ends its sending side alone, and goes on reading", LEFT, _FORKED_IN_BOTH),
    _of_row("09a.1", "it closes, and a child that it has forked lives on", LEFT, _NOBODY_FORKS),
    _of_row("09a.1", "it closes while it waits for another's answer", LEFT, _NOBODY_FORKS),
    broken_claim(
        "09a.1", "Half a close is the client's end to the API server, as a whole one is", LEFT, _READS_NO_MORE
    ),
    broken_claim(
        "09a.mine", "Who leaves costs fewer tokens than all, and before the first one none", NOTICED, _GOES_BY_WRITES
    ),
    broken_claim(
        "09a.2", "The engine core has computed all of it, though the client has read nothing", UNREAD, _TOO_EARLY
    ),
    broken_claim(
        "09a.2",
        "A second client has its whole answer before half of the time is over",
        UNREAD,
        _NEARLY_NOTHING,
    ),
    broken_claim(
        "09a.2",
        "What the kernel does not take is in the API server, whose own memory has grown by at least half of it",
        UNREAD,
        _A_LITTLE,
    ),
    _of_row("09a.3", "it reads a stream", DRAINED, _ALL_AT_ONCE),
    _of_row("09a.3", "it is idle after an answer", DRAINED, _IDLE_IS_BUSY),
    _of_row("09a.3", "it waits in the accept queue, with its request", DRAINED, _ALL_AT_ONCE),
    _of_row("09a.3", "it connects while streams are finished", DRAINED, _LATE_IS_EARLY),
    broken_claim(
        "09a.3",
        "With 0 seconds, the stream and the request from the queue get an error, and its reason",
        DRAINED,
        _ALL_PATIENT,
    ),
    broken_claim(
        "09a.refused", "The queue is served, and who comes afterwards is refused at once", REFUSED, _ONE_KEEPS_IT
    ),
    BrokenClaim(
        "The picture tells of an API server's end, and of the process that takes its place",
        _WATCHED,
        _STOPPED_ALONE,
        _tells,
    ),
    nothing_left("No process of this appendix is left", UNREAD),
)

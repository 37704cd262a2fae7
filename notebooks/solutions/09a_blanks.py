"""The blanks of notebook 09a: who has left, and who takes too little."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed
from lab_support.notebook.stages.leaving import LEAVES, PIPELINES, QUEUE, STAYS, TOKENS
from lab_support.notebook.stages.not_reading import LIMIT, NEVER, READS, SLOW, STEPS
from lab_support.notebook.stages.stopping import LATE, QUEUED, REFUSED, SERVED, STREAM

# ---- 09a.b1: who has left --------------------------------------------------------------------------------------------

AT_ONCE = (
    "everybody counts as left, even a client that stays: what you wait for is done at once, and not when a client has "
    "ended its side"
)
MORE_SENT = (
    "the client that has sent its next request counts as left: a byte that comes is no end, and only a read up to the "
    "end tells"
)
NOT_TOLD = "those who have left are noticed, but nobody tells the engine core, so it computes for them to the end"
BY_WRITING = (
    "the client that left before its first token is noticed too late: a write fails only after an earlier one has "
    "been answered by a reset, and before the first token nothing is written"
)
NEVER_DONE = "nobody is ever noticed: what you wait for is not done when a client ends its side"


def judge_the_leaving(noticed: ProcessResult) -> Verdict:
    clients: dict[str, dict[str, int]] = noticed.told["clients"]
    computed = {name: each["computed"] for name, each in clients.items()}
    read = {name: each["read"] for name, each in clients.items()}
    measured = "; ".join(f"{name}: {computed[name]} computed" for name in clients)
    findings = (
        (read[STAYS] < TOKENS, AT_ONCE),
        (read[PIPELINES] < TOKENS, MORE_SENT),
        (computed[LEAVES] == TOKENS, NOT_TOLD),
        (computed[QUEUE] == TOKENS, NEVER_DONE),
        (computed[QUEUE] > 0, BY_WRITING),
    )
    cause = next((cause for found, cause in findings if found), "")
    expected = f"{TOKENS} for those who stay, fewer for the one that leaves, none for the one that left before"
    return failed(measured, expected, cause) if cause else passed(measured)


# ---- 09a.b2: who takes too little ------------------------------------------------------------------------------------

ALL_WAIT = "the loop stands still: it waits for the client that does not read, so the others get nothing more either"
NO_LIMIT = "the client that does not read is never found, so what is kept for it grows with each token"
SLOW_TOO = (
    "a client that reads has been cut off: some bytes wait for everybody now and then, and the limit is much higher"
)
STILL_KEPT = (
    "no more is written to it, but its bytes are still kept: an end in good order waits until they are sent, and this "
    "client takes none"
)


def judge_the_limit(limited: ProcessResult) -> Verdict:
    told: dict[str, Any] = limited.told
    kept, most, whole = told["kept"][NEVER], told["most"][NEVER], STEPS * told["token"]
    measured = f"{told['steps']} steps; kept for the one that {NEVER}: {_kb(most)} at most, {_kb(kept)} at the end"
    findings = (
        (told["steps"] < STEPS, ALL_WAIT),
        (min(told["read"][READS], told["read"][SLOW]) < whole, SLOW_TOO),
        (most > 2 * LIMIT, NO_LIMIT),
        (kept > 0, STILL_KEPT),
    )
    cause = next((cause for found, cause in findings if found), "")
    expected = f"{STEPS} steps, about {_kb(LIMIT)} at most, and 0 kB at the end; all for the two that read"
    return failed(measured, expected, cause) if cause else passed(measured)


def _kb(count: int) -> str:
    return f"{count / 1000:,.0f} kB"


# ---- 09a.b3: nobody waits in vain ------------------------------------------------------------------------------------

RESET = "who was in the queue is reset: `shutdown` ends the listening socket itself, for all who have it, and its queue"
KEPT = (
    "who connects afterwards waits for nothing: one of the two processes still has the listening socket, so the kernel "
    "completes each handshake"
)


def judge_the_refusal(refused: ProcessResult) -> Verdict:
    ends: dict[str, str] = refused.told["ends"]
    measured = "; ".join(f"{name}: {end}" for name, end in ends.items())
    findings = ((ends[QUEUED] != SERVED, RESET), (ends[LATE] != REFUSED, KEPT))
    cause = next((cause for found, cause in findings if found), "")
    expected = f"{STREAM}: {SERVED}; {QUEUED}: {SERVED}; {LATE}: {REFUSED}"
    return failed(measured, expected, cause) if cause else passed(measured)


_CLOSE, _SHUTDOWN = "listening_socket.close()", "listening_socket.shutdown(socket.SHUT_RDWR)"
_WAITING = "client.transport.get_write_buffer_size()"
_CUT = "client.transport.abort()"

BLANKS = (
    Blank(
        name="09a.b1",
        cell="noticed",
        task="wait for the client's end of the stream, and tell the engine core",
        right=(
            ("reader.read()", "tokens.abort()"),
            ("reader.read(-1)", "tokens.abort()"),
            ("reader.readuntil(b'no such line')", "tokens.abort()"),
        ),
        wrong=(
            WrongFilling(MORE_SENT, ("reader.read(1)", "tokens.abort()")),
            WrongFilling(MORE_SENT, ("reader.readline()", "tokens.abort()")),
            WrongFilling(AT_ONCE, ("writer.drain()", "tokens.abort()")),
            WrongFilling(BY_WRITING, ("writer.wait_closed()", "tokens.abort()")),
            WrongFilling(NOT_TOLD, ("reader.read()", "writer.close()")),
        ),
        hints=(
            "A FIN is the end of a stream. Which call of `reader` is done at the end, and not at the next byte?",
            "`reader.read()` without a number reads up to the end. The engine core knows nothing of connections: which "
            "method of `tokens` tells it?",
            "`reader.read()` and `tokens.a…()`",
        ),
        judge=judge_the_leaving,
    ),
    Blank(
        name="09a.b2",
        cell="limited",
        task="find the client for which too much is kept, and end its connection at once",
        right=(
            (f"{_WAITING} > LIMIT", _CUT),
            (f"LIMIT <= {_WAITING}", _CUT),
            (f"{_WAITING} > LIMIT - len(token)", _CUT),
        ),
        wrong=(
            WrongFilling(ALL_WAIT, ("await client.drain()", _CUT)),
            WrongFilling(NO_LIMIT, ("client.is_closing()", _CUT)),
            WrongFilling(SLOW_TOO, (f"{_WAITING} > 0", _CUT)),
            WrongFilling(STILL_KEPT, (f"{_WAITING} > LIMIT", "client.close()")),
            WrongFilling(STILL_KEPT, (f"{_WAITING} > LIMIT", "pass")),
        ),
        hints=(
            "Who knows how many bytes are kept for a client: its `transport`. And what does `close()` do with them?",
            "`client.transport.get_write_buffer_size()` is the number. `close()` waits until they are sent; another "
            "method of the transport drops them.",
            "`client.transport.get_write_buffer_size() > …` and `client.transport.a…()`",
        ),
        judge=judge_the_limit,
    ),
    Blank(
        name="09a.b3",
        cell="refused",
        task="say what each process does with the listening socket, in the launcher and once the queue is empty",
        right=((_CLOSE, _CLOSE), ("pass", _SHUTDOWN), (_CLOSE, _SHUTDOWN)),
        wrong=(
            WrongFilling(RESET, (_SHUTDOWN, _CLOSE)),
            WrongFilling(KEPT, ("pass", _CLOSE)),
            WrongFilling(KEPT, (_CLOSE, "return")),
            WrongFilling(KEPT, ("listening_socket.listen(0)", _CLOSE)),
            WrongFilling(KEPT, ("listening_socket.detach()", _CLOSE)),
        ),
        hints=(
            "The kernel completes handshakes as long as the socket listens. What ends that, and in which process?",
            "It listens until its last descriptor is closed. `shutdown` ends it for both, and empties the queue.",
            "`listening_socket.c…()`, twice",
        ),
        judge=judge_the_refusal,
    ),
)

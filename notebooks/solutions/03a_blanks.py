"""The blanks of appendix 03a: a bystander that lets go, and a flag for what arrives."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed

ENDED_FOR_ALL = (
    "the client saw an end although the server had not closed: shutdown() ends the connection for all holders; the "
    "bystander is to let go of its own descriptor only"
)
STILL_HELD = (
    "the bystander still holds the connection, so it lives on after the server's close(): its own descriptor has to be "
    "closed"
)


def judge_the_bystander(leak: ProcessResult) -> Verdict:
    careful = leak.by("way")["fork, careful"]
    measured = (
        f"before the server's close() the client saw {'no end' if careful['usable'] else 'an end'}, "
        f"after it {'the end' if careful['ended'] else 'none'}"
    )
    cause = ENDED_FOR_ALL if not careful["usable"] else "" if careful["ended"] else STILL_HELD
    if cause:
        return failed(measured, "no end before the server closes the connection, and the end after it", cause)
    return passed(measured)


NOT_MARKED = (
    "the next program still has the descriptor: the flag has to be one of recvmsg's own, and ask for close-on-exec"
)


def judge_the_flag(on_arrival: ProcessResult) -> Verdict:
    seen = on_arrival.by("received")["with yours"]
    measured = f"the next program has the descriptor: {seen['in_the_next_program']}"
    if seen["in_the_next_program"]:
        return failed(measured, "it does not have it", NOT_MARKED)
    return passed(measured)


BLANKS = (
    Blank(
        name="03a.b1",
        cell="leak",
        task="let the careful bystander let go of the connection, without ending it for the server",
        right=(("connection.close()",), ("os.close(connection.detach())",), ("os.close(connection.fileno())",)),
        wrong=(
            WrongFilling(ENDED_FOR_ALL, ("connection.shutdown(socket.SHUT_RDWR)",)),
            WrongFilling(STILL_HELD, ("connection.detach()",)),
            WrongFilling(STILL_HELD, ("connection.setblocking(False)",)),
            WrongFilling(STILL_HELD, ("del connection",)),
        ),
        hints=(
            "Which call acts on one holder's descriptor, and which on the connection?",
            "close() removes an entry from one table; shutdown() ends the connection for everybody.",
            "`connection.` and the first of the two.",
        ),
        judge=judge_the_bystander,
    ),
    Blank(
        name="03a.b2",
        cell="on_arrival",
        task="let the descriptor arrive with the mark close-on-exec, by a flag of recvmsg",
        right=(("socket.MSG_CMSG_CLOEXEC",), ("0x40000000",)),
        wrong=(
            WrongFilling(NOT_MARKED, ("0",)),
            WrongFilling(NOT_MARKED, ("os.O_CLOEXEC",)),
            WrongFilling(NOT_MARKED, ("socket.MSG_CTRUNC",)),
        ),
        hints=(
            "open() has O_CLOEXEC, socket() has SOCK_CLOEXEC. What does recvmsg have?",
            "Its name begins with MSG_, as all flags of recvmsg, and goes on with CMSG_, for the ancillary items.",
            "`socket.MSG_CMSG_…`",
        ),
        judge=judge_the_flag,
    ),
)

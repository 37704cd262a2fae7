"""The blanks of notebook 03: a mark for the next program, room for three, and two changes by a child."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed, stopped_by

# ---- 03.b1: no program gets the socket -------------------------------------------------------------------------------

MARK_AS_IT_WAS = (
    "the socket still has no mark close-on-exec, so the program that a spawned API server starts has it too; the mark "
    "belongs to the API server's own descriptor"
)
MARK_TAKEN_OFF = (
    "now the forked API server's program has the socket as well: the mark close-on-exec was taken off where it was set"
)
LET_GO = (
    "the API server itself has no socket any more, so it can't serve: only the program that it starts is to lack it"
)


def judge_the_mark(crashed: ProcessResult) -> Verdict:
    careful = {run["way"]: run for run in _fields(crashed, "careful") if run["careful"]}
    fork, spawn = careful["fork"], careful["spawn"]
    measured = (
        f"API servers that still have the socket: {fork['server_has_it'] + spawn['server_has_it']} of 2; "
        f"programs that have it too: {fork['sleep_has_it'] + spawn['sleep_has_it']} of 2"
    )
    findings = (
        (not (fork["server_has_it"] and spawn["server_has_it"]), LET_GO),
        (fork["sleep_has_it"], MARK_TAKEN_OFF),
        (spawn["sleep_has_it"], MARK_AS_IT_WAS),
    )
    cause = next((cause for found, cause in findings if found), "")
    if cause:
        return failed(measured, "both API servers have the socket, and neither program has it", cause)
    return passed(measured)


# ---- 03.b2: room for three -------------------------------------------------------------------------------------------

BYTES = "the room is given in bytes, and each descriptor takes 4 of them: three need 12"
HEADER = "the room also holds the item's header: CMSG_LEN adds it to the bytes of the descriptors"
PADDED = (
    "a fourth arrived, which nobody asked for: the room has to be exact, and CMSG_SPACE pads, as does room that is "
    "counted more than once"
)


def judge_the_room(rooms: ProcessResult) -> Verdict:
    seen = rooms.by("room")["for three"]
    arrived, size = seen["at_once"], seen["size"]
    measured = f"{arrived} of 4 descriptors arrived in a room of {size} bytes"
    if arrived == 3:
        return passed(measured)
    cause = PADDED if arrived > 3 else HEADER if size == 12 else BYTES
    return failed(measured, "3 descriptors arrive", cause)


# ---- 03.b3: a child changes two things -------------------------------------------------------------------------------

LIMIT = "the child's accept queue has the same limit as before: listen(n), called once more, sets another one"
END = (
    "the peer sees no end, because the parent still holds the connection: close() lets go of one descriptor only, and "
    "without reading this side can still write; shut its writing down"
)


def judge_the_changes(twins: ProcessResult) -> Verdict:
    seen = twins.by("row")
    limit, end = seen["limit of the accept queue"], seen["end of a connection"]
    for row in (limit, end):
        if "Error" in row["there"]:
            return stopped_by(f"{row['row']}: {row['there']}")
    measured = f"in the child: limit {limit['before']} → {limit['there']}, end seen {end['before']} → {end['there']}"
    findings = ((not _changed(limit), LIMIT), (not _changed(end), END))
    cause = next((cause for found, cause in findings if found), "")
    if cause:
        return failed(measured, "the child sees another limit, and the end of the connection", cause)
    return passed(measured)


def _changed(row: dict[str, Any]) -> bool:
    """Whether the child's own look found a change."""
    return bool(row["before"] != row["there"])


def _fields(result: ProcessResult, name: str) -> list[dict[str, Any]]:
    return [event.fields for event in result.events if name in event.fields]


BLANKS = (
    Blank(
        name="03.b1",
        cell="crashed",
        task="let no program that the API server starts get the socket, which the API server itself keeps",
        right=(
            ("sock.set_inheritable(False)",),
            ("os.set_inheritable(sock.fileno(), False)",),
        ),
        wrong=(
            WrongFilling(LET_GO, ("sock.close()",)),
            WrongFilling(MARK_TAKEN_OFF, ("sock.set_inheritable(True)",)),
            WrongFilling(MARK_AS_IT_WAS, ("sock.setblocking(False)",)),
            WrongFilling(MARK_AS_IT_WAS, ("os.set_inheritable(pipe.fileno(), False)",)),
        ),
        hints=(
            "`execve` closes some descriptors and leaves others open. Which mark decides?",
            "The mark close-on-exec is called *not inheritable* in Python, and a socket has a method that sets it.",
            "`sock.set_inheritable(…)`, with True or with False?",
        ),
        judge=judge_the_mark,
    ),
    Blank(
        name="03.b2",
        cell="rooms",
        task="make room for exactly three descriptors, so that a fourth can't come",
        right=(("socket.CMSG_LEN(12)",), ("socket.CMSG_LEN(3 * 4)",), ("socket.CMSG_LEN(0) + 12",)),
        wrong=(
            WrongFilling(BYTES, ("socket.CMSG_LEN(3)",)),
            WrongFilling(HEADER, ("12",)),
            WrongFilling(PADDED, ("socket.CMSG_SPACE(12)",)),
            WrongFilling(PADDED, ("3 * socket.CMSG_LEN(4)",)),
        ),
        hints=(
            "`socket.CMSG_LEN(4)` is the exact room for one. What is the 4?",
            "A descriptor is a number of 4 bytes, and CMSG_LEN adds the header, which is there once.",
            "`socket.CMSG_LEN(…)` with the bytes of three numbers.",
        ),
        judge=judge_the_room,
    ),
    Blank(
        name="03.b3",
        cell="twins",
        task="let the child set another limit of the accept queue (first blank), and end the connection (second blank)",
        right=(
            ("sock.listen(7)", "one.shutdown(socket.SHUT_RDWR)"),
            ("socket.socket.listen(sock, 1)", "one.shutdown(socket.SHUT_WR)"),
        ),
        wrong=(
            WrongFilling(END, ("sock.listen(7)", "one.close()")),
            WrongFilling(END, ("sock.listen(7)", "one.shutdown(socket.SHUT_RD)")),
            WrongFilling(LIMIT, ("sock.listen", "one.shutdown(socket.SHUT_RDWR)")),
            WrongFilling(LIMIT, ("sock.setblocking(False)", "one.shutdown(socket.SHUT_RDWR)")),
        ),
        hints=(
            "Which call gave the listening socket its limit? It may be called again.",
            "close() lets go of a descriptor. Another method ends the connection, whoever else holds it.",
            "`sock.listen(7)`, and `one.shutdown(…)` with the constant for writing or for both directions.",
        ),
        judge=judge_the_changes,
    ),
)

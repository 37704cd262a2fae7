"""What breaks the claims of notebook 03: for each, its experiment with the effect taken away."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed

JOURNEY, BY_HAND, SIBLING = (cell("03", name) for name in ("journey", "by_hand", "sibling"))
CRASHED, ROOMS, TWINS = (blank(f"03.{name}").reference for name in ("b1", "b2", "b3"))

PICKLED = """\
import pickle, socket
from lab_support.notebook.script import emit

with socket.create_server(("127.0.0.1", 0)) as listening_socket:
    try:
        pickle.dumps(listening_socket)
        emit(refused="")
    except TypeError as error:
        emit(refused=str(error))
"""

# ---- 03.1 ------------------------------------------------------------------------------------------------------------


def _ways(result: ProcessResult, key: str) -> list[Any]:
    return [way[key] for way in result.by("way").values()]


def _strace_agrees(result: ProcessResult) -> bool:
    """Without strace, the message that no hook sees is known by what the child says of it."""
    if not result.trace or not result.trace.calls:
        return "sent_itself" not in result.told
    return len(result.trace.descriptor_messages) == sum(map(len, _ways(result, "descriptors")))


def _same_and_under_its_number(result: ProcessResult) -> bool:
    here, there = _ways(result, "here"), _ways(result, "there")
    return all(_ways(result, "same")) and here[:2] == there[:2]


_WITHOUT_THE_SOCKET = changed(JOURNEY, "None if later else sock", "None if later else other")
_THE_CHILD_SENDS_TOO = changed(
    JOURNEY,
    "    pipe.recv()  # stay",
    "    pair = socket.socketpair()\n    socket.send_fds(pair[0], [b'!'], [1])\n    emit(sent_itself=True)\n"
    "    pipe.recv()  # stay",
)
_A_SOCKET_OF_ITS_OWN = changed(
    JOURNEY, "(sock or sent).fileno()", '(sock := socket.create_server(("127.0.0.1", 0))).fileno()'
)
_ALL_BY_FORK = changed(JOURNEY, "get_context(way)", 'get_context("fork")')

# ---- 03.2 ------------------------------------------------------------------------------------------------------------


def _taken(result: ProcessResult) -> list[tuple[str, bool]]:
    runs = [event.fields for event in result.events if "careful" in event.fields]
    return [(run["way"], run["careful"]) for run in runs if run["port"] != "free"]


_ALWAYS_CAREFUL = changed(CRASHED, "    if careful:\n", "    if True:\n")

# ---- 03.3 ------------------------------------------------------------------------------------------------------------

_SENDS_THE_NUMBER_ALONE = changed(
    BY_HAND,
    'ours.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])',
    "ours.send(rights)",
    "_, [(level, kind, data)], flags, _ = theirs.recvmsg(1, socket.CMSG_LEN(4))",
    "data = theirs.recv(4)",
)


def _leads_to_the_sender_s(result: ProcessResult) -> bool:
    graph = next(event.fields["graph"] for event in reversed(result.events) if event.fields.get("xray") == "after")
    sender, receiver = (process["pid"] for process in graph["processes"])
    leads_to = {(hold["pid"], hold["number"]): hold["object_id"] for hold in graph["holds"]}
    told = result.told
    return bool(leads_to.get((receiver, told["arrived"])) == leads_to[sender, told["sent"]])


# ---- 03.4 ------------------------------------------------------------------------------------------------------------


def _arrived(result: ProcessResult, room: str) -> tuple[int, int]:
    seen = result.by("room")[room]
    return seen["at_once"], seen["later"]


_ROOM_FOR_FOUR = changed(ROOMS, "theirs.recvmsg(1, size)", "theirs.recvmsg(1, socket.CMSG_LEN(16))")

# ---- 03.5 ------------------------------------------------------------------------------------------------------------

_BLOCKING = changed(
    SIBLING,
    "listening_socket.setblocking(False) ",
    "listening_socket.setblocking(True) ",
    "    os.waitpid(sibling, 0)",
    "    os.kill(sibling, 9)",
)
_DONE_BEFORE = changed(
    SIBLING,
    '        announce("patient")\n',
    '        announce("patient")\n        listening_socket.setblocking(False)\n',
    "    emit(flag_there=fdinfo.read_fdinfo(sibling, listening_socket.fileno()).nonblocking)\n",
    "",
)

# ---- 03.6 ------------------------------------------------------------------------------------------------------------

_NOTHING_DONE = changed(TWINS, "        change()\n", "")
_DONE_HERE = changed(
    TWINS,
    "there = str(look()), in_child(change_and_look)",
    "there = str(look()), change_and_look()",
    "os.get_blocking(number), lambda: sock.settimeout(5)",
    "os.get_blocking(number), lambda: sock.settimeout(6)",
)


def _row(row: str, option: str) -> BrokenClaim:
    """Shared: a child that changes nothing breaks it. Each one's own: broken where the change is made here."""
    shared = option == "shared"

    def holds(result: ProcessResult) -> bool:
        seen = result.by("row")[row]
        return bool((seen["before"] != seen["after"]) == shared)

    words = f"Of two holders of one thing: {row} is {option}"
    return BrokenClaim(words, TWINS, _NOTHING_DONE if shared else _DONE_HERE, holds)


# ---- the end ---------------------------------------------------------------------------------------------------------

LEFT_RUNNING = """\
import os
from lab_support.instruments import proc
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.script import emit

run = run_process("import os; os.fork()", quiet=True)
started = [process.identity for process in run.processes]
emit(running=sum(map(proc.is_running, started)), me=os.getpid())
"""

BROKEN_CLAIMS = (
    BrokenClaim(
        "pickle refuses a socket",
        PICKLED,
        changed(PICKLED, "pickle.dumps(listening_socket)", "pickle.dumps(listening_socket.getsockname())"),
        lambda result: "socket" in result.told["refused"],
    ),
    BrokenClaim(
        "The socket is in no message for fork and spawn, and in one each for forkserver and a later send",
        JOURNEY,
        _WITHOUT_THE_SOCKET,
        lambda result: _ways(result, "messages") == [0, 0, 1, 1],
    ),
    BrokenClaim(
        "strace, which follows every process of the family, sees no further message with descriptors",
        JOURNEY,
        _THE_CHILD_SENDS_TOO,
        _strace_agrees,
    ),
    BrokenClaim(
        "All four ways end at the parent's open file description, fork and spawn under the same number",
        JOURNEY,
        _A_SOCKET_OF_ITS_OWN,
        _same_and_under_its_number,
    ),
    BrokenClaim(
        "The socket that nobody passed on came along with fork, and with nothing else",
        JOURNEY,
        _ALL_BY_FORK,
        lambda result: _ways(result, "other_came_too") == [True, False, False, False],
    ),
    BrokenClaim(
        "After the crash, sleep keeps the port of the spawned API server that was not careful, and no other",
        CRASHED,
        _ALWAYS_CAREFUL,
        lambda result: _taken(result) == [("spawn", False)],
    ),
    BrokenClaim(
        "The descriptor arrives under the receiver's lowest free number, and leads to the sender's socket",
        BY_HAND,
        _SENDS_THE_NUMBER_ALONE,
        lambda result: result.told["arrived"] < result.told["own"] and _leads_to_the_sender_s(result),
    ),
    BrokenClaim(
        "With room for one of four, one arrives, the others never do, and MSG_CTRUNC tells of it",
        ROOMS,
        _ROOM_FOR_FOUR,
        lambda result: _arrived(result, "for one") == (1, 0) and result.by("room")["for one"]["cut"],
    ),
    BrokenClaim(
        "CMSG_SPACE for one makes room for two",
        ROOMS,
        _ROOM_FOR_FOUR,
        lambda result: _arrived(result, "for one, padded")[0] == 2,
    ),
    BrokenClaim(
        "The accept() that slept already is served, and the next one fails at once",
        SIBLING,
        _DONE_BEFORE,
        lambda result: result.by("accept")[1]["came"] == "a client" and "timeout" in result.by("accept").get(2, {}),
    ),
    BrokenClaim(
        "The kernel shows the flag in the worker that never set it, and its Python object says that it blocks",
        SIBLING,
        _BLOCKING,
        lambda result: bool(result.told["flag_there"]) and result.by("accept").get(2, {}).get("timeout", "") is None,
    ),
    _row("blocking or not", "shared"),
    _row("gettimeout()", "each one's own"),
    _row("limit of the accept queue", "shared"),
    _row("file offset", "shared"),
    _row("close-on-exec", "each one's own"),
    _row("open or closed", "each one's own"),
    _row("end of a connection", "shared"),
    BrokenClaim(
        "No process of this notebook's cells is left",
        LEFT_RUNNING,
        changed(LEFT_RUNNING, "\nemit(", "\nstarted.append(proc.read_process(os.getpid()).identity)\nemit("),
        lambda result: result.events[-1].fields["running"] == 0,
    ),
)

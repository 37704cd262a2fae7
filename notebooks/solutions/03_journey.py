"""Notebook 03, first loop: how a socket gets into a child. The programs of its cells, and what breaks their claims."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, changed

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

JOURNEY = """\
%%python_process --name journey --timeout 30 --into journey
import multiprocessing, os, socket
from lab_support.instruments import audit, kernel
from lab_support.notebook.script import emit

def child(pipe, sock):
    sent = pipe.recv()  # None, if the socket came as an argument
    sock = sock or sent
    pipe.send((os.getpid(), sock.fileno(), sock.get_inheritable()))
    pipe.recv()  # stay until the parent has looked

if __name__ == "__main__":
    for way, later in (("fork", False), ("spawn", False), ("forkserver", False), ("spawn", True)):
        ours, theirs = multiprocessing.Pipe()
        with socket.create_server(("127.0.0.1", 0)) as sock, audit.unix_sends() as sends:
            arguments = (theirs, None if later else sock)
            process = multiprocessing.get_context(way).Process(target=child, args=arguments)
            process.start()
            ours.send(sock if later else None)
            pid, there, inheritable = ours.recv()
            same = kernel.same_open_file_description(os.getpid(), sock.fileno(), pid, there).same
            messages = sum(each.carries_descriptors is True for each in sends)
            emit(way=way + " (sent later)" * later, messages=messages, same=same,
                 here=sock.fileno(), there=there, inheritable=inheritable)
            ours.send("looked")
"""

RECORDS = """\
%%python_process --name records --timeout 20 --into records
import multiprocessing, os, socket
from lab_support.instruments import kernel, proc
from lab_support.notebook.script import announce, emit, xray
def child(pipe, sock):
    announce("child")
    pipe.send((os.getpid(), sock.fileno()))
    pipe.recv()  # stay until the parent has looked

if __name__ == "__main__":
    announce("parent")
    ours, theirs = multiprocessing.Pipe()
    anywhere = ("127.0.0.1", 0)
    with socket.create_server(anywhere) as sock, socket.create_server(anywhere) as other:
        process = multiprocessing.get_context("spawn").Process(target=child, args=(theirs, sock))
        process.start()
        pid, number = ours.recv()
        for means in kernel.MEANS:
            mine = os.getpid(), sock.fileno()
            answer = kernel.same_open_file_description(*mine, pid, number, [means])
            emit(record=means, same=answer.same, reason=answer.reason)
        there = {each.inode for each in proc.read_descriptors(pid)}
        emit(other_came_too=os.fstat(other.fileno()).st_ino in there)
        xray("spawn")
        ours.send("looked")
"""

LEFT_OPEN = """\
%%python_process --name left_open --timeout 20 --into left_open
import multiprocessing, socket
from multiprocessing import util
from lab_support.notebook.script import emit

start_program = util.spawnv_passfds

def watched(path, command, numbers):
    emit(command=[*map(str, command)], left_open=sorted(numbers))
    return start_program(path, command, numbers)

if __name__ == "__main__":
    util.spawnv_passfds = watched
    with socket.create_server(("127.0.0.1", 0)) as sock:
        arguments = ("in the child:", sock)
        process = multiprocessing.get_context("spawn").Process(target=print, args=arguments)
        process.start()
        process.join()
        emit(socket=sock.fileno())
"""

EXHIBIT = """\
%%python_process --name exhibit --timeout 30 --strace --expect any --into exhibit
import multiprocessing, socket

if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as sock:
        print("the socket is descriptor", sock.fileno())
        for way in ("spawn", "forkserver"):
            process = multiprocessing.get_context(way).Process(target=print, args=(way, sock))
            process.start()
            process.join()
"""

DEFAULT = """\
import multiprocessing, sys
from lab_support.notebook.script import emit

expected = "forkserver" if sys.version_info >= (3, 14) else "fork"
emit(default=multiprocessing.get_context().get_start_method(), expected=expected)
"""


def _ways(result: ProcessResult) -> dict[str, dict[str, Any]]:
    return {event.fields["way"]: event.fields for event in result.events if "way" in event.fields}


def _last(result: ProcessResult) -> dict[str, Any]:
    return result.events[-1].fields


def _records_agree(result: ProcessResult) -> bool:
    told = [event.fields["same"] for event in result.events if "record" in event.fields]
    return True in told and False not in told


def _came_too(result: ProcessResult) -> bool:
    return next(event.fields["other_came_too"] for event in result.events if "other_came_too" in event.fields)


def _listed(result: ProcessResult) -> bool:
    """Whether the socket's number is on the list with which the child, the last program, was started."""
    lists = [event.fields["left_open"] for event in result.events if "left_open" in event.fields]
    return bool(lists) and _last(result)["socket"] in lists[-1]


_ALL_BY_FORKSERVER = changed(JOURNEY, "get_context(way)", 'get_context("forkserver")')
_ALL_BY_FORK = changed(
    JOURNEY,
    "get_context(way)",
    'get_context("fork")',
    "(theirs, None if later else sock)",
    "(theirs, sock)",
    "ours.send(sock if later else None)",
    "ours.send(None)",
)
_A_SOCKET_OF_ITS_OWN = changed(
    JOURNEY, "    sock = sock or sent\n", '    sock = socket.create_server(("127.0.0.1", 0))\n'
)
_PUT_RIGHT_ON_ARRIVAL = changed(
    JOURNEY, "    sock = sock or sent\n", "    sock = sock or sent\n    sock.set_inheritable(False)\n"
)
_ANOTHER_SOCKET = changed(
    RECORDS,
    '    announce("child")\n',
    """\
    announce("child")
    sock = socket.create_server(("127.0.0.1", 0))
""",
)

BROKEN_CLAIMS = (
    BrokenClaim(
        "pickle refuses a socket",
        PICKLED,
        changed(PICKLED, "pickle.dumps(listening_socket)", "pickle.dumps(listening_socket.getsockname())"),
        lambda result: "socket" in _last(result)["refused"],
    ),
    BrokenClaim(
        "With fork and with spawn, no message carries the socket",
        JOURNEY,
        _ALL_BY_FORKSERVER,
        lambda result: _ways(result)["fork"]["messages"] == _ways(result)["spawn"]["messages"] == 0,
    ),
    BrokenClaim(
        "With forkserver, one message carries the socket",
        JOURNEY,
        _ALL_BY_FORK,
        lambda result: _ways(result)["forkserver"]["messages"] == 1,
    ),
    BrokenClaim(
        "A socket that is sent after the start takes one message, under spawn too",
        JOURNEY,
        _ALL_BY_FORK,
        lambda result: _ways(result)["spawn (sent later)"]["messages"] == 1,
    ),
    BrokenClaim(
        "Under fork and spawn, the child finds the socket under the parent's number",
        JOURNEY,
        _ALL_BY_FORKSERVER,
        lambda result: all(_ways(result)[way]["here"] == _ways(result)[way]["there"] for way in ("fork", "spawn")),
    ),
    BrokenClaim(
        "All four ways end at the parent's own open file description",
        JOURNEY,
        _A_SOCKET_OF_ITS_OWN,
        lambda result: all(way["same"] for way in _ways(result).values()),
    ),
    BrokenClaim(
        "Spawn and forkserver hand the socket over inheritable, and fork does not",
        JOURNEY,
        _PUT_RIGHT_ON_ARRIVAL,
        lambda result: [way["inheritable"] for way in _ways(result).values()] == [False, True, True, True],
    ),
    BrokenClaim(
        "Every record that the kernel lets us read says: one open file description",
        RECORDS,
        _ANOTHER_SOCKET,
        _records_agree,
    ),
    BrokenClaim(
        "The parent's other socket did not come along",
        RECORDS,
        changed(RECORDS, '"spawn").Process', '"fork").Process'),
        lambda result: not _came_too(result),
    ),
    BrokenClaim(
        "The socket's number is on spawn's list of descriptors to leave open",
        LEFT_OPEN,
        changed(LEFT_OPEN, '"in the child:", sock)', '"in the child:", sock.fileno())'),
        _listed,
    ),
    BrokenClaim(
        "The default start method is the one that this version's documentation names",
        DEFAULT,
        changed(DEFAULT, "\nemit(", '\nmultiprocessing.set_start_method("spawn")\nemit('),
        lambda result: _last(result)["default"] == _last(result)["expected"],
    ),
)

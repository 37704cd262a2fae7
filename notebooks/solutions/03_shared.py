"""Notebook 03, third loop: what two holders of one socket share. The programs, and what breaks their claims."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, changed

SIBLING = '''\
%%python_process --name sibling --timeout 8 --into sibling
import os, socket
from lab_support.instruments import fdinfo, kernel
from lab_support.notebook.script import announce, emit

def patient(listening_socket):
    """Sleeps in accept(), twice."""
    for number in (1, 2):
        try:
            listening_socket.accept()[0].close()
            emit(accept=number, came="a client")
        except BlockingIOError as error:
            emit(accept=number, came=str(error), timeout=listening_socket.gettimeout())

announce("eager")
with socket.create_server(("127.0.0.1", 0)) as listening_socket:
    if (sibling := os.fork()) == 0:
        announce("patient")
        patient(listening_socket)
        os._exit(0)
    kernel.wait_until_asleep([sibling])
    listening_socket.setblocking(False)  # as asyncio does with a socket that it serves
    emit(flag_there=fdinfo.read_fdinfo(sibling, listening_socket.fileno()).nonblocking)
    socket.create_connection(listening_socket.getsockname()).close()
    os.waitpid(sibling, 0)
'''

TWINS = '''\
%%python_process --name twins --timeout 20 --into twins
import os, select, socket, tempfile
from lab_support.instruments.kernel import accept_queues
from lab_support.notebook.script import emit, in_child

def row(what, look, change):
    """Look, let a child change it in its own process, look again."""
    before = look()
    in_child(change)
    emit(row=what, before=str(before), after=str(look()))

sock = socket.create_server(("127.0.0.1", 0), backlog=64)
port = sock.getsockname()[1]
one, peer = socket.socketpair()
file = tempfile.TemporaryFile()
alive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
row("blocking mode", lambda: os.get_blocking(sock.fileno()), lambda: sock.setblocking(False))
row("backlog", lambda: accept_queues(port).queues[0].limit, lambda: sock.listen(7))
row("socket option", lambda: sock.getsockopt(*alive), lambda: sock.setsockopt(*alive, 1))
row("file offset", file.tell, lambda: file.seek(4))
row("Python's timeout", sock.gettimeout, lambda: sock.settimeout(5))
row("close-on-exec", sock.get_inheritable, lambda: sock.set_inheritable(True))
row("close()", lambda: len(accept_queues(port).queues), sock.close)
row("shutdown()", lambda: bool(select.select([peer], [], [], 0)[0]),
    lambda: one.shutdown(socket.SHUT_RDWR))
'''

LEFT_RUNNING = """\
import os
from lab_support.instruments import proc
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.script import emit

run = run_process("import os; os.fork()", quiet=True)
started = [process.identity for process in run.processes]
emit(running=sum(map(proc.is_running, started)), me=os.getpid())
"""


def _events(result: ProcessResult, key: str) -> dict[Any, dict[str, Any]]:
    return {event.fields[key]: event.fields for event in result.events if key in event.fields}


def _shared(result: ProcessResult, row: str) -> bool:
    told = _events(result, "row")[row]
    return bool(told["before"] != told["after"])


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
_NOTHING_DONE = changed(TWINS, "    in_child(change)\n", "    in_child(lambda: None)\n")
_DONE_HERE = changed(
    TWINS,
    "    in_child(change)\n",
    "    change()\n",
    "lambda: len(accept_queues(port).queues), sock.close)",
    "lambda: len(accept_queues(port).queues), lambda: sock.close())",
)


def _row(words: str, row: str, shared: bool) -> BrokenClaim:
    """Shared: a child that changes nothing breaks it. Each one's own: broken where the change is made here."""
    broken = _NOTHING_DONE if shared else _DONE_HERE
    return BrokenClaim(words, TWINS, broken, lambda result: _shared(result, row) == shared)


BROKEN_CLAIMS = (
    BrokenClaim(
        "The accept() that slept already is served all the same",
        SIBLING,
        _DONE_BEFORE,
        lambda result: _events(result, "accept")[1]["came"] == "a client",
    ),
    BrokenClaim(
        "The next accept() fails at once, though the Python object says that it blocks",
        SIBLING,
        _BLOCKING,
        lambda result: _events(result, "accept").get(2, {}).get("timeout", "") is None,
    ),
    BrokenClaim(
        "The kernel shows the flag in the sibling, which never set it",
        SIBLING,
        _BLOCKING,
        lambda result: True in _events(result, "flag_there"),
    ),
    _row("setblocking(False) in one process changes the other's accept()", "blocking mode", True),
    _row("One listen() changes everybody's backlog", "backlog", True),
    _row("A socket option is set for all holders", "socket option", True),
    _row("Where one process has read to, the other goes on", "file offset", True),
    _row("shutdown() ends the connection for all holders", "shutdown()", True),
    _row("Python's timeout is each object's own", "Python's timeout", False),
    _row("close-on-exec is each descriptor's own", "close-on-exec", False),
    _row("close() ends one holder's hold, and the socket lives on", "close()", False),
    BrokenClaim(
        "No process of this notebook's cells is left",
        LEFT_RUNNING,
        changed(LEFT_RUNNING, "\nemit(", "\nstarted.append(proc.read_process(os.getpid()).identity)\nemit("),
        lambda result: result.events[-1].fields["running"] == 0,
    ),
)

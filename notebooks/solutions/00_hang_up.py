"""00.2, should: the client that gets its answer and then waits for ever."""

from typing import Any

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed
from lab_support.plural import counted

HANG_UP = '''\
%%python_process --name hang_up --timeout 10 --expect any --into served
import os, signal, socket

def serve(listening_socket):
    """Runs in the server: a child of its own answers each connection."""
    clients = {}
    while True:
        connection, _ = listening_socket.accept()
        child = os.fork()
        if child == 0:
            connection.sendall(b"hello")
            os._exit(0)
        clients[child] = connection

if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        server = os.fork()
        if server == 0:
            serve(listening_socket)
        with socket.create_connection(listening_socket.getsockname(), timeout=1) as client:
            try:
                print(client.recv(100).decode(), "and then", client.recv(100) or "the server has hung up")
            except TimeoutError:
                print("hello, and then nothing: the client still waits")
        os.kill(server, signal.SIGKILL)
'''
_KEPT = "        clients[child] = connection\n"
HANG_UP_RIGHT = changed(HANG_UP, _KEPT, "        connection.close()\n", "    clients = {}\n", "")
HANG_UP_WITH = changed(
    HANG_UP,
    """\
        child = os.fork()
        if child == 0:
            connection.sendall(b"hello")
            os._exit(0)
        clients[child] = connection
""",
    """\
        with connection:
            child = os.fork()
            if child == 0:
                connection.sendall(b"hello")
                os._exit(0)
        clients[child] = "answered"
""",
)
HANG_UP_KEEPS_ADDRESSES = changed(
    HANG_UP,
    _KEPT,
    """\
        clients[child] = connection.getpeername()
        os.close(connection.detach())
""",
)

ONE_COPY = (
    "the connection ends when its last descriptor is closed, and the server itself still holds one: each process has "
    "its own, and what a child closes or takes along when it ends is the child's"
)
KEEPS_THEM = (
    "clients are let go, but the server keeps a descriptor of each connection: after about 1,000 of them (`ulimit -n`) "
    "it can accept no more"
)
TOO_EARLY = "the connection is closed before the child has its copy: first fork, then close"
SERVER_GONE = "the server ended after its first client: it is the connection that has to be closed, and nothing else"
NO_CHILD = "the server answers by itself; a child of its own is to answer each client"

HANG_UP_WRONG = (
    Wrong(
        ONE_COPY,
        changed(
            HANG_UP,
            "            os._exit(0)\n",
            """\
            connection.close()
            os._exit(0)
""",
        ),
    ),
    Wrong(ONE_COPY, changed(HANG_UP, _KEPT, _KEPT + "        os.waitpid(child, 0)\n")),
    Wrong(ONE_COPY, changed(HANG_UP, _KEPT, "", "    clients = {}\n", "")),
    Wrong(
        KEEPS_THEM,
        changed(
            HANG_UP,
            "            os._exit(0)\n",
            """\
            connection.shutdown(socket.SHUT_RDWR)
            os._exit(0)
""",
        ),
    ),
    Wrong(
        TOO_EARLY,
        changed(
            HANG_UP,
            "        child = os.fork()\n",
            """\
        connection.close()
        child = os.fork()
""",
        ),
    ),
    Wrong(
        SERVER_GONE,
        changed(
            HANG_UP_RIGHT,
            "        connection.close()",
            "        listening_socket.close()\n\
        connection.close()",
        ),
    ),
    Wrong(
        NO_CHILD,
        changed(
            HANG_UP,
            """\
        child = os.fork()
        if child == 0:
            connection.sendall(b"hello")
            os._exit(0)
        clients[child] = connection
""",
            """\
        connection.sendall(b"hello")
        connection.close()
""",
        ),
    ),
)

MEASURE_HANG_UP = '''
import os, signal, socket
from lab_support.instruments import proc
from lab_support.notebook.script import emit, inputs
import answer

def ask(address):
    """What came, and how it ended."""
    came = b""
    try:
        with socket.create_connection(address, timeout=2.5) as client:
            while piece := client.recv(100):
                came += piece
    except TimeoutError:
        return came.decode(), "waits"
    except OSError:
        return came.decode(), "refused"
    return came.decode(), "ended"

listening_socket = socket.create_server(("127.0.0.1", 0))
server = os.fork()
if server == 0:
    answer.serve(listening_socket)
    os._exit(0)
address = listening_socket.getsockname()
answers = [ask(address)]
while answers[-1] == ("hello", "ended") and len(answers) < inputs()["clients"]:
    answers.append(ask(address))
process = proc.read_process(server)
died = process is None or process.ended
kept = [] if died else [each for each in proc.read_descriptors(server) if each.kind == "socket" and each.number > 2]
emit(measured={"answers": answers, "kept": len(kept), "died": died})
os.kill(server, signal.SIGKILL)
'''
_CLIENTS = 8


def judge_hang_up(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_HANG_UP, inputs={"clients": _CLIENTS})
    good = sum(answer == ["hello", "ended"] for answer in seen["answers"])
    last, end = seen["answers"][-1]
    measured = f"{counted(good, 'client')} got hello and the end"
    if good < len(seen["answers"]):
        measured = f"client {len(seen['answers'])} got {last or 'nothing'}, {_ENDS[end]}"
    measured += (
        "; the server has ended" if seen["died"] else f"; the server holds {counted(seen['kept'], 'connection')}"
    )
    children = len(attempt.processes) - 2  # besides the client and the server
    cause = _cause_of_hang_up(seen, good, last, end) or (NO_CHILD if children < _CLIENTS else "")
    expected = f"{_CLIENTS} clients get hello and the end, each from a child, and then the server holds no connection"
    if cause:
        return failed(f"{measured}; children made: {children}", expected, cause)
    return passed(f"{_CLIENTS} clients got hello and the end, each from a child; the server holds no connection")


_ENDS = {"waits": "and waited in vain for the end", "refused": "and was refused", "ended": "and then the end"}


def _cause_of_hang_up(seen: dict[str, Any], good: int, last: str, end: str) -> str:
    findings = (
        (seen["died"], SERVER_GONE),
        (end == "waits" and last == "hello", ONE_COPY),
        (last == "", TOO_EARLY),
        (seen["kept"] > 0, KEEPS_THEM),
        (good < _CLIENTS, SERVER_GONE),
    )
    return next((cause for found, cause in findings if found), "")


EXERCISES = (
    Exercise(
        name="00.2",
        kind="should",
        task="the client gets its answer, and then waits for ever; find out why, and mend `serve`",
        skeleton=HANG_UP,
        reference=HANG_UP_RIGHT,
        also_right=(HANG_UP_WITH, HANG_UP_KEEPS_ADDRESSES),
        wrong=HANG_UP_WRONG,
        hints=(
            "The client waits for the end of the connection. When does the kernel end a connection?",
            "A fork copies the descriptor table. So after it, two processes hold a descriptor of the connection.",
            "The child's descriptor goes when the child ends. Close the server's own right after the fork: "
            "`connection.close()`.",
        ),
        judge=judge_hang_up,
    ),
)

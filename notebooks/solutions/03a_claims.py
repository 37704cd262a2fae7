"""Appendix 03a: other roads of a descriptor. The programs of its cells, and what breaks their claims."""

from typing import Any

from lab_support.notebook.cell_result import ProcessResult
from lab_support.notebook.exercises import BrokenClaim, changed

IN_FLIGHT = """\
%%python_process --name in_flight --timeout 10 --into in_flight
import os, select, socket
from lab_support.notebook.script import emit

ours, theirs = socket.socketpair()
reads, writes = os.pipe()
socket.send_fds(ours, [b"!"], [writes])
os.close(writes)  # now no process holds the pipe's write end
emit(at_its_end=select.select([reads], [], [], 0)[0] != [])
_, [arrived], _, _ = socket.recv_fds(theirs, 1, 1)
os.write(arrived, b"still there")
emit(read=os.read(reads, 100).decode())
"""

PASS_FDS = """\
%%python_process --name pass_fds --timeout 10 --into pass_fds
import os, socket, subprocess
from lab_support.notebook.script import emit

with socket.create_server(("127.0.0.1", 0)) as sock:
    place = f"/proc/self/fd/{sock.fileno()}"
    for passed in ([], [sock.fileno()]):
        done = subprocess.run(["readlink", place], pass_fds=passed, capture_output=True, text=True)
        emit(passed=len(passed), here=os.readlink(place), there=done.stdout.strip())
"""

ACTIVATION = '''\
%%python_process --name activation --timeout 15 --into activation
import os, socket, sys
from lab_support.notebook.script import emit

SERVER = """
import os, socket
assert int(os.environ["LISTEN_PID"]) == os.getpid(), "these descriptors are meant for somebody else"
for number in range(3, 3 + int(os.environ["LISTEN_FDS"])):
    with socket.socket(fileno=number) as listening_socket:
        connection, _ = listening_socket.accept()
        with connection:
            connection.sendall(b"served from descriptor %d" % number)
"""
with socket.create_server(("127.0.0.1", 0)) as sock:
    with socket.create_connection(sock.getsockname()) as client:  # no server runs yet
        if os.fork() == 0:
            os.dup2(sock.fileno(), 3)
            os.set_inheritable(3, True)
            os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
            os.execv(sys.executable, [sys.executable, "-c", SERVER])
        emit(answer=client.recv(100).decode())
    os.wait()
'''

PULLED = """\
%%python_process --name pulled --timeout 10 --into pulled
import ctypes, os, socket
from lab_support.notebook.script import emit

PIDFD_GETFD = 438  # the same on every kind of machine; Linux 5.6
ours, theirs = socket.socketpair()
if (child := os.fork()) == 0:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        theirs.send(bytes([sock.fileno()]))
        theirs.recv(1)  # it does nothing: no send, no help
        os._exit(0)
number = ours.recv(1)[0]
libc = ctypes.CDLL(None, use_errno=True)
mine = libc.syscall(PIDFD_GETFD, os.pidfd_open(child), number, 0)
why = os.strerror(ctypes.get_errno()) if mine < 0 else ""
here = os.readlink(f"/proc/self/fd/{mine}") if mine >= 0 else ""
emit(why=why, here=here, there=os.readlink(f"/proc/{child}/fd/{number}"))
ours.send(b"!")
os.wait()
"""

ADOPTED = """\
%%python_process --name adopted --timeout 20 --into adopted
import multiprocessing, socket, tempfile, zmq
from lab_support.notebook.script import emit

def child(listener, address):
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.setsockopt(zmq.USE_FD, listener.detach())
        pull.bind(address)  # it neither makes nor binds a socket: it has one
        emit(received=pull.recv().decode() if pull.poll(5000) else "")

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/door")
        listener.listen()
        with zmq.Context() as context, context.socket(zmq.PUSH) as push:
            push.setsockopt(zmq.LINGER, 0)
            push.connect(f"ipc://{folder}/door")
            push.send(b"sent before anybody served")
            process = multiprocessing.get_context("spawn").Process(
                target=child, args=(listener, f"ipc://{folder}/door")
            )
            process.start()
            process.join()
"""

LEAK = """\
%%python_process --name leak --timeout 20 --into leak
import multiprocessing, socket, time
from lab_support.notebook.script import emit

def sees_the_end(client, seconds):
    client.settimeout(seconds)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False

if __name__ == "__main__":
    for way in ("fork", "spawn"):
        with socket.create_server(("127.0.0.1", 0)) as sock:
            client = socket.create_connection(sock.getsockname())
            connection, _ = sock.accept()
            bystander = multiprocessing.get_context(way).Process(target=time.sleep, args=(60,))
            bystander.start()
            connection.close()
            ended = sees_the_end(client, 1.0)
            bystander.kill()
            bystander.join()
            emit(way=way, ended=ended, ended_without_the_bystander=ended or sees_the_end(client, 5.0))
"""

CLOSED = """\
%%python_process --name closed --timeout 20 --into closed
import multiprocessing, socket, threading
from multiprocessing.reduction import ForkingPickler
from lab_support.notebook.script import emit

def child(sock):
    emit(way="fork", came=f"a socket with the number {sock.fileno()}")

if __name__ == "__main__":
    for way in ("fork", "spawn", "forkserver"):
        sock = socket.create_server(("127.0.0.1", 0))
        process = multiprocessing.get_context(way).Process(target=child, args=(sock,))
        sock.close()  # too early: start() has not looked at it yet
        try:
            process.start()
            process.join()
        except (OSError, ValueError) as error:
            emit(way=way, came=f"{type(error).__name__}: {error}")
    before = threading.active_count()
    with socket.socket() as sock:
        ForkingPickler.dumps(sock)
    emit(new_threads=threading.active_count() - before)
"""

JOURNEY = """\
%%python_process --name journey --timeout 30 --into journey
import multiprocessing, os, socket, sys
from lab_support.instruments import audit, kernel
from lab_support.notebook.script import emit

def child(pipe, sock):
    sent = pipe.recv()
    pipe.send((os.getpid(), (sock or sent).fileno()))
    pipe.recv()

if __name__ == "__main__":
    for way, later in (("fork", False), ("spawn", False), ("forkserver", False), ("spawn", True)):
        ours, theirs = multiprocessing.Pipe()
        with socket.create_server(("127.0.0.1", 0)) as sock, audit.unix_sends() as sends:
            arguments = (theirs, None if later else sock)
            process = multiprocessing.get_context(way).Process(target=child, args=arguments)
            process.start()
            ours.send(sock if later else None)
            pid, there = ours.recv()
            same = kernel.same_open_file_description(os.getpid(), sock.fileno(), pid, there).same
            messages = sum(each.carries_descriptors is True for each in sends)
            version = sys.version.split()[0]
            emit(way=way + " (sent later)" * later, python=version, messages=messages, same=same)
            ours.send("looked")
"""


LEFT_RUNNING = """\
import os
from lab_support.instruments import proc
from lab_support.notebook.python_process import run_process
from lab_support.notebook.script import emit

run = run_process("import os; os.fork()", quiet=True)
started = [process.identity for process in run.processes]
emit(running=sum(map(proc.is_running, started)))
"""


def _told(result: ProcessResult) -> dict[str, Any]:
    return {key: value for event in result.events for key, value in event.fields.items()}


def _ways(result: ProcessResult) -> dict[str, dict[str, Any]]:
    return {event.fields["way"]: event.fields for event in result.events if "way" in event.fields}


def _arrives_there(result: ProcessResult, passed: int) -> bool:
    (told,) = (event.fields for event in result.events if event.fields["passed"] == passed)
    return bool(told["here"] == told["there"])


_NOT_SENT = changed(
    IN_FLIGHT,
    'socket.send_fds(ours, [b"!"], [writes])\n',
    "",
    "_, [arrived], _, _ = socket.recv_fds(theirs, 1, 1)\n",
    "raise SystemExit\n",
)
_A_SOCKET_OF_ITS_OWN = changed(
    ACTIVATION,
    "            os.dup2(sock.fileno(), 3)\n",
    '            os.dup2(socket.create_server(("127.0.0.1", 0)).fileno(), 3)\n',
    "        if os.fork() == 0:\n",
    "        client.settimeout(2)\n        if (server := os.fork()) == 0:\n",
    "        emit(answer=client.recv(100).decode())\n    os.wait()\n",
    """\
        try:
            emit(answer=client.recv(100).decode())
        except TimeoutError:
            emit(answer="")
    os.kill(server, 9)
""",
)
_BINDS_ANEW = changed(
    ADOPTED,
    "        pull.setsockopt(zmq.USE_FD, listener.detach())\n",
    "        listener.close()\n",
    '"ipc://{folder}/door")\n            )',
    '"ipc://{folder}/other")\n            )',
    "pull.poll(5000)",
    "pull.poll(1000)",
)

BROKEN_CLAIMS = (
    BrokenClaim(
        "A descriptor in flight keeps its object alive, though no process holds it",
        IN_FLIGHT,
        _NOT_SENT,
        lambda result: _told(result)["at_its_end"] is False,
    ),
    BrokenClaim(
        "With pass_fds the next program has the socket, under the same number",
        PASS_FDS,
        changed(PASS_FDS, "pass_fds=passed", "pass_fds=[]"),
        lambda result: _arrives_there(result, 1),
    ),
    BrokenClaim(
        "Without pass_fds it has not",
        PASS_FDS,
        changed(PASS_FDS, "pass_fds=passed", "pass_fds=[sock.fileno()]"),
        lambda result: not _arrives_there(result, 0),
    ),
    BrokenClaim(
        "A client that came before the server is served by it, from descriptor 3",
        ACTIVATION,
        _A_SOCKET_OF_ITS_OWN,
        lambda result: _told(result)["answer"] == "served from descriptor 3",
    ),
    BrokenClaim(
        "pidfd_getfd pulled the child's socket out of its table",
        PULLED,
        changed(
            PULLED,
            "mine = libc.syscall(PIDFD_GETFD, os.pidfd_open(child), number, 0)",
            'mine = socket.create_server(("127.0.0.1", 0)).detach()',
        ),
        lambda result: bool(_told(result)["why"]) or _told(result)["here"] == _told(result)["there"],
    ),
    BrokenClaim(
        "What was sent before ZeroMQ had the socket arrives",
        ADOPTED,
        _BINDS_ANEW,
        lambda result: _told(result)["received"] == "sent before anybody served",
    ),
    BrokenClaim(
        "A forked bystander keeps the client from seeing the end, until the bystander is gone",
        LEAK,
        changed(LEAK, "get_context(way)", 'get_context("spawn")'),
        lambda result: (
            [_ways(result)["fork"][key] for key in ("ended", "ended_without_the_bystander")] == [False, True]
        ),
    ),
    BrokenClaim(
        "A spawned bystander does not",
        LEAK,
        changed(LEAK, "get_context(way)", 'get_context("fork")'),
        lambda result: _ways(result)["spawn"]["ended"],
    ),
    BrokenClaim(
        "spawn and forkserver refuse a socket that is closed before start(), and fork does not notice",
        CLOSED,
        changed(CLOSED, "        sock.close() ", "        sock.fileno() "),
        lambda result: (
            [way["came"].partition(":")[0] for way in _ways(result).values()]
            == ["a socket with the number -1", "ValueError", "OSError"]
        ),
    ),
    BrokenClaim(
        "Pickling a socket on its own starts a thread",
        CLOSED,
        changed(CLOSED, "ForkingPickler.dumps(sock)", "ForkingPickler.dumps(sock.family)"),
        lambda result: _told(result)["new_threads"] == 1,
    ),
    BrokenClaim(
        "In every Python found here, the counts are the same",
        JOURNEY,
        changed(JOURNEY, "get_context(way)", 'get_context("forkserver")'),
        lambda result: [way["messages"] for way in _ways(result).values()] == [0, 0, 1, 1],
    ),
    BrokenClaim(
        "No process of this appendix is left",
        LEFT_RUNNING,
        changed(LEFT_RUNNING, "\nemit(", "\nstarted.append(proc.read_process(os.getpid()).identity)\nemit("),
        lambda result: _told(result)["running"] == 0,
    ),
)

"""00.1, must: one port, and as many API servers as are wanted."""

from typing import Any

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed
from lab_support.plural import counted

LAUNCH = '''\
%%python_process --name launch --timeout 10 --expect any --into launched
import os, signal, socket

def serve(listening_socket):
    """Runs in an API server: answers each connection with its pid, for ever."""
    while True:
        connection, _ = listening_socket.accept()
        with connection:
            connection.sendall(b"%d" % os.getpid())

def launch(count):
    """Start `count` API servers at one port. Returns the listening socket and their pids."""
    listening_socket = socket.create_server(("127.0.0.1", 0))
    pids = [os.fork()]          # one API server: change this, so that `count` of them start
    if pids[0] == 0:
        serve(listening_socket)
    return listening_socket, pids

if __name__ == "__main__":
    listening_socket, pids = launch(3)
    with socket.create_connection(listening_socket.getsockname()) as connection:
        answered = int(connection.recv(100)) in pids
    print(f"API servers started: {len(pids)}; one of them answered: {answered}")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
'''

_ONE = """\
    pids = [os.fork()]          # one API server: change this, so that `count` of them start
    if pids[0] == 0:
        serve(listening_socket)
"""
_BIND = '    listening_socket = socket.create_server(("127.0.0.1", 0))\n'
LAUNCH_RIGHT = changed(
    LAUNCH,
    _ONE,
    """\
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            serve(listening_socket)
        pids.append(pid)
""",
)
LAUNCH_WITH_MULTIPROCESSING = changed(
    LAUNCH,
    _ONE,
    """\
    fork = multiprocessing.get_context("fork")
    servers = [fork.Process(target=serve, args=(listening_socket,), daemon=True) for _ in range(count)]
    for server in servers:
        server.start()
    pids = [server.pid for server in servers]
""",
    "import os, signal",
    "import multiprocessing, os, signal",
)
LAUNCH_WITH_SPAWN = changed(LAUNCH_WITH_MULTIPROCESSING, 'get_context("fork")', 'get_context("spawn")')
LAUNCH_WITH_NEW_PROGRAMS = changed(
    LAUNCH,
    _ONE,
    """\
    number = listening_socket.fileno()
    command = [sys.executable, __file__, str(number)]
    pids = [subprocess.Popen(command, pass_fds=[number]).pid for _ in range(count)]
""",
    'if __name__ == "__main__":\n',
    """\
if __name__ == "__main__" and sys.argv[1:]:
    serve(socket.socket(fileno=int(sys.argv[1])))
elif __name__ == "__main__":
""",
    "signal, socket",
    "signal, socket, subprocess, sys",
)

OWN_PORTS = "each API server binds a port of its own: bind once, before you fork, and let the children have that socket"
OWN_SOCKETS = (
    "each API server has a socket of its own at the same port (SO_REUSEPORT): that is several queues of connections, "
    "and a connection in one is not seen by the others; bind once"
)
FORKS_TOO = "a child goes on in the loop and forks as well: after a fork, two processes run the next line"
TOO_FEW = "fewer API servers start than `count` says"
ENDED = "an API server ended at once: was the socket still open in the launcher when it forked?"
WRONG_PIDS = "the pids that `launch` returns are not those of the API servers: the parent gets them from `fork`"
WRONG_RETURN = "`launch` has to return two things: the listening socket, and a list of the API servers' pids"
NO_ANSWER = "nobody accepts at that port: the API servers have to call `serve` with the listening socket"

LAUNCH_WRONG = (
    Wrong(
        OWN_PORTS,
        changed(
            LAUNCH_RIGHT,
            "            serve(listening_socket)\n",
            """\
            serve(socket.create_server(("127.0.0.1", 0)))
""",
        ),
    ),
    Wrong(
        OWN_SOCKETS,
        changed(
            LAUNCH_RIGHT,
            'socket.create_server(("127.0.0.1", 0))\n',
            'socket.create_server(("127.0.0.1", 0), reuse_port=True)\n',
            "            serve(listening_socket)\n",
            "            serve(socket.create_server(listening_socket.getsockname(), reuse_port=True))\n",
        ),
    ),
    Wrong(
        FORKS_TOO,
        changed(
            LAUNCH,
            _ONE,
            """\
    pids = []
    for _ in range(count):
        pids.append(os.fork())
    if pids[-1] == 0:
        serve(listening_socket)
""",
        ),
    ),
    Wrong(TOO_FEW, changed(LAUNCH_RIGHT, "range(count)", "range(1, count)")),
    Wrong(ENDED, changed(LAUNCH_RIGHT, "    pids = []\n", "    pids = []\n    listening_socket.close()\n")),
    Wrong(WRONG_PIDS, changed(LAUNCH_RIGHT, "append(pid)", "append(os.getpid())")),
)

MEASURE_LAUNCH = """
import os, signal, socket, time
from lab_support.instruments import proc
from lab_support.notebook.script import emit, inputs
import answer

LAUNCHER = os.getpid()

def servers():
    return [each for each in proc.process_tree(LAUNCHER) if each.pid != LAUNCHER and not each.ended]

def wait_until_they_sleep():
    looks, deadline = 0, time.monotonic() + 5
    while looks < 3 and time.monotonic() < deadline:
        looks = looks + 1 if all(each.state == "S" for each in servers()) else 0
        time.sleep(0.02)

def sockets_of(pid):
    return {each.inode for each in proc.read_descriptors(pid) if each.kind == "listening socket"}

def is_answered(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2.5) as connection:
            return bool(connection.recv(100))
    except OSError:
        return False

returned = answer.launch(inputs()["count"])
if os.getpid() != LAUNCHER:
    signal.pause()                          # a child that came back from launch
try:
    _, pids = returned
    pids = list(pids)
except (TypeError, ValueError):
    emit(measured={"returned": type(returned).__name__})
else:
    wait_until_they_sleep()
    held = {each.pid: sockets_of(each.pid) for each in servers()}
    everywhere = set().union(*held.values(), sockets_of(LAUNCHER))
    ports = {proc.listening_sockets()[inode].port for inode in everywhere}
    emit(measured={
        "alive": len(held),
        "holding": sum(bool(inodes) for inodes in held.values()),
        "strangers": sum(bool(inodes) and pid not in pids for pid, inodes in held.items()),
        "pids": len(set(pids)),
        "known": len(set(pids) & set(held)),
        "sockets": len(everywhere),
        "ports": len(ports),
        "answered": len(ports) == len(everywhere) == 1 and is_answered(*ports),
    })
for each in servers():
    os.kill(each.pid, signal.SIGKILL)
"""
_SERVERS = 3


def judge_launch(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_LAUNCH, inputs={"count": _SERVERS})
    expected = f"launch({_SERVERS}): {_SERVERS} API servers run, and all hold one listening socket"
    if "returned" in seen:
        return failed(f"`launch` returned {seen['returned']}", expected, WRONG_RETURN)
    measured = (
        f"launch({_SERVERS}): {counted(seen['alive'], 'API server')} run, {seen['holding']} of them with a listening "
        f"socket; {counted(seen['sockets'], 'listening socket')} at {counted(seen['ports'], 'port')}; "
        f"{counted(seen['pids'], 'pid')} returned"
    )
    cause = _cause_of_launch(seen)
    return (
        failed(measured, expected, cause)
        if cause
        else passed(
            f"launch({_SERVERS}): {_SERVERS} API servers hold one listening socket, one kernel object, and one answers"
        )
    )


def _cause_of_launch(seen: dict[str, Any]) -> str:
    """What comes first explains what comes after."""
    findings = (
        (seen["ports"] > 1, OWN_PORTS),
        (seen["sockets"] > 1, OWN_SOCKETS),
        (seen["alive"] >= _SERVERS and seen["known"] == 0, WRONG_PIDS),
        (seen["strangers"] > 0, FORKS_TOO),
        (seen["pids"] >= _SERVERS > seen["holding"], ENDED),
        (seen["known"] < _SERVERS, TOO_FEW),
        (not seen["answered"], NO_ANSWER),
    )
    return next((cause for found, cause in findings if found), "")


EXERCISES = (
    Exercise(
        name="00.1",
        kind="must",
        task="change `launch` so that it starts `count` API servers that answer at one port",
        skeleton=LAUNCH,
        reference=LAUNCH_RIGHT,
        also_right=(LAUNCH_WITH_MULTIPROCESSING, LAUNCH_WITH_SPAWN, LAUNCH_WITH_NEW_PROGRAMS),
        wrong=LAUNCH_WRONG,
        hints=(
            "How many times is the port bound, and how many times does the program fork? One of the two should change.",
            "After `os.fork()` two processes run the next line. The child gets 0 and must not go on in your loop.",
            "Put the fork in a loop over `range(count)`. In the child call `serve`, which never returns; in the parent "
            "append the pid to `pids`.",
        ),
        judge=judge_launch,
    ),
)

"""00.3, could: who holds a port, from /proc alone."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

WHO_HOLDS = '''\
def who_holds(port):
    """The pids of the processes that hold a descriptor of the socket that listens on `port`."""
    # /proc/net/tcp has a line for each socket: second field ADDRESS:PORT in hex, fourth 0A if it listens, tenth inode.
    # /proc/PID/fd/ has a link for each descriptor of a process, such as "socket:[INODE]".
    return set()


who_holds(server.port)
'''
WHO_HOLDS_RIGHT = '''\
import glob
import os
from pathlib import Path


def who_holds(port):
    """The pids of the processes that hold a descriptor of the socket that listens on `port`."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    links = {f"socket:[{line[9]}]" for line in lines if line[3] == "0A" and int(line[1].split(":")[1], 16) == port}
    holders = set()
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(path) in links:
                holders.add(int(path.split("/")[2]))
        except OSError:
            continue                # closed meanwhile, or another user's
    return holders
'''
WHO_HOLDS_BY_STAT = """\
import os
import stat


def listening_inodes(port):
    with open("/proc/net/tcp") as table:
        next(table)
        fields = [line.split() for line in table]
    return {int(each[9]) for each in fields if each[1].endswith(f":{port:04X}") and each[3] == "0A"}


def holds(pid, inodes):
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            status = os.stat(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:
            continue
        if stat.S_ISSOCK(status.st_mode) and status.st_ino in inodes:
            return True
    return False


def who_holds(port):
    inodes, found = listening_inodes(port), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found += [int(pid)] if holds(pid, inodes) else []
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
    return found
"""
WHO_HOLDS_WITH_INSTRUMENTS = """\
from lab_support.instruments import proc


def who_holds(port):
    return {holder.process.pid for holder in proc.holders_of_listening_socket(port)}
"""

NOT_LISTENING = (
    "a process that only has a connection at that port is named too: its socket is another kernel object, and "
    "its state in /proc/net/tcp is not 0A"
)
BY_NUMBER = (
    "descriptor numbers were compared, and these are each process's own: compare what they lead to, the inode in the "
    "link"
)
NOBODY_FOUND = "no socket was found at the port: /proc/net/tcp writes ports in hex, four digits"
ONLY_ITSELF = "only the process that asks was looked at (/proc/self): look at every number in /proc"
NOT_ITSELF = (
    "the process that asks is left out: listing its own /proc/PID/fd opens a descriptor that is gone when its link is "
    "read, so that one link's OSError must not end the look at a whole process"
)
OTHERS = "compare the inode of the listening socket with every link of every process"

_LOOK = """\
    for path in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(path) in links:
                holders.add(int(path.split("/")[2]))
"""
WHO_HOLDS_WRONG = (
    Wrong(NOT_LISTENING, changed(WHO_HOLDS_RIGHT, 'line[3] == "0A" and ', "")),
    Wrong(
        NOBODY_FOUND,
        changed(WHO_HOLDS_RIGHT, 'int(line[1].split(":")[1], 16) == port', 'line[1].endswith(f":{port}")'),
    ),
    Wrong(ONLY_ITSELF, changed(WHO_HOLDS_RIGHT, '"/proc/[0-9]*/fd/*"', 'f"/proc/{os.getpid()}/fd/*"')),
    Wrong(
        NOT_ITSELF,
        changed(
            WHO_HOLDS_RIGHT,
            _LOOK,
            """\
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if links & {os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}:
                holders.add(int(pid))
""",
        ),
    ),
    Wrong(
        BY_NUMBER,
        changed(
            WHO_HOLDS_RIGHT,
            "    holders = set()\n",
            """\
    holders = set()
    mine = [path for path in glob.glob("/proc/self/fd/*") if os.path.exists(path) and os.readlink(path) in links]
    numbers = [path.split("/")[-1] for path in mine]
""",
            "if os.readlink(path) in links:",
            """\
if path.split("/")[-1] in numbers and os.readlink(path).startswith("socket:"):""",
        ),
    ),
)

MEASURE_WHO_HOLDS = """
import os, signal, socket
from lab_support.notebook.script import emit
import answer

names = {os.getpid(): "launcher"}
ready, told = os.pipe()

def start(name, work):
    pid = os.fork()
    if pid == 0:
        work()
        os.write(told, b"!")
        signal.pause()
    names[pid] = name
    os.read(ready, 1)

listening_socket = socket.create_server(("127.0.0.1", 0))
address = listening_socket.getsockname()
client = socket.create_connection(address)
accepted, _ = listening_socket.accept()

def under_another_number():
    os.dup2(listening_socket.fileno(), 77)
    listening_socket.close()

def the_connection_alone():
    listening_socket.close()
    client.close()

def a_socket_of_its_own():
    number = listening_socket.fileno()
    listening_socket.close(), client.close(), accepted.close()
    own = socket.create_server(("127.0.0.1", 0))
    os.dup2(own.fileno(), number)
    own.detach()

def none():
    listening_socket.close(), client.close(), accepted.close()

start("api-0", lambda: None)
start("api-1", under_another_number)
start("holder of a connection", the_connection_alone)
start("owner of another socket", a_socket_of_its_own)
start("holder of nothing", none)
found = answer.who_holds(address[1])
listening_socket.close()
with socket.create_server(("127.0.0.1", 0)) as gone:
    free = gone.getsockname()[1]
nobody = answer.who_holds(free)
try:
    told_names = sorted({names.get(int(pid), "a stranger") for pid in found})
    emit(measured={"found": told_names, "at_a_free_port": len(list(nobody))})
except TypeError:
    emit(measured={"returned": type(found).__name__})
for pid in list(names)[1:]:
    os.kill(pid, signal.SIGKILL)
"""
_HOLDERS = ["api-0", "api-1", "launcher"]


def judge_who_holds(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_WHO_HOLDS)
    expected = f"held by {', '.join(_HOLDERS)}; nobody at a free port"
    if "returned" in seen:
        return failed(f"`who_holds` returned {seen['returned']}", "a set or list of pids", OTHERS)
    found, free = seen["found"], seen["at_a_free_port"]
    measured = f"held by {', '.join(found) or 'nobody'}; {free or 'nobody'} at a free port"
    if found == _HOLDERS and not free:
        return passed(measured)
    return failed(measured, expected, _cause_of_who_holds(found))


def _cause_of_who_holds(found: list[str]) -> str:
    findings = (
        (not found, NOBODY_FOUND),
        (found == ["launcher"], ONLY_ITSELF),
        (found == _HOLDERS[:2], NOT_ITSELF),
        ("owner of another socket" in found or "api-1" not in found, BY_NUMBER),
        ("holder of a connection" in found, NOT_LISTENING),
    )
    return next((cause for holds, cause in findings if holds), OTHERS)


EXERCISES = (
    Exercise(
        name="00.3",
        kind="could",
        task="write `who_holds(port)`; /proc has all that it needs",
        skeleton=WHO_HOLDS,
        reference=WHO_HOLDS_RIGHT,
        also_right=(WHO_HOLDS_BY_STAT, WHO_HOLDS_WITH_INSTRUMENTS),
        wrong=WHO_HOLDS_WRONG,
        hints=(
            "Two steps: which inode has the socket that listens on the port, and who has a link to that inode?",
            "`cat /proc/net/tcp` in a terminal. Port 8000 is written 1F40, and the state of a listening socket is 0A.",
            "For every number in /proc, read the links in /proc/PID/fd with `os.readlink`. A process may end while you "
            "look, and others are not yours: go on at an `OSError`.",
        ),
        judge=judge_who_holds,
    ),
)

"""Small programs that are up to no good, each with what a cell that runs it must show all the same."""

import random
from collections.abc import Callable
from dataclasses import dataclass

FIRST = "print('first')\n"
PARENTS = """
import os, signal, time
def parent(pid):
    return int(open(f"/proc/{pid}/stat", "rb").read().rpartition(b")")[2].split()[1])
supervisor = os.getppid()
guard = parent(supervisor)
"""
SUPERVISED = ("0", "timeout", "supervisor")
ENDLESS, ENDLESS_IN_SHORT = 3.0, 1.0  # seconds for what does not end by itself


@dataclass(frozen=True)
class Hostile:
    """outcomes: how it may end. letters, events: how many of its output and of its events there must be at least.

    The first line is always "first"; "made NAME" reports a name that it has created in /dev/shm.
    """

    kind: str
    source: str
    outcomes: tuple[str, ...]
    timeout: float = ENDLESS
    letters: int = 6
    events: int = 0


Maker = Callable[[random.Random, bool], Hostile]


def endless_line(chance: random.Random, _: bool) -> Hostile:
    size = chance.choice((1, 7, 200, 5000, 100_000))
    return Hostile("endless line", f"while True: print('.' * {size}, end='')", ("timeout", "output"), letters=1000)


def endless_lines_of_many(chance: random.Random, _: bool) -> Hostile:
    source = f"import os\nfor _ in range({chance.randint(1, 4)}): os.fork()\nwhile True: os.write(1, b'-' * 999)"
    return Hostile("endless lines of many", source, ("timeout", "output"), letters=1000)


def endless_beside_ends(chance: random.Random, _: bool) -> Hostile:
    """The output of one is read when it ends, while others still write."""
    source = """
import os
for _ in range(8):  # a message has one sender: the reader takes one letter at a time
    if os.fork() == 0:
        while True: os.write(1, b"-")
while True:
    if os.fork() == 0: os._exit(0)
    os.wait()
"""
    return Hostile("endless beside ends", source, ("timeout", "output"), letters=1000)


def binary(chance: random.Random, _: bool) -> Hostile:
    bytes_ = chance.choice(("os.urandom(4096)", "bytes(65536)", r"b'\xf0\x9f\x98' * 999", r"b'\r\x1b[31m'", r"b'\n'"))
    return Hostile("binary", f"import os\nwhile True: os.write(2, {bytes_})", ("timeout", "output"))


def progress(chance: random.Random, _: bool) -> Hostile:
    return Hostile("progress", "n = 0\nwhile True:\n    n += 1\n    print(n, end='\\r')", ("timeout", "output"))


def many_events(chance: random.Random, full: bool) -> Hostile:
    count = 100_000 if full else 5000
    source = f"from lab_support.notebook.script import emit\nfor number in range({count}): emit(number=number)"
    return Hostile("many events", source, ("0",), timeout=90, events=count)


def endless_events(chance: random.Random, _: bool) -> Hostile:
    size = chance.choice((1, 1000, 99_000))
    source = f"from lab_support.notebook.script import emit\nwhile True: emit(x='x' * {size})"
    return Hostile("endless events", source, ("timeout", "output"), events=10)


def odd_messages(chance: random.Random, _: bool) -> Hostile:
    source = """
import os, socket
from lab_support.notebook.script import emit
for size in (1, 65_000, 70_000, 99_000):
    emit(x="a" * size)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as events:
    events.connect(os.environ["LAB_CELL"] + "/events")
    for odd in (b"", b"\\xff", b"null", b"[]", b"{}", b"[" * 90_000, b"1" * 90_000, b"z" * 200_000,
                b'{"at": NaN, "event": {}}', b'{"at": 1, "event": []}', b'{"at": 1e999, "name": "x"}',
                b'{"at": 1, "made": "fork", "parent": [], "command": ""}', b'{"at": 1, "event": {"x":' + b"[" * 990,
                b'{"at": 1, "event": {"x":' + b"[" * 400 + b"]" * 400 + b"}}",
                b'{"at": 1, "made": "exec", "parent": -1, "command": "zz"}', b'{"at": 1, "name": "a\\\\nb\\\\ud800"}'):
        events.send(odd)
"""
    return Hostile("odd messages", source, ("0",), events=4)


def closed_descriptors(chance: random.Random, _: bool) -> Hostile:
    end = chance.choice(("", "signal.pause()", "os.kill(os.getpid(), 9)", "os.abort()", "os.fork(); signal.pause()"))
    source = f"import os, signal\nos.closerange(0, 100)\n{end}"
    return Hostile("closed descriptors", source, ("0", "timeout", "-9", "-6"))


def shut_sockets(chance: random.Random, _: bool) -> Hostile:
    source = "import os, socket, time\nfor number in (1, 2): socket.socket(fileno=os.dup(number)).shutdown(HOW)\nEND"
    end = chance.choice(("", "time.sleep(60)"))
    how = str(chance.choice((0, 1, 2)))
    return Hostile("shut sockets", source.replace("HOW", how).replace("END", end), ("0", "1", "timeout"))


def stopped(chance: random.Random, _: bool) -> Hostile:
    """The supervisor, the guard or both stand still; at times again and again."""
    whom = chance.choice(("(guard,)", "(supervisor,)", "(supervisor, guard)"))
    source = f"{PARENTS}\nfor pid in {whom}: os.kill(pid, signal.SIGSTOP)\n" + chance.choice(("", "time.sleep(60)"))
    return Hostile(f"stopped {whom}", source, SUPERVISED)


def stopped_for_ever(chance: random.Random, _: bool) -> Hostile:
    source = f"{PARENTS}\nwhile True:\n    for pid in (supervisor, guard): os.kill(pid, signal.SIGSTOP)"
    return Hostile("stopped again and again", source, SUPERVISED)


def killed(chance: random.Random, _: bool) -> Hostile:
    """Both are stopped first: a supervisor that kills them one after the other can't do it in another order."""
    whom = chance.choice(("(guard,)", "(supervisor,)", "(supervisor, guard)"))
    source = f"{PARENTS}\nif os.fork() == 0: os.setsid()\nif os.fork() == 0: os.fork()\ntime.sleep(0.2)\n"
    ends = "for number in (19, 9):\n    for pid in WHOM: os.kill(pid, number)\ntime.sleep(60)".replace("WHOM", whom)
    return Hostile(f"killed {whom}", source + ends, ("supervisor",), timeout=30)


def sent_descriptors(chance: random.Random, _: bool) -> Hostile:
    source = f"""
import array, os, socket
rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * {chance.choice((1, 2, 100))}))]
with socket.socket(fileno=os.dup(1)) as stdout, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as events:
    events.connect(os.environ["LAB_CELL"] + "/events")
    for _ in range(1500):
        stdout.sendmsg([b"x\\n"], rights)
        events.sendmsg([b"x"], rights)
print("held", len(os.listdir(f"/proc/{{os.getppid()}}/fd")) < 40)
"""
    return Hostile("sent descriptors", source, ("0",), timeout=30, letters=3000)


def shared_memory(chance: random.Random, _: bool) -> Hostile:
    end = chance.choice(("time.sleep(60)", "os._exit(0)", "os.abort()", "os.kill(0, 9)", ""))
    tracker = chance.choice(("", "os.kill(resource_tracker._resource_tracker._pid, 9)"))
    close = chance.choice(("", "memory.close()"))
    source = f"""
import multiprocessing, os, time
from multiprocessing import resource_tracker, shared_memory
if __name__ == "__main__":
    memory = shared_memory.SharedMemory(create=True, size=1 << 20)
    print("made", memory.name)
    locks = [multiprocessing.get_context("spawn").Lock() for _ in range(6)]
    for lock in locks:
        print("made", "sem." + lock._semlock.name[1:])
    time.sleep(0.5)
    {tracker}
    {close}
    {end}
"""
    return Hostile("shared memory", source, ("0", "timeout", "-6", "-9", "leftover"))


def odd_names(chance: random.Random, _: bool) -> Hostile:
    source = """
import ctypes, os, signal
for number in range(3):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, [b"\\xff\\xfe) S 1 (", b"strace", b"\\n\\n"][number], 0, 0, 0)
        if os.fork() == 0:
            print("named")
        signal.pause()
os.wait()
"""
    return Hostile("odd names", source, ("timeout",))


def deaf(chance: random.Random, _: bool) -> Hostile:
    """It does not end at the deadline, but writes the more."""
    source = """
import os, signal
def write(*_):
    while True: os.write(2, b"!" * 4096)
for number in (signal.SIGABRT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, write)
os.fork()
signal.pause()
"""
    return Hostile("deaf", source, ("timeout",))


MAKERS: tuple[Maker, ...] = (
    endless_line,
    endless_lines_of_many,
    endless_beside_ends,
    binary,
    progress,
    many_events,
    endless_events,
    odd_messages,
    closed_descriptors,
    shut_sockets,
    stopped,
    stopped_for_ever,
    killed,
    sent_descriptors,
    shared_memory,
    odd_names,
    deaf,
)


def make(maker: Maker, chance: random.Random, full: bool) -> Hostile:
    """full: with 10^5 events, and three times as long where there is no other end."""
    program = maker(chance, full)
    return Hostile(
        program.kind,
        FIRST + program.source,
        program.outcomes,
        ENDLESS_IN_SHORT if program.timeout == ENDLESS and not full else program.timeout,
        program.letters,
        program.events,
    )

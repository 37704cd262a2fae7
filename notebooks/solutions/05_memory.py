"""05.3, could: the memory of an array for another process, without a copy of it."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

MEMORY = '''\
%%python_process --name memory --timeout 10 --expect any --into memory
import os, socket

def give(channel, count):
    """Make `count` bytes of memory, let the other process have it, and return a view of it."""
    memory = memoryview(bytearray(count))
    channel.sendall(memory)                             # the bytes, so a copy of them: change this
    return memory

def take(channel, count):
    """Runs in another process: return a view of the memory that was given."""
    return memoryview(bytearray(channel.recv(count, socket.MSG_WAITALL)))

if __name__ == "__main__":
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        there = take(theirs, 8)
        there[0] = 7
        theirs.send(b"written")
        os._exit(0)
    here = give(ours, 8)
    ours.recv(7)
    print("the other process wrote 7; here stands", here[0])
'''
_GIVE = """\
    memory = memoryview(bytearray(count))
    channel.sendall(memory)                             # the bytes, so a copy of them: change this
    return memory
"""
_TAKE = "    return memoryview(bytearray(channel.recv(count, socket.MSG_WAITALL)))\n"
_MAP = "    return memoryview(mmap.mmap(number, count))\n"
_MADE = """\
    number = os.memfd_create("memory")
    os.ftruncate(number, count)
"""
_SENT = '    socket.send_fds(channel, [b"!"], [number])\n'
_TAKEN = "    _, [number], _, _ = socket.recv_fds(channel, 1, 1)\n"

_IMPORT = ("import os, socket\n", "import mmap, os, socket\n")
MEMORY_RIGHT = changed(MEMORY, *_IMPORT, _GIVE, _MADE + _SENT + _MAP, _TAKE, _TAKEN + _MAP)
MEMORY_BY_FILE = changed(
    MEMORY,
    "import os, socket\n",
    "import mmap, os, socket, tempfile\nfrom multiprocessing import reduction\n",
    _GIVE,
    """\
    with tempfile.TemporaryFile() as file:              # it has no name
        file.truncate(count)
        reduction.send_handle(channel, file.fileno(), None)
        return memoryview(mmap.mmap(file.fileno(), count))
""",
    _TAKE,
    """\
    number = reduction.recv_handle(channel)
    memory = mmap.mmap(number, count)
    os.close(number)                                    # the mapping stays
    return memoryview(memory)
""",
)
MEMORY_BY_HAND = changed(
    MEMORY_RIGHT,
    "import mmap, os, socket\n",
    "import array, mmap, os, socket\n",
    _SENT,
    '    channel.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [number]))])\n',
    _TAKEN,
    """\
    _, [(_, _, rights)], _, _ = channel.recvmsg(1, socket.CMSG_LEN(4))
    [number] = array.array("i", rights)
""",
)

COPIED = "what one process writes does not show in the other: both have memory of their own, with the same bytes in it"
ONE_WAY = (
    "the one who took the memory sees what is in it, but its own writes go into a private copy: the mapping has to be "
    "shared on both sides"
)
NAME_LEFT = "a name for the memory is left behind: a descriptor needs none, and whoever knows the name can open it"
MORE = "both use more memory together than there was to share: somewhere there is a copy"

MEMORY_WRONG = (
    Wrong(
        COPIED,
        changed(
            MEMORY,
            _GIVE,
            """\
    memory = bytearray(count)
    with channel.makefile("wb") as file:
        file.write(memory)
    return memoryview(memory)
""",
        ),
    ),
    Wrong(
        ONE_WAY, changed(MEMORY_RIGHT, _TAKEN + _MAP, _TAKEN + _MAP.replace("count)", "count, flags=mmap.MAP_PRIVATE)"))
    ),
    Wrong(
        COPIED,
        changed(
            MEMORY_RIGHT, _MADE + _SENT + _MAP, _MADE + _SENT + _MAP.replace("count)", "count, flags=mmap.MAP_PRIVATE)")
        ),
    ),
    Wrong(
        COPIED,
        changed(MEMORY_RIGHT, _TAKEN + _MAP, f"{_TAKEN}    return memoryview(bytearray(os.pread(number, count, 0)))\n"),
    ),
    Wrong(
        NAME_LEFT,
        changed(
            MEMORY_RIGHT,
            _MADE + _SENT,
            """\
    number = os.open("/dev/shm/the-memory", os.O_RDWR | os.O_CREAT)
    os.ftruncate(number, count)
    channel.sendall(b"!")
""",
            _TAKEN,
            """\
    channel.recv(1)
    number = os.open("/dev/shm/the-memory", os.O_RDWR)
""",
        ),
    ),
)

MEASURE_MEMORY = """
import os, signal, socket
from lab_support.instruments import proc
from lab_support.notebook.script import emit
import answer

COUNT = 32_000_000
ours, theirs = socket.socketpair()
here_control, there_control = socket.socketpair()
names = set(os.listdir("/dev/shm"))

def touch(memory):
    for place in range(4096, COUNT - 8192, 4096):         # not where both will write
        memory[place] |= 0                              # a page that nobody has touched is not there yet
    return memory

if (child := os.fork()) == 0:
    try:
        here_control.close(), ours.close()
        memory = touch(answer.take(theirs, COUNT))
        there_control.send(b"taken")
        there_control.recv(1)
        there_control.send(bytes([memory[5], memory[COUNT - 1]]))
        there_control.recv(1)
        memory[6] = 66
        there_control.send(b"!")
        signal.pause()
    finally:
        os._exit(1)
there_control.close()
theirs.close()
here_control.settimeout(5)
pss = lambda: sum(proc.read_memory(pid).pss for pid in (os.getpid(), child))
before = pss()
memory = touch(answer.give(ours, COUNT))
said = here_control.recv(5)
if said == b"taken":
    after = pss()
    memory[5], memory[COUNT - 1] = 55, 54
    here_control.send(b"!")
    seen_there = [*here_control.recv(2)] == [55, 54]
    here_control.send(b"!")
    here_control.recv(1)
    left = sorted(set(os.listdir("/dev/shm")) - names)
    emit(measured={"there": seen_there, "here": memory[6] == 66, "times": (after - before) / COUNT, "left": left})
    for name in left:
        os.unlink(f"/dev/shm/{name}")
os.kill(child, signal.SIGKILL)
"""


def judge_memory(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_MEMORY, timeout=8.0)
    measured = (
        f"a write here {'shows' if seen['there'] else 'does not show'} there, a write there "
        f"{'shows' if seen['here'] else 'does not show'} here; both together use {seen['times']:.1f} times the memory"
    )
    expected = "each sees what the other writes, both together use the memory once, and no name is left"
    findings = (
        (not seen["there"], COPIED),
        (not seen["here"], ONE_WAY),
        (bool(seen["left"]), NAME_LEFT),
        (seen["times"] > 1.5, MORE),
    )
    if cause := next((cause for found, cause in findings if found), ""):
        return failed(measured + (f"; left: {', '.join(seen['left'])}" if seen["left"] else ""), expected, cause)
    return passed(measured)


EXERCISES = (
    Exercise(
        name="05.3",
        kind="could",
        task="let another process have the same memory, by its descriptor, so that each sees what the other writes",
        skeleton=MEMORY,
        reference=MEMORY_RIGHT,
        also_right=(MEMORY_BY_FILE, MEMORY_BY_HAND),
        wrong=MEMORY_WRONG,
        hints=(
            "Which kernel object is memory, and has a descriptor? `os.memfd_create` makes one; it begins empty.",
            "`os.ftruncate` gives it a length, `mmap.mmap(number, count)` makes it addressable, in both processes.",
            "`give`: make, `ftruncate`, `socket.send_fds(channel, [b'!'], [number])`, map. `take`: "
            "`socket.recv_fds`, map. Both return `memoryview(mmap.mmap(number, count))`.",
        ),
        judge=judge_memory,
    ),
)

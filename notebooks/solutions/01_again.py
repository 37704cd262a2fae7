"""The predictions of notebook 01 that can be asked again, with other data and other things."""

from collections.abc import Mapping
from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found
from lab_support.notebook.moves.exercises import cell, changed
from lab_support.notebook.page.tables import Table

# ---- memory: another kind, another number

KINDS = {
    "lists with one number each": "[[n] for n in range({count})]",
    "lists with ten numbers each": "[[n] * 10 for n in range({count})]",
    "dictionaries with one entry each": '[{{"n": n}} for n in range({count})]',
    "strings": "[str(n) for n in range({count})]",
    "floating-point numbers in a list": "[float(n) for n in range({count})]",
    "entries of one list, all of them the same string": '["the same"] * {count}',
    "numbers in one array": 'array.array("d", range({count}))',
}


def draw_data(random: Random) -> dict[str, Any]:
    kind = random.choice(sorted(KINDS))
    return {"kind": kind, "count": random.choice((500_000, 750_000, 1_000_000))}


def data_in_words(given: Mapping[str, Any]) -> str:
    return f"the part that a child copies of {given['count']:,} {given['kind']}, by going through them once"


PARTS = {"a": "next to nothing", "b": "about a third", "c": "about half", "d": "most of it, or all"}


def read_them(given: Mapping[str, Any]) -> str:
    source = cell("01", "reading")
    kinds = source[source.index("kinds = {") : source.index("for kind, make")]
    made = KINDS[given["kind"]].format(count=given["count"])
    return changed(source, kinds, f'kinds = {{"it": lambda: {made}}}\n')


def part_of_data(result: ProcessResult, given: Mapping[str, Any]) -> Found:
    seen = result.told
    copied = seen["end"] - seen["start"]
    row = (f"{given['count']:,} {given['kind']}", f"{seen['size']:.0f} MB", f"{copied:.1f} MB")
    return Found(
        measured=copied / seen["size"], shown=Table(("the parent's data", "size", "copied by the child"), (row,))
    )


def letter_of_part(part: float, given: Mapping[str, Any]) -> str:
    return "a" if part < 0.15 else "b" if part < 0.45 else "c" if part < 0.67 else "d"


# ---- copied, shared, lost, or new: another thing

HOWS = {"a": "copied", "b": "shared", "c": "lost", "d": "new"}
_BEGIN = """\
import fcntl, os, resource, signal, socket, tempfile, threading, contextvars, multiprocessing
from lab_support.notebook.script import emit, in_child
"""
THINGS = {
    "the umask": """
os.umask(0o27)
seen = in_child(lambda: os.umask(0o77))
emit(how="lost" if seen != 0o27 else "copied" if os.umask(0) == 0o27 else "shared")
""",
    "the current folder": """
os.chdir("/usr")
seen = in_child(lambda: [os.getcwd(), os.chdir("/")][0])
emit(how="lost" if seen != "/usr" else "copied" if os.getcwd() == "/usr" else "shared")
""",
    "the limit on open files": """
resource.setrlimit(resource.RLIMIT_NOFILE, (99, 999))
def lower():
    seen = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (88, 888))
    return seen
seen, now = in_child(lower), resource.getrlimit(resource.RLIMIT_NOFILE)
emit(how="lost" if seen != [99, 999] else "copied" if now == (99, 999) else "shared")
""",
    "the set of blocked signals": """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
seen = in_child(lambda: signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1]))
still = signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
emit(how="lost" if not seen else "copied" if still else "shared")
""",
    "a signal that is pending": """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.kill(os.getpid(), signal.SIGUSR1)
emit(how="copied" if in_child(lambda: signal.SIGUSR1 in signal.sigpending()) else "lost")
""",
    "a timer by setitimer": """
signal.setitimer(signal.ITIMER_REAL, 60)
emit(how="copied" if in_child(lambda: signal.getitimer(signal.ITIMER_REAL)[0]) else "lost")
""",
    "the number of an eventfd": """
event = os.eventfd(3, os.EFD_NONBLOCK)
in_child(lambda: os.eventfd_read(event))
try:
    os.eventfd_read(event)
    emit(how="copied")
except BlockingIOError:
    emit(how="shared")
""",
    "O_NONBLOCK of a socket": """
ours, theirs = socket.socketpair()
in_child(lambda: ours.setblocking(False))
emit(how="shared" if fcntl.fcntl(ours, fcntl.F_GETFL) & os.O_NONBLOCK else "copied")
""",
    "close-on-exec of a descriptor": """
ours, theirs = socket.socketpair()
seen = in_child(lambda: [ours.get_inheritable(), ours.set_inheritable(True)][0])
emit(how="shared" if ours.get_inheritable() else "copied" if seen is False else "lost")
""",
    "the bytes that wait in a pipe": """
reads, writes = os.pipe()
os.set_blocking(reads, False)
os.write(writes, b"!")
in_child(lambda: len(os.read(reads, 1)))
try:
    os.read(reads, 1)
    emit(how="copied")
except BlockingIOError:
    emit(how="shared")
""",
    "the value of a threading.local": """
mine = threading.local()
mine.value = 1
def change():
    seen, mine.value = mine.value, 2
    return seen
seen = in_child(change)
emit(how="lost" if seen != 1 else "copied" if mine.value == 1 else "shared")
""",
    "a semaphore of multiprocessing": """
semaphore = multiprocessing.get_context("fork").Semaphore(1)
in_child(lambda: semaphore.acquire())
emit(how="copied" if semaphore.acquire(block=False) else "shared")
""",
    "the process's number": """
emit(how="copied" if in_child(os.getpid) == os.getpid() else "new")
""",
}


def ask_thing(given: Mapping[str, Any]) -> str:
    return f"to a forked child, {given['thing']} is …"


def try_thing(given: Mapping[str, Any]) -> str:
    return _BEGIN + THINGS[given["thing"]]


def how_it_was(result: ProcessResult, given: Mapping[str, Any]) -> Found:
    how = result.told["how"]
    return Found(measured=how, shown=Table(("what", "measured"), ((given["thing"], how),)))


def letter_of_how(how: str, given: Mapping[str, Any]) -> str:
    return next(letter for letter, option in HOWS.items() if option == how)


AGAIN = (
    Again(
        "01.3",
        draw=draw_data,
        words=data_in_words,
        options=lambda given: PARTS,
        program=read_them,
        find=part_of_data,
        letter=letter_of_part,
        timeout=40,
    ),
    Again(
        "01.7",
        draw=lambda random: {"thing": random.choice(sorted(THINGS))},
        words=ask_thing,
        options=lambda given: HOWS,
        program=try_thing,
        find=how_it_was,
        letter=letter_of_how,
    ),
)

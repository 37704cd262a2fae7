"""Predictions of notebook 07 with other numbers."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found
from lab_support.notebook.moves.exercises import cell, changed
from lab_support.notebook.page.tables import Table

Given = Mapping[str, Any]

# ---- 07.1: other launchers, other ranges -----------------------------------------------------------------------------

_RACES = (
    (1, 40), (2, 100), (4, 100), (8, 400), (16, 800), (24, 800), (8, 40), (12, 100), (16, 100), (24, 200), (16, 40),
    (24, 60),
)  # fmt: skip
"""Launchers at once, and ports in the range."""
_FEW, _MANY = 20, 80


def draw_race(random: Random) -> Given:
    launchers, ports = random.choice(_RACES)
    return {"launchers": launchers, "ports": ports}


def raced(given: Given) -> str:
    return changed(
        cell("07", "race"),
        "PortRange.of(200)",
        f"PortRange.of({given['ports']})",
        "(1, 4, 16) * 4",
        f"({given['launchers']},) * 2",
    )


def count_lost(result: ProcessResult, given: Given) -> Found:
    races = [event.fields for event in result.events]
    if len(races) < 2:
        raise LookupError(f"got {len(races)} races, expected 2")
    lost = [each["lost"] for each in races]
    drawn = len({address for each in races for address in each["addresses"]})
    ports = str(given["ports"]) if races[0]["narrow"] else "all: this kernel can't narrow the range"
    row = (str(given["launchers"]), ports, str(drawn), " and ".join(map(str, lost)))
    heads = ("launchers at once", "ports in the range", "of them drawn", "lost of 200, and of 200")
    return Found(measured=sum(lost), shown=Table(heads, (row,)))


def letter_of_lost(lost: int, given: Given) -> str:
    return "a" if lost == 0 else "b" if lost <= _FEW else "c" if lost <= _MANY else "d"


# ---- 07.4: who holds the other end -----------------------------------------------------------------------------------

_ENDS = {
    "is killed while it loads": "os.kill(os.getpid(), signal.SIGKILL)",
    "ends by os._exit(1) while it loads": "os._exit(1)",
    "says READY and is killed": 'pipe.send("READY"), os.kill(os.getpid(), signal.SIGKILL)',
}
_SIBLINGS = {"": "no sibling", "fork": "a forked sibling", "spawn": "a spawned sibling"}
_ALONE = """\
import multiprocessing, os, signal, time
from lab_support.instruments import proc
from lab_support.notebook.script import emit

def child(pipe):
    {ends}

def sibling(told, wait):
    told.send("here")
    wait.recv()

if __name__ == "__main__":
    ours, theirs = multiprocessing.Pipe()
    end = os.fstat(theirs.fileno()).st_ino
    one = multiprocessing.get_context("spawn").Process(target=child, args=(theirs,))
    one.start()
    pids = {{"the parent": os.getpid()}}
    if "{sibling}":
        (hears, told), (wait, ends) = multiprocessing.Pipe(), multiprocessing.Pipe()
        other = multiprocessing.get_context("{sibling}" or None).Process(target=sibling, args=(told, wait), daemon=True)
        other.start()
        hears.recv()
        pids["the sibling"] = other.pid
    if {closes}:
        theirs.close()
    one.join()  # it is dead
    begun = time.monotonic()
    try:
        came = ours.recv() if ours.poll({limit}) else "nothing"
    except EOFError:
        came = "EOFError"
    waited = time.monotonic() - begun
    held = [who for who, pid in pids.items() if end in {{each.inode for each in proc.read_descriptors(pid)}}]
    emit(came=came, waited=waited, held=held)
    if "{sibling}":
        other.kill()
        other.join()
"""


def draw_wait(random: Random) -> Given:
    return {
        "ends": random.choices(list(_ENDS), (2, 2, 1))[0],
        "sibling": random.choice(("", "fork", "spawn")),
        "closes": random.choice((True, True, False)),
        "limit": random.choice((1.0, 1.5, 2.0)),
    }


def words_of_wait(given: Given) -> str:
    copy = "closes its copy of the child's end" if given["closes"] else "keeps its copy of the child's end open"
    return (
        f"a spawned child {given['ends']}; after it, the parent has started {_SIBLINGS[given['sibling']]}; "
        f"the parent {copy}, and waits for the message alone"
    )


def program_of_wait(given: Given) -> str:
    return _ALONE.format(**{**given, "ends": _ENDS[given["ends"]]})


def find_wait(result: ProcessResult, given: Given) -> Found:
    told = result.told
    row = (told["came"], f"{told['waited']:.1f} s", " and ".join(told["held"]) or "no process")
    return Found([told["came"], told["waited"]], Table(("came", "after", "the child's end is open in"), (row,)))


def letter_of_wait(measured: Sequence[Any], given: Given) -> str:
    came, waited = measured
    if came == "nothing" and waited < given["limit"] / 2:
        return ""
    return {"EOFError": "a", "nothing": "b", "READY": "c"}.get(came, "")


AGAIN = (
    Again(
        "07.1",
        draw=draw_race,
        words=lambda given: (
            f"starts lost of 400, with {given['launchers']} launcher{'s' * (given['launchers'] > 1)} at once and "
            f"{given['ports']} ports in the range"
        ),
        options=lambda given: {"a": "none", "b": f"1 to {_FEW}", "c": f"{_FEW + 1} to {_MANY}", "d": "more"},
        program=raced,
        find=count_lost,
        letter=letter_of_lost,
        timeout=60,
    ),
    Again(
        "07.4",
        draw=draw_wait,
        words=words_of_wait,
        options=lambda given: {
            "a": "EOFError, at once",
            "b": f"nothing, until its limit of {given['limit']:g} s",
            "c": "the message READY, at once",
        },
        program=program_of_wait,
        find=find_wait,
        letter=letter_of_wait,
        timeout=20,
    ),
)

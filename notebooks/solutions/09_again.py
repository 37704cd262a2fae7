"""Predictions of notebook 09 with other numbers."""

from collections.abc import Mapping
from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found
from lab_support.notebook.moves.exercises import cell, changed
from lab_support.notebook.page.tables import Table

Given = Mapping[str, Any]

# ---- 09.1: other start methods, other ends, children that stand still ------------------------------------------------

_METHODS = ("fork", "spawn", "forkserver")
_ENDS = {
    "its main returns": "whose main returns",
    "SIGINT": "which gets SIGINT alone",
    "SIGTERM": "which gets SIGTERM",
    "SIGKILL": "which gets SIGKILL",
}


def draw_end(random: Random) -> Given:
    method, end = random.choice(_METHODS), random.choice(tuple(_ENDS))
    return {"method": method, "end": end, "stopped": end in ("SIGTERM", "SIGKILL") and random.random() < 0.4}


def words_of_end(given: Given) -> str:
    stopped = "; its API servers have been stopped before by SIGSTOP" if given["stopped"] else ""
    return f"two API servers by {given['method']}, with daemon=True, of a launcher {_ENDS[given['end']]}{stopped}"


def program_of_end(given: Given) -> str:
    return changed(
        cell("09", "launchers"),
        'get_context("spawn")',
        f'get_context("{given["method"]}")',
        "    for end in ENDS:\n        emit(end=end, **after(launcher, end))",
        f"    emit(after(launcher, {given['end']!r}, stopped={given['stopped']}))",
    )


def find_end(result: ProcessResult, given: Given) -> Found:
    told = result.told
    row = (told["client"], str(told["running"]), told["parent"] or "–", "yes" if told["free"] else "no")
    return Found(
        measured=told["client"],
        shown=Table(("a client gets", "API servers that run", "their parent", "the port is free"), (row,)),
    )


def letter_of_end(client: str, given: Given) -> str:
    return {"an answer": "a", "a refusal": "b", "a connection, and no answer": "c"}.get(client, "")


# ---- 09.2: one precaution, one event ---------------------------------------------------------------------------------

_PRECAUTIONS = {
    "nothing": ("takes no precaution", "pass"),
    "sigterm": ("asks for SIGTERM at its parent's death", "ctypes.CDLL(None).prctl(1, signal.SIGTERM)"),
    "signal_and_look": (
        "asks for SIGKILL at its parent's death, and then compares its parent's pid",
        "ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n    if os.getppid() != parent:\n        os._exit(3)",
    ),
    "pipe": (
        "lets a thread wait for the end of the pipe",
        "threading.Thread(target=lambda: (os.read(pipe, 1), os._exit(3)), daemon=True).start()",
    ),
    "pidfd": (
        "lets a thread wait for a pidfd of its parent, `os.pidfd_open(os.getppid())`",
        "ended = os.pidfd_open(os.getppid())\n"
        "    threading.Thread(target=lambda: (select.select([ended], [], []), os._exit(3)), daemon=True).start()",
    ),
}
_EVENTS = (
    "the parent is killed",
    "the parent is killed before the precaution is taken",
    "the thread that made the worker ends",
    "the parent has forked a sibling, and is killed",
    "the worker is stopped, and the parent is killed",
    "the worker is in C code that holds Python's lock, and the parent is killed",
)
_FATE = """\
import ctypes, os, select, signal, threading
from lab_support.notebook.script import emit
from lab_support.notebook.stages.orphans import fate

def precaution(parent, pipe):
    {body}

emit(fate(precaution, {event!r}))
"""


def draw_fate(random: Random) -> Given:
    precaution = random.choice(tuple(_PRECAUTIONS))
    events = [event for event in _EVENTS if precaution != "nothing" or "precaution" not in event]
    return {"precaution": precaution, "event": random.choice(events)}


def find_fate(result: ProcessResult, given: Given) -> Found:
    told = result.told
    row = (told["fate"], told["how"] or "–", ", ".join(told["writers"]) or "nobody")
    return Found(measured=told["fate"], shown=Table(("the worker", "how", "who has the pipe's write end"), (row,)))


def letter_of_fate(fate: str, given: Given) -> str:
    return {"it ends": "a", "it lives on": "b", "it dies, and its parent lives": "c"}.get(fate, "")


AGAIN = (
    Again(
        "09.1",
        draw=draw_end,
        words=words_of_end,
        options=lambda given: {
            "a": "a client gets an answer",
            "b": "a client is refused",
            "c": "a client gets a connection, and no answer",
        },
        program=program_of_end,
        find=find_end,
        letter=letter_of_end,
        timeout=40,
    ),
    Again(
        "09.2",
        draw=draw_fate,
        words=lambda given: f"a worker {_PRECAUTIONS[given['precaution']][0]}; {given['event']}",
        options=lambda given: {
            "a": "the worker ends with its parent",
            "b": "the worker lives on",
            "c": "the worker dies, and its parent lives",
        },
        program=lambda given: _FATE.format(body=_PRECAUTIONS[given["precaution"]][1], event=given["event"]),
        find=find_fate,
        letter=letter_of_fate,
        timeout=20,
    ),
)

"""Predictions of notebook 08 with other numbers."""

from collections.abc import Mapping
from random import Random
from typing import Any

from lab_support.instruments.record import recordings
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import changed
from lab_support.notebook.page.tables import Table
from lab_support.notebook.recordings import front_ends
from lab_support.plural import counted

Given = Mapping[str, Any]

# ---- 08.4: the H200 --------------------------------------------------------------------------------------------------

_H200 = """\
from lab_support.instruments.ceilings import Costs, api_servers_needed, knee
from lab_support.instruments.record import recordings
from lab_support.notebook.recordings import front_ends
from lab_support.notebook.script import emit

run = recordings.load(front_ends.RECORDING)
pace = front_ends.pace(run, "MODEL", CONTEXT)
us = US
costs = Costs(loop=us, front_end=us, engine_core=0, client=0)  # enough cores, and the clients are elsewhere
emit(pace=pace, full=1e6 / us, knee=knee(pace, lambda number: costs, 1e9),
     needed=api_servers_needed(pace, lambda number: costs, 1e9))
"""
_MODELS = {
    "8B": "a model with 8 billion parameters",
    "1B": "a model with 1 billion parameters",
    "box": "the model in the box",
}
_ROWS = 64  # the most that were recorded


_CONTEXTS = {"8B": (512, 4096), "1B": (512, 4096), "box": (512, 1664)}  # as recorded


def draw_h200(random: Random) -> Given:
    model = random.choice(tuple(_MODELS))
    return {"model": model, "context": random.choice(_CONTEXTS[model]), "us": random.choice((14, 25, 35, 60))}


def words_of_h200(given: Given) -> str:
    pace = front_ends.pace(recordings.load(front_ends.RECORDING), given["model"], given["context"])
    step = f"{_MODELS[given['model']]} on the recorded H200, {_ROWS} rows in {_ROWS / pace * 1000:.2g} ms"
    return f"{step}; an event loop needs {given['us']} µs for a token: API servers needed"


def program_of_h200(given: Given) -> str:
    numbers = ("CONTEXT", str(given["context"]), "us = US", f"us = {given['us']}")
    return changed(_H200, "MODEL", given["model"], *numbers)


def find_h200(result: ProcessResult, given: Given) -> Found:
    row = result.told
    return Found(
        measured=row["needed"],
        shown=Table(
            ("the engine's pace, tokens/s", "one API server is full at", "knee", "API servers needed"),
            ((f"{row['pace']:,.0f}", f"{row['full']:,.0f}", f"{row['knee']:.2f}", str(row["needed"])),),
            note="The pace by data/recordings/server_step_times.json, an NVIDIA H200; with enough cores.",
        ),
    )


def letter_of_needed(needed: int, given: Given) -> str:
    return "a" if needed == 1 else "b" if needed == 2 else "c" if needed <= 4 else "d"


Given = Mapping[str, Any]


def draw_load(random: Random) -> Given:
    clients, pace = random.choice(((64, "1B"), (32, "1B"), (1, "8B")))  # far from the borders of the options
    return {"clients": clients, "pace": pace}


def program_of_load(given: Given) -> str:
    return changed(
        blank("08.b3").reference, "clients=64", f"clients={given['clients']}", "paced:8B", f"paced:{given['pace']}"
    )


def find_wait(result: ProcessResult, given: Given) -> Found:
    [told] = (event.fields for event in result.events)
    row = (f"{told['start'] * 1000:.0f} ms", f"{told['busy']['api-0']:.0%}", f"{told['as_long']:.1f} s")
    heads = ("CPU time of the start", "the API server's event loop is busy for", "as much after")
    return Found(measured=told["as_long"], shown=Table(heads, (row,)))


def letter_of_wait(seconds: float, given: Given) -> str:
    return "a" if seconds < 2 else "b" if seconds < 20 else "c" if seconds < 120 else "d"


AGAIN = (
    Again(
        "08.4",
        draw=draw_h200,
        words=words_of_h200,
        options=lambda given: {"a": "one", "b": "two", "c": "three or four", "d": "five or more"},
        program=program_of_h200,
        find=find_h200,
        letter=letter_of_needed,
    ),
    Again(
        "08.6",
        draw=draw_load,
        words=lambda given: (
            f"{counted(given['clients'], 'client')}, the pace of a model with {given['pace'][0]} billion parameters: "
            "how long until the tokens have cost an API server as much CPU time as its start"
        ),
        options=lambda given: {
            "a": "under 2 seconds",
            "b": "2 to 20 seconds",
            "c": "20 seconds to 2 minutes",
            "d": "more than 2 minutes",
        },
        program=program_of_load,
        find=find_wait,
        letter=letter_of_wait,
        timeout=60,
    ),
)

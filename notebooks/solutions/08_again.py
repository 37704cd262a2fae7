"""Predictions of notebook 08 with other numbers."""

from collections.abc import Mapping
from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import changed
from lab_support.notebook.page.tables import Table
from lab_support.plural import counted

Given = Mapping[str, Any]


def draw_load(random: Random) -> Given:
    return {"clients": random.choice((32, 1, 2)), "pace": random.choice(("1B", "8B"))}


def program_of_load(given: Given) -> str:
    return changed(
        blank("08.b3").reference, "clients=64", f"clients={given['clients']}", "paced:8B", f"paced:{given['pace']}"
    )


def find_wait(result: ProcessResult, given: Given) -> Found:
    [told] = (event.fields for event in result.events)
    row = (f"{told['start'] * 1000:.0f} ms", f"{told['busy']['api-0']:.0%}", f"{told['as_long']:.1f} s")
    heads = ("CPU time of the start", "the API server's event loop is busy for", "repaid in")
    return Found(measured=told["as_long"], shown=Table(heads, (row,)))


def letter_of_wait(seconds: float, given: Given) -> str:
    return "a" if seconds < 3 else "b" if seconds < 30 else "c" if seconds < 300 else "d"


AGAIN = (
    Again(
        "08.6",
        draw=draw_load,
        words=lambda given: (
            f"{counted(given['clients'], 'client')}, the pace of a model with {given['pace'][0]} billion parameters: "
            "how long until the tokens have cost an API server as much CPU time as its start"
        ),
        options=lambda given: {
            "a": "under 3 seconds",
            "b": "3 to 30 seconds",
            "c": "30 seconds to 5 minutes",
            "d": "more than 5 minutes",
        },
        program=program_of_load,
        find=find_wait,
        letter=letter_of_wait,
        timeout=60,
    ),
)

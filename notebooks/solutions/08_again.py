"""Predictions of notebook 08 with other numbers."""

from collections.abc import Mapping
from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found
from lab_support.notebook.moves.exercises import cell, changed
from lab_support.notebook.page.tables import Table

Given = Mapping[str, Any]

_STEPS = (20, 10, 6, 4, 2.5)
_COUNTS = ((1, 2), (1, 4), (2, 4))


def draw_paces(random: Random) -> Given:
    few, many = random.choice(_COUNTS)
    return {"milliseconds": random.choice(_STEPS), "few": few, "many": many}


def program_of_paces(given: Given) -> str:
    return changed(
        cell("08", "paces"),
        "{10: (1, 2), 4.5: (1, 2), 2.5: (1, 2, 4)}",
        f"{{{given['milliseconds']}: ({given['few']}, {given['many']})}}",
    )


def find_paces(result: ProcessResult, given: Given) -> Found:
    few, many = (event.fields for event in result.events)
    ratio = many["tokens_per_second"] / few["tokens_per_second"]
    rows = tuple(
        (str(row["api_servers"]), f"{row['tokens_per_second']:,}", f"{row['cores_used']:.1f} of {row['cores']}")
        for row in (few, many)
    )
    return Found(measured=ratio, shown=Table(("API servers", "tokens/s", "cores used"), rows))


def letter_of_ratio(ratio: float, given: Given) -> str:
    return "a" if ratio < 0.8 else "b" if ratio < 1.25 else "c" if ratio < 1.75 else "d"


AGAIN = (
    Again(
        "08.4",
        draw=draw_paces,
        words=lambda given: (
            f"128 rows in {given['milliseconds']:g} ms: tokens per second with {given['many']} API servers, compared "
            f"with {given['few']}"
        ),
        options=lambda given: {
            "a": "fewer, by a fifth or more",
            "b": "as many, give or take a fifth",
            "c": "about half as many again",
            "d": "about twice as many",
        },
        program=program_of_paces,
        find=find_paces,
        letter=letter_of_ratio,
        timeout=60,
    ),
)

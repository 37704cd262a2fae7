"""A prediction of notebook 07 with other numbers: more or fewer launchers, and other ranges of ports."""

from collections.abc import Mapping
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
)

"""A recording stays fresh when words change or a file moves, and becomes stale when its code changes."""

import json
from pathlib import Path

import pytest

from lab_support.instruments.record.fingerprint import fingerprint
from lab_support.instruments.record.provenance import ROOT

CODE = '''"""A module."""

import os
from house.room.lamp import light  # for the evening

LIMIT = 3


class Table:
    """A docstring."""

    legs: int = 4
    """How many it has."""


def greet(name):
    """Say hello.

    With an example."""
    return f"hello {name!r:>{LIMIT}}", b"x", 1.5, None, ...


PROGRAM = ("python", "-m", "house.room.lamp")
'''


def of(folder: Path, code: str, renamed: dict[str, str] | None = None) -> str:
    file = folder / "module.py"
    file.write_text(code, encoding="utf-8")
    return fingerprint(file, renamed or {})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A module.", "Another sentence, in é."),
        ("  # for the evening", ""),
        ("  # for the evening", "  # and for the morning"),
        ('    """A docstring."""\n', ""),
        ("With an example.", "Without one."),
        ("How many it has.", "Their number."),
        ("LIMIT = 3", "LIMIT = (\n    3\n)"),
        ('"python", "-m"', "'python', '-m'"),
    ],
)
def test_words_and_layout_change_nothing(tmp_path: Path, before: str, after: str) -> None:
    assert before in CODE
    assert of(tmp_path, CODE.replace(before, after)) == of(tmp_path, CODE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("hello ", "hallo "),
        ("!r", "!s"),
        (">{", "<{"),
        ("legs: int = 4", "legs: int"),
        ("None, ...", "None"),
        ("1.5, None", "1.5, 0"),
        ("import os", "import sys"),
        ("def greet(name)", "async def greet(name)"),
    ],
)
def test_code_changes_it(tmp_path: Path, before: str, after: str) -> None:
    assert before in CODE
    assert of(tmp_path, CODE.replace(before, after)) != of(tmp_path, CODE)


def test_a_module_that_was_renamed_is_the_old_one(tmp_path: Path) -> None:
    moved = CODE.replace("house.room.lamp", "house.hall.lamp")
    assert of(tmp_path, moved) != of(tmp_path, CODE)
    assert of(tmp_path, moved, {"house/hall/lamp.py": "house/room/lamp.py"}) == of(tmp_path, CODE)


def test_recordings_keep_fingerprints_which_are_the_same_in_every_python(tmp_path: Path) -> None:
    """These were computed by Python 3.11; 3.12 and 3.13 give the same for the files of all recordings."""
    kept = json.loads((ROOT / "data/recordings/start_methods.json").read_text())["sources"]
    assert {len(value) for value in kept.values()} == {64}
    assert of(tmp_path, "x = 1\n") == "d479b408fa7b5d10649bb25c72da81c9b69be36264e12a596592c70d09f2f046"

"""Cells that do what they can against their own supervisor: shown until the end, ended in time, nothing left.

Each kind once; 200 of them with LAB_PROVE.
"""

import io
import os
import random
import re
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from lab_support.instruments import proc
from lab_support.notebook.cells.python_process import run_process
from tests.notebook.cells.hostile_programs import MAKERS, Hostile, make

FULL = bool(os.environ.get("LAB_PROVE"))
COUNT = 200 if FULL else len(MAKERS)
HANGS = 15.0
"""Seconds beyond its deadline in which a cell must have ended; measured with LAB_PROVE alone."""
COLOURS = re.compile(r"\x1b\[[\d;]*m")


@pytest.mark.slow
def test_hostile_cells_are_shown_until_they_end_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    run_process("1", quiet=True)
    descriptors = os.listdir("/proc/self/fd")
    longest: dict[str, float] = {}
    for trial in range(COUNT):
        program = make(MAKERS[trial % len(MAKERS)], chance, FULL)
        seconds = check(program, tmp_path, f"seed {seed}, trial {trial}, {program.kind}")
        longest[program.kind] = max(longest.get(program.kind, 0.0), seconds - program.timeout)
        assert not FULL or seconds < program.timeout + HANGS, longest
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)
    print(f"{COUNT} hostile cells; seconds beyond the deadline, at most {max(longest.values()):.1f}: {longest}")


def check(program: Hostile, place: Path, told: str) -> float:
    """The cell's run time in seconds."""
    shown, began = io.StringIO(), time.monotonic()
    with redirect_stdout(shown):
        result = run_process(program.source, expect="any", timeout=program.timeout)
    seconds = time.monotonic() - began
    told += f": {result!r}, {len(result.output):,} letters, {len(result.events)} events in {seconds:.1f} s"
    print(told)
    text = COLOURS.sub("", shown.getvalue())
    assert result.outcome in program.outcomes, told
    assert result.output.startswith("first\n") and "│ first\n" in text, told
    assert len(result.output) >= program.letters and len(text) >= program.letters, told
    assert len(result.events) >= program.events, told
    assert "held False" not in result.output, told
    # Python's own tracker of resources says one, where the program has killed the one before it.
    tracebacks = [line for line in text.splitlines() if "Traceback" in line and "resource tracker" not in line]
    assert not tracebacks, told + text[-2000:]
    assert not [each for each in result.processes if proc.is_running(each.identity)], told
    assert not of_cells_in(place), told
    assert not list(place.iterdir()), told
    assert not [name for name in re.findall(r"^made (\S+)$", result.output, re.M) if named(name)], told
    return seconds


def of_cells_in(place: Path) -> list[int]:
    """The processes with a cell's folder there in their environment, or among the words of their command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        for name in ("environ", "cmdline"):
            try:
                if os.fsencode(place) + b"/lab-" in (folder / name).read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue  # ended, or another user's
    return found


def named(name: str) -> bool:
    return Path("/dev/shm", name).exists()

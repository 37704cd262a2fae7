"""Random small programs one after another in one process: no line lost or torn, nothing left. 1,000 with LAB_PROVE."""

import os
import random
import tempfile
from pathlib import Path

import pytest

from lab_support.instruments import proc
from lab_support.notebook.cells.python_process import run_process
from tests.notebook.cells.programs import TIMEOUT, make

COUNT = 1000 if os.environ.get("LAB_PROVE") else 25


def lying_around() -> set[Path]:
    """Cells' folders of this process: others may run theirs at the same time."""
    return set(Path(tempfile.gettempdir()).glob("lab-*"))


@pytest.mark.slow
def test_random_cells_lose_no_line_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    run_process("1", quiet=True)
    descriptors = os.listdir("/proc/self/fd")
    for trial in range(COUNT):
        program = make(chance)
        timeout = TIMEOUT if "timeout" in program.outcomes else 60
        result = run_process(program.source, expect="any", timeout=timeout, quiet=True)
        told = f"seed {seed}, trial {trial}, {program.kind}: {result!r}"
        assert result.outcome in program.outcomes, told
        written = [line for text in result.texts if text.stream == "out" for line in text.text.splitlines()]
        assert sorted(written) == sorted(program.lines), told
        assert not [each for each in result.processes if proc.is_running(each.identity)], told
        assert not lying_around(), told
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)

"""One look for all code, in notebooks too: ruff's rules, ruff's format, mypy's types."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = {
    "rules": ["ruff", "check", "--no-cache", "lab_support", "tests", "notebooks", "data"],
    "format": ["ruff", "format", "--check", "--no-cache", "lab_support", "tests", "data"],
    "types": ["mypy"],
}
SLOW = {"types": pytest.mark.slow}


@pytest.mark.parametrize("tool", [pytest.param(tool, marks=SLOW.get(tool, ())) for tool in TOOLS])
def test_the_code_has_one_look(tool: str) -> None:
    command = [sys.executable, "-m", *TOOLS[tool]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]

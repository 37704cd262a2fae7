"""Proofs that are tests already, run here with their full counts."""

import os
import re
import subprocess
import sys

import pytest

from tests.proofs import Row

FULL = "LAB_PROVE"  # environment variable that tells a test to do its full count
in_full = pytest.mark.skipif(FULL not in os.environ, reason="make prove runs it, because make test has a shorter one")


def run(asked: str, *words: str) -> list[Row]:
    """One pytest run as a row; its output is shown where it fails."""
    result = subprocess.run(command(*words), capture_output=True, text=True, env=os.environ | {FULL: "1"}, check=False)
    return [Row(asked, tally(result.stdout, result.returncode), result.returncode == 0)]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "--timeout", "3000", *words]


def tally(output: str, exit_code: int) -> str:
    """Pytest's own count of what passed, failed and so on. If something failed, with its error; the rest is printed."""
    counts = re.findall(r"\d+ (?:passed|failed|skipped|error)[^=\n]*", output)
    counted = counts[-1].strip() if counts else output[-200:]
    if not exit_code:
        return counted
    print(output[-8000:], file=sys.stderr)
    return "; ".join([counted, *re.findall(r"^E +(\S.*)$", output, re.MULTILINE)[:1]])

"""A failed test runs once more, and none hides: `tests/flaky.py`, as .ci/run uses it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks import ROOT

TESTS = """
import os, pathlib, pytest

def once(name):
    if not os.path.exists(name):
        pathlib.Path(name).touch()
        raise RuntimeError(f"not yet: {name}\\nsecond line")

@pytest.fixture
def shaky():
    yield
    once("torn down")

def test_right(): pass
@pytest.mark.parametrize("text", ["a b", "[\\ud800]", "::"])
def test_shaky(text): once(f"called {ascii(text)}".replace("/", ""))
def test_left_over(shaky): pass
def test_wrong(): assert 1 == 2
def test_out_of_place(): pytest.skip("not here")
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def first_run(folder: Path, text: str, *words: str) -> Path:
    (folder / "test_made.py").write_text(text, encoding="utf-8")
    file = folder / "outcomes.jsonl"
    file.touch()
    run(folder, "pytest", "-p", "tests.flaky", f"--outcomes={file}", "test_made.py", *words)
    return file


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "2"]], ids=["one process", "two workers"])
def test_each_failure_is_named_and_counted(tmp_path: Path, workers: list[str]) -> None:
    done = run(tmp_path, "tests.flaky", str(first_run(tmp_path, TESTS, *workers)))
    assert done.returncode == 1, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith(("flaky:", "failed twice:", "of "))]
    assert [line.partition(" test_made.py")[0] for line in said].count("flaky:") == 4
    assert len([line for line in said if "RuntimeError: not yet: " in line and "second line" not in line]) == 4
    [wrong] = [line for line in said if line.startswith("failed twice:")]
    assert "test_made.py::test_wrong: " in wrong and "assert 1 == 2" in wrong
    assert said[-1] == "of 7 tests 4 flaky, 1 failed twice"


def test_flaky_tests_alone_are_no_failure(tmp_path: Path) -> None:
    done = run(tmp_path, "tests.flaky", str(first_run(tmp_path, TESTS, "-k", "not wrong")))
    assert done.returncode == 0
    assert done.stdout.endswith("of 6 tests 4 flaky, 0 failed twice\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import os\ndef test_it(): os._exit(3)", "(pytest's exit code: None)"),
        ("def test_it(): raise KeyboardInterrupt", "(pytest's exit code: 2)"),
        ("raise ValueError('no tests today')", "(pytest's exit code: 2)"),
        ("", "(pytest's exit code: 5)"),
    ],
    ids=["killed", "interrupted", "not collected", "no tests"],
)
def test_a_run_that_did_not_end_is_a_failure(tmp_path: Path, text: str, why: str) -> None:
    done = run(tmp_path, "tests.flaky", str(first_run(tmp_path, text)))
    assert (done.returncode, why in done.stdout) == (1, True), done.stdout + done.stderr


def test_a_run_without_failures_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "tests.flaky", str(first_run(tmp_path, "def test_it(): pass")))
    assert (done.returncode, done.stdout) == (0, "of 1 tests 0 flaky, 0 failed twice\n")

"""Failed tests run once more, and each is named: `flaky:` where it passes then, `failed twice:` where it does not.

On a busy machine a test may fail for want of time. This module is a pytest plugin that notes the outcome of every test
in a file, and a program that reads that file:

    python -m pytest -p tests.flaky --outcomes=FILE
    python -m tests.flaky FILE

The program runs what failed once more, one test at a time, and ends with the count. Exit code 1 where a test failed
twice, or where the first run did not come to its end: then nothing of it counts.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


class Notes:
    """The plugin: one line of JSON for each report, written at once, so that nothing is lost if the run is killed."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self._note(
                test=report.nodeid, failed=report.failed, why=first_line(report.longrepr) if report.failed else ""
            )

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._note(test=report.nodeid, failed=True, why=first_line(report.longrepr))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._note(exit_code=int(exitstatus))

    def _note(self, **fields: object) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, metavar="FILE", help="note the outcome of every test in this file")
    parser.addoption("--again", type=Path, metavar="FILE", help="run only the tests that failed in this file")


def pytest_configure(config: pytest.Config) -> None:
    """In the process that hears of all tests: pytest-xdist's workers tell it theirs."""
    if (file := config.getoption("outcomes")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Notes(file))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A name in brackets may hold signs that pytest would read as its own, so tests are not named as its arguments."""
    if file := config.getoption("again"):
        failed = Outcomes.read(file).failures
        items[:] = [item for item in items if item.nodeid in failed]


def first_line(failure: Any) -> str:
    """Of a failure's message, with its place where pytest knows one."""
    crash = getattr(failure, "reprcrash", None)
    text = f"{crash.path}:{crash.lineno}: {crash.message}" if crash else str(failure or "")
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


@dataclass
class Outcomes:
    """A run, as noted. failures: the first line of each failed test. exit_code: pytest's, or None if it was killed."""

    tests: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None

    @classmethod
    def read(cls, file: Path) -> "Outcomes":
        found = cls()
        for line in file.read_text(encoding="utf-8").splitlines():
            note = json.loads(line)
            found.exit_code = note.get("exit_code", found.exit_code)
            if "test" in note:
                found.tests.add(note["test"])
            if note.get("failed"):
                found.failures.setdefault(note["test"], note["why"])
        return found


def main(first: Path) -> int:
    before = Outcomes.read(first)
    if before.exit_code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        print(f"the tests did not come to their end (pytest's exit code: {before.exit_code}); nothing runs again")
        return 1
    after = again(first, before) if before.failures else Outcomes()
    twice = [test for test in before.failures if test in after.failures or test not in after.tests]
    for test, why in before.failures.items():
        print(f"{'failed twice' if test in twice else 'flaky'}: {test}: {why}")
    print(f"of {len(before.tests)} tests {len(before.failures) - len(twice)} flaky, {len(twice)} failed twice")
    return 1 if twice else 0


def again(first: Path, before: Outcomes) -> Outcomes:
    """Run what failed, one test at a time."""
    print("once more, what failed:", flush=True)
    files = sorted({test.split("::")[0] for test in before.failures})
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as second:
        # With `=`, or pytest takes the names for places of tests when it looks for its settings.
        options = ["-p", "tests.flaky", f"--again={first}", f"--outcomes={second.name}"]
        subprocess.run([sys.executable, "-m", "pytest", *options, *files], check=False)
        return Outcomes.read(Path(second.name))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

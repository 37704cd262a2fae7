"""Starts `recorder.record` on the tests' own small experiments: OUT BUDGET NAME[:SECONDS[:LEAST]]…"""

import sys
from pathlib import Path

from lab_support.instruments.record.recorder import Experiment, record


def experiment(number: int, words: str) -> Experiment:
    name, seconds, least = (*words.split(":"), "20", "1")[:3] if ":" in words else (words, "20", "1")
    return Experiment(
        number, name, f"{name}?", float(seconds), float(least),
        claims=("what it waits for",), with_driver=False, with_torch=False, package="tests.experiments.programs",
    )  # fmt: skip


if __name__ == "__main__":
    out, budget, *names = sys.argv[1:]
    experiments = tuple(experiment(number, name) for number, name in enumerate(names, 1))
    sys.exit(record([], Path(out), float(budget), "", experiments))

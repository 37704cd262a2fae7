"""Runs a command to its end, so that nothing of it is left if the proof is stopped or killed meanwhile."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lab_support.notebook.cells.supervised import SupervisedProcess

_GRACE = 10.0  # seconds for a notebook's kernel to stop its servers
_LONGEST = 3600.0


@dataclass(frozen=True)
class Ended:
    """A command that has ended. output: of stdout, errors: of stderr."""

    seconds: float
    exit_code: int
    output: str
    errors: str


def run_to_its_end(command: list[str]) -> Ended:
    begun = time.monotonic()
    running = SupervisedProcess(command, grace=_GRACE)
    try:
        running.wait(_LONGEST)
        return Ended(time.monotonic() - begun, running.stop(), running.output, running.errors)
    finally:
        running.close()


@contextmanager
def busy_cores() -> Iterator[None]:
    """A process for each core that never rests; they end with the block, or with this process."""
    with ExitStack() as spinning:
        for _ in range(os.cpu_count() or 1):
            spinning.callback(SupervisedProcess([sys.executable, "-c", "while True: pass"], grace=0.0).close)
        yield

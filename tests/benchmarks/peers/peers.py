"""16. Other servers beside ours on one model folder: start, memory, tokens/s, latencies, by one client.

Each is started, asked and ended `rounds` times, in one order and then in the other. Those that are not installed are
named. `python -m tests.benchmarks.peers` says how to install them, and where.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time

from lab_support.experiments.program import emit, start
from tests.benchmarks.peers.below import INTERRUPTED, kill_all, nothing_left
from tests.benchmarks.peers.kinds import PEERS
from tests.benchmarks.peers.one import command

THROUGH = "PEERS_THROUGH"
"""The variable with a command that runs each group's command, such as one that waits until the machine is quiet."""


GROUPS = (("vllm",), ("ours", "mosec", "mosec-whole"), ("transformers", "litserve", "uvicorn"))
"""Each takes one to two minutes on two cores."""


def groups(names: list[str], number: int) -> list[list[str]]:
    """The peers of a round, as they are measured: group by group, and odd rounds back."""
    forward = [group for every in GROUPS if (group := [name for name in every if name in names])]
    return [group[::-1] for group in forward[::-1]] if number % 2 else forward


def chosen(asked: str, known: list[str], flag: str) -> list[str]:
    """Those asked for, in their usual order; all if none are. Raises `SystemExit` for an unknown one."""
    words = set(filter(None, asked.split(",")))
    if unknown := words - set(known):
        raise SystemExit(f"{flag}: got {', '.join(sorted(unknown))}, expected some of {','.join(known)}")
    return [name for name in known if not words or name in words]


def run_rounds(options: argparse.Namespace) -> int:
    deadline = time.monotonic() + options.seconds
    names = chosen(options.only, [peer.name for peer in PEERS], "--only")
    codes = [
        run_within(command(number, options.requests, group), deadline, round=number, peers=group)
        for number in range(options.rounds)
        for group in groups(names, number)
    ]
    return int(any(codes))


def run_within(words: list[str], deadline: float, **about: object) -> int:
    """The exit code of a command; 0 with a sample that says what was not run, if there wasn't the time."""
    words = [*shlex.split(os.environ.get(THROUGH, "")), *words]
    try:
        return subprocess.run(words, timeout=max(0.0, deadline - time.monotonic())).returncode
    except subprocess.TimeoutExpired:
        kill_all()
        emit("not run", **about, reason="out of time")
        return 0


def main() -> int:
    options = start(__doc__ or "", only="", rounds=2, requests=0)
    try:
        with nothing_left():
            return run_rounds(options)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

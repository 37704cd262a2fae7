"""17. Front ends before one engine core: CPU for a token and a request, memory, latencies, requests/s.

Each is started, asked by both clients and ended `rounds` times, in one order and then in the other.
`python -m tests.benchmarks.front_ends` prints the table.
"""

import argparse
import sys
import time

from lab_support.experiments.program import start
from tests.benchmarks.front_ends.kinds import ENGINES, FRONT_ENDS
from tests.benchmarks.front_ends.one import command
from tests.benchmarks.peers.below import INTERRUPTED, nothing_left
from tests.benchmarks.peers.peers import chosen, run_within

CLIENTS = "16,64,256"
REQUESTS = 256
"""Of a load of long answers; at least two of each client are sent."""


def pairs(options: argparse.Namespace, number: int) -> list[tuple[str, str]]:
    """Engines and front ends of a round, as they are measured; odd rounds back."""
    engines = chosen(options.engines, list(ENGINES), "--engines")
    names = chosen(options.only, [each.name for each in FRONT_ENDS], "--only")
    found = [
        (engine, each.name)
        for engine in engines
        for each in FRONT_ENDS
        if each.name in names and engine in each.engines
    ]
    return found[::-1] if number % 2 else found


def run_rounds(options: argparse.Namespace) -> int:
    deadline = time.monotonic() + options.seconds
    codes = [
        run_within(
            command(number, options.requests, options.clients, engine, name),
            deadline,
            round=number,
            engine=engine,
            front_end=name,
        )
        for number in range(options.rounds)
        for engine, name in pairs(options, number)
    ]
    return int(any(codes))


def main() -> int:
    options = start(__doc__ or "", only="", engines="", clients=CLIENTS, rounds=2, requests=REQUESTS)
    try:
        with nothing_left():
            return run_rounds(options)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

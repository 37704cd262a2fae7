"""2,000 clients that leave in every way, among 16 readers, under each accept strategy: no other client notices.

`python -m tests.proofs.departures [--count N] [--strategies …] [--seed N]`. Ways: close, half close, reset; with
nothing, a question, a completion, half a request, or more than the server reads behind the request; at once, at the
first token, in mid-stream, at the last, without reading a byte, slowly; streamed and whole.
"""

import argparse
import random
import sys
import time

from lab_support.config import ServerConfig
from tests.departures import shuffled, trial
from tests.proofs import Row
from tests.running_server import running_server

STRATEGIES = tuple(ServerConfig.__dataclass_fields__["accept"].metadata["choices"])
COUNT, READERS, AT_ONCE = 2000, 16, 8


def one(strategy: str, count: int, seed: int) -> list[Row]:
    with running_server(accept=strategy) as server:
        done = trial(server, shuffled(count, seed), READERS, AT_ONCE)
    odd = {end: number for end, number in done.ends.items() if end != "left"}
    told = f"{done.neighbours.whole} answers as the reference, {len(done.neighbours.wrong)} not; seed {seed}"
    for wrong in done.neighbours.wrong[:3]:
        print(f"  {wrong}", file=sys.stderr)
    what = f"--accept {strategy}: {count} departures among {READERS} readers"
    left, nothing = f"{done.left} {odd or ''}", not any(done.left.values())
    return [
        Row(f"{what}: every answer is the reference's", told, not done.neighbours.wrong and not odd),
        Row(f"{what}: no request, block, connection or traceback left", left, nothing),
    ]


def prove(count: int = COUNT, strategies: tuple[str, ...] = STRATEGIES, seed: int | None = None) -> list[Row]:
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    rows = []
    for strategy in strategies:
        begun = time.monotonic()
        rows += one(strategy, count, seed)
        for row in rows[-2:]:
            print(f"  {row.asked}: {row.measured} ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    unmet = [row for row in prove(given.count, tuple(given.strategies.split(",")), given.seed) if not row.met]
    for row in unmet:
        print(f"NOT MET: {row.asked}: {row.measured}")
    sys.exit(1 if unmet else 0)

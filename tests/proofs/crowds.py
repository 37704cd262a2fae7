"""500 slow, 500 silent and 2,000 idle connections, few descriptors: a new client is served within a second.

`python -m tests.proofs.crowds [--strategies …] [--limits 256,1024]`. The connections are opened as fast as one client
can, at the given `ulimit -n` of every process of the server; then 40 new clients ask /health and 10 ask for a token,
one after another, while the crowd is there. In the last second the server's CPU time shows that no process spins.
"""

import argparse
import sys
import time

from tests.departures import completion
from tests.proofs import Row
from tests.proofs.replacements import STRATEGIES
from tests.running_server import RunningServer, running_server
from tests.server.limits.crowd import CLOSING, ask, crowd
from tests.server.limits.test_limits import descriptors

CROWD = {"slow": 500, "silent": 500, "idle": 2000}
LIMITS = (256, 1024)
TOKEN = completion("connection: close", max_tokens=1)


def cpu_seconds(server: RunningServer) -> float:
    ticks = 0
    for pid in server.pids.values():
        with open(f"/proc/{pid}/stat") as file:
            ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    return ticks / 100


def one(strategy: str, limit: int) -> list[Row]:
    with running_server(program=descriptors(limit), accept=strategy, log_level="warning") as server:
        host, port = server.url.removeprefix("http://").rsplit(":", 1)
        address = (host, int(port))
        with crowd(address, CROWD):
            answers = [ask(address, request) for request in [CLOSING] * 40 + [TOKEN] * 10]
            before, begun = cpu_seconds(server), time.monotonic()
            time.sleep(1)
            busy = (cpu_seconds(server) - before) / (time.monotonic() - begun)
    served = sum(b" 200" in answer for answer, _ in answers)
    slowest = max(seconds for _, seconds in answers)
    what = f"--accept {strategy}, ulimit -n {limit}, {sum(CROWD.values())} connections that ask for nothing"
    return [
        Row(f"{what}: new clients within 1 s", f"{served} of {len(answers)}, slowest {slowest:.2f} s",
            served == len(answers) and slowest <= 1),
        Row(f"{what}: no spinning", f"{busy:.0%} of a core", busy < 0.5),
    ]  # fmt: skip


def prove(strategies: tuple[str, ...] = STRATEGIES, limits: tuple[int, ...] = LIMITS) -> list[Row]:
    rows = []
    for strategy in strategies:
        for limit in limits:
            rows += one(strategy, limit)
            for row in rows[-2:]:
                print(f"  {row.asked}: {row.measured}", file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--limits", default=",".join(map(str, LIMITS)))
    given = parser.parse_args()
    for row in prove(tuple(given.strategies.split(",")), tuple(map(int, given.limits.split(",")))):
        if not row.met:
            print(f"NOT MET: {row.asked}: {row.measured}")

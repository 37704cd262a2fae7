"""One peer and this server side by side: `python -m tests.benchmarks.peers.aims vllm --environments FOLDER`.

Both run from the beginning to the end; the client asks one and then the other, each time in another order. A row for
each aim: tokens/s over the peer's, and every percentile of the latencies below the peer's. Then the CPU time for each
token, by process, which says what limits each of them; and that of the server that wasn't asked meanwhile. The last
line is for programs.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.peers.below import INTERRUPTED, nothing_left
from tests.benchmarks.peers.client import CLIENTS, RANKS, Client, client_in
from tests.benchmarks.peers.environments import ENVIRONMENTS, environments, python_of
from tests.benchmarks.peers.kinds import BY_NAME, OURS, Peer
from tests.benchmarks.peers.one import MODEL, WARM_UP, cpu_by_process
from tests.benchmarks.peers.running import Running, running
from tests.proofs import Row

AIMS = {"vllm": 1.8, "mosec": 2.5, "mosec-whole": 2.5}
"""tokens/s of this server over the peer's."""
LATENCIES = {"ttft_ms": "time to first token", "inter_token_ms": "inter-token latency"}
Rounds = dict[str, list[dict[str, Any]]]


def rounds(peer: Peer, python: Path, client: Client, count: int, requests: int) -> Rounds:
    """The figures of both, a dictionary for each round."""
    ours = BY_NAME[OURS]
    with running(peer, python, MODEL) as theirs, running(ours, Path(sys.executable), MODEL) as own:
        servers = {OURS: (ours, own), peer.name: (peer, theirs)}
        for kind, server in servers.values():
            client.ask(server.port, MODEL, kind, WARM_UP, 1000)
        found: Rounds = {name: [] for name in servers}
        for number in range(count):
            for name in sorted(servers, reverse=bool(number % 2)):
                idle = next(server for other, (_, server) in servers.items() if other != name)
                found[name].append(one_round(client, *servers[name], idle, number, requests))
        return found


def one_round(client: Client, kind: Peer, server: Running, idle: Running, number: int, requests: int) -> dict[str, Any]:
    before, idle_before = server.cpu_seconds(), sum(idle.cpu_seconds().values())
    figures = client.ask(server.port, MODEL, kind, requests or kind.requests, number)
    waited = sum(idle.cpu_seconds().values()) - idle_before
    return {**figures, "cpu": list(cpu_by_process(server, before)), "idle_cpu_seconds": round(waited, 2)}


# ---- what they say ---------------------------------------------------------------------------------------------------


def rows(found: Rounds, name: str) -> Iterator[Row]:
    ours, theirs = found[OURS], found[name]
    own, other = (statistics.median(each["tokens_per_second"] for each in side) for side in (ours, theirs))
    ratio = own / other
    pairs = ", ".join(
        f"{a['tokens_per_second']:.0f}/{b['tokens_per_second']:.0f}" for a, b in zip(ours, theirs, strict=True)
    )
    yield Row(f"tokens/s over {name}: ≥ {AIMS[name]}", f"{ratio:.2f} ({pairs})", ratio >= AIMS[name])
    for field, words in LATENCIES.items():
        for place, rank in enumerate(RANKS):
            a, b = (statistics.median(each[field][place] for each in side) for side in (ours, theirs))
            if b:
                yield Row(f"{words}, {rank} %: below {name}'s", f"{a:.1f} and {b:.1f} ms", a < b)


def costs(found: Rounds) -> Iterator[str]:
    """CPU µs for each token, by process, medians of the rounds; the client's, too."""
    for name, figures in found.items():
        by_process: dict[str, list[float]] = {}
        for each in figures:
            for place, spent in enumerate(each["cpu"]):
                by_process.setdefault(f"{place + 1}. {spent['process']}", []).append(share(spent["cpu_seconds"], each))
        by_process["client"] = [share(each["client_cpu_seconds"], each) for each in figures]
        cores = statistics.median(
            (sum(spent["cpu_seconds"] for spent in each["cpu"]) + each["client_cpu_seconds"]) / each["seconds"]
            for each in figures
        )
        told = "; ".join(f"{process} {statistics.median(shares):.0f}" for process, shares in by_process.items())
        idle = max(each["idle_cpu_seconds"] for each in figures)
        yield f"{name}: {cores:.2f} cores busy; µs a token: {told}; the other server meanwhile: {idle:.2f} s of CPU"


def share(seconds: float, figures: dict[str, Any]) -> float:
    return seconds / figures["tokens"] * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=AIMS)
    parser.add_argument("--environments", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=0)
    given = parser.parse_args()
    os.environ[ENVIRONMENTS] = str(given.environments.absolute())
    peer = BY_NAME[given.peer]
    python = python_of(peer)
    if python is None:
        parser.error(f"{peer.name} isn't installed in {given.environments}")
    client = client_in(environments())
    try:
        with nothing_left():
            found = rounds(peer, python, client, given.rounds, given.requests)
    except KeyboardInterrupt:
        return INTERRUPTED
    told = list(rows(found, peer.name))
    print(f"{client.name}, {CLIENTS} clients, {given.rounds} rounds")
    for row in told:
        print(f"{'met    ' if row.met else 'NOT MET'}  {row.asked}: {row.measured}")
    print("\n".join(costs(found)))
    print(json.dumps(found))
    return int(not all(row.met for row in told))


if __name__ == "__main__":
    sys.exit(main())

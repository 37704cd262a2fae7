"""One peer and this server side by side: `python -m tests.benchmarks.peers.aims vllm --environments FOLDER`.

Both run from the beginning to the end; the client asks one and then the other, each time in another order. A row for
each aim: tokens/s over the peer's, and every percentile of the latencies below the peer's. Then the CPU time for each
token, by process, which says what limits each of them, and that of the server that wasn't asked meanwhile; and a step
of this server's engine core, by its own counters. The last line is for programs.
"""

import argparse
import json
import os
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab_support.experiments.served import metrics
from tests.benchmarks.peers.below import INTERRUPTED, nothing_left
from tests.benchmarks.peers.client import CLIENTS, RANKS, Client, client_in
from tests.benchmarks.peers.environments import ENVIRONMENTS, environments, python_of
from tests.benchmarks.peers.kinds import BY_NAME, OURS, Peer
from tests.benchmarks.peers.one import MODEL, WARM_UP, cpu_by_process
from tests.benchmarks.peers.running import Running, running
from tests.proofs import Row

ENGINE = r"lab_engine_(steps|prompt_tokens|generation_tokens|stage_seconds)_total"
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
    before, idle_before, counted = server.cpu_seconds(), sum(idle.cpu_seconds().values()), counters(kind, server)
    figures = client.ask(server.port, MODEL, kind, requests or kind.requests, number)
    waited, spent = sum(idle.cpu_seconds().values()) - idle_before, list(cpu_by_process(server, before))
    grown = {name: round(value - counted.get(name, 0.0), 4) for name, value in counters(kind, server).items()}
    return {**figures, "cpu": spent, "idle_cpu_seconds": round(waited, 2), "engine": grown}


def counters(kind: Peer, server: Running) -> dict[str, float]:
    """This server's own account of its engine core's steps; of a peer, nothing."""
    found = metrics(f"http://127.0.0.1:{server.port}") if kind.name == OURS else {}
    return {name: value for name, value in found.items() if re.match(ENGINE, name)}


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


def steps(found: Rounds) -> str:
    """This server's engine core by its own counters: tokens in a step, and milliseconds of each stage."""
    total = {name: sum(each["engine"].get(name, 0.0) for each in found[OURS]) for name in found[OURS][0]["engine"]}
    count = total.pop("lab_engine_steps_total", 0.0)
    tokens = [total.pop(f"lab_engine_{kind}_tokens_total", 0.0) / (count or 1) for kind in ("prompt", "generation")]
    stages = {re.sub(r'.*="|"}', "", name): seconds / (count or 1) * 1e3 for name, seconds in total.items()}
    told = ", ".join(f"{stage} {ms:.2f}" for stage, ms in sorted(stages.items(), key=lambda one: -one[1]))
    return f"a step of ours: {tokens[0]:.1f} tokens of prompts, {tokens[1]:.1f} of answers; ms: {told}"


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
    print("\n".join([*costs(found), steps(found)]))
    print(json.dumps(found))
    return int(not all(row.met for row in told))


if __name__ == "__main__":
    sys.exit(main())

"""Measures some peers, one after the other, once: `python -m tests.benchmarks.peers.one ROUND REQUESTS NAME …`.

Each is a sample: `peer` with its figures, `absent` if it isn't installed, `failed` with the end of its log. REQUESTS:
how many the load sends; 0: as many as its kind says.
"""

import sys
import timeit
from collections.abc import Iterator
from pathlib import Path

from lab_support.experiments.program import emit
from lab_support.instruments.record.provenance import ROOT
from tests.benchmarks.peers.below import INTERRUPTED, nothing_left
from tests.benchmarks.peers.client import Client, client_in
from tests.benchmarks.peers.environments import environments, python_of, versions_of
from tests.benchmarks.peers.kinds import BY_NAME, Peer
from tests.benchmarks.peers.running import PeerFailed, Running, running

MODEL = ROOT / "data" / "model"
WARM_UP = 16
"""Requests before those that count. Their prompts are others, so that no prefix cache knows those that count."""


def command(number: int, requests: int, names: list[str]) -> list[str]:
    """The command that measures these peers; its arguments are those of `main`."""
    return [sys.executable, "-m", "tests.benchmarks.peers.one", str(number), str(requests), *names]


def measure(peer: Peer, python: Path, client: Client, number: int, requests: int) -> dict[str, object]:
    """A peer's figures; it is started and stopped."""
    with running(peer, python, MODEL) as server:
        client.ask(server.port, MODEL, peer, min(WARM_UP, requests or WARM_UP), 1000)
        before, loop = server.cpu_seconds(), loop_ms()
        figures = client.ask(server.port, MODEL, peer, requests or peer.requests, number)
        return {
            "loop_ms": [loop, loop_ms()],
            "start_seconds": round(server.seconds_to_first_answer, 2),
            "memory_mb": round(server.memory_mb()),
            "processes": len(server.tree()),
            **figures,
            "cpu": list(cpu_by_process(server, before)),
        }


def loop_ms() -> float:
    """Milliseconds of a fixed piece of Python, the best of ten: how fast this machine is at the moment.

    A virtual machine's core may be half of a physical one, and what its neighbours do shows in no load average.
    """
    return round(min(timeit.repeat("sum(range(1_000_000))", number=1, repeat=10)) * 1000, 2)


def cpu_by_process(server: Running, before: dict[int, float]) -> Iterator[dict[str, object]]:
    """The CPU seconds of each process since `before`, the busiest first; its title without this machine's folders."""
    spent = [(each.cpu_seconds - before.get(each.pid, 0.0), each) for each in server.tree()]
    for seconds, process in sorted(spent, key=lambda one: -one[0]):
        if seconds >= 0.05:
            yield {"process": " ".join(word.rpartition("/")[2] for word in process.title.split()[:4]),
                   "cpu_seconds": round(seconds, 2), "threads": process.threads}  # fmt: skip


def emit_one(peer: Peer, client: Client, number: int, requests: int) -> None:
    about = {"peer": peer.name, "title": peer.title, "round": number}
    python = python_of(peer)
    if python is None:
        emit("absent", **about)
        return
    try:
        figures = measure(peer, python, client, number, requests)
    except (PeerFailed, RuntimeError, OSError) as error:
        emit("failed", **about, why=str(error).replace(str(environments()), "$ENVIRONMENTS"))
        return
    emit("peer", **about, note=peer.note, versions=versions_of(peer, python), client=client.name, **figures)


def main() -> int:
    number, requests, *names = sys.argv[1:]
    try:
        with nothing_left():
            for name in names:
                emit_one(BY_NAME[name], client_in(environments()), int(number), int(requests))
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The shares and costs of accept strategies: `python -m tests.benchmarks.accept_strategies `.

Every strategy of `--accept`, with 2, 4 and 8 API servers, under four loads of connections that only ask /ping, and
one of streams:

- steady: one connection at a time, each when all API servers sleep.
- burst: connections that are all opened at once, 50 at a time.
- queued: a burst that waits complete in the accept queue while the API servers are stopped, and then all go on.
- keep-alive: 8 connections for each API server, opened one by one, each asks 20 times in turns.
- streaming: 16 clients, each asks for one streamed answer after the other, each on a connection of its own.

Share: the busiest API server's part of the connections times the number of API servers; 1 is even. Beside it the
99 % band of a fair random draw: 99 draws of 100 have a busiest of at most so much. Switches: voluntary context
switches of all threads of the API servers (and of the launcher, where it accepts) for each connection, less the idle
rate, and less what one API server alone needs for the same load. Latencies are a client's, in milliseconds.
"""

import argparse
import json
import os
import random
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab_support.config import ServerConfig
from lab_support.instruments import kernel
from tests.running_server import RunningServer, running_server

STRATEGIES = tuple(ServerConfig.__dataclass_fields__["accept"].metadata["choices"])
CONNECTIONS, BURST = 400, 50
CLOSE, KEEP = b"connection: close\r\n", b""


@dataclass
class Outcome:
    """One load's effect on one server. `switches`: for each connection."""

    strategy: str
    api_servers: int
    load: str
    shares: list[int]
    share: float
    switches: float
    p50: float
    p99: float
    failed: int = 0
    extra: float | None = None

    def row(self, band: float) -> str:
        extra = "–" if self.extra is None else f"{self.extra:+.2f}"
        return (
            f"| {self.strategy} | {self.api_servers} | {self.load} | {'/'.join(map(str, self.shares))} "
            f"| {self.share:.2f} ({band:.2f}) | {extra} | {self.p50:.1f} | {self.p99:.1f} | {self.failed} |"
        )


@dataclass
class Answers:
    """The slot that answered, and its latency in seconds. A connection without an answer counts as failed."""

    served: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    def note(self, answer: bytes, seconds: float) -> None:
        who = answer.partition(b"x-served-by: ")[2].partition(b"\r")[0].decode()
        if answer.startswith(b"HTTP/1.1 200") and who:
            self.served[who] += 1
            self.seconds.append(seconds)
        else:
            self.failed += 1


def address_of(server: RunningServer) -> tuple[str, int]:
    return "127.0.0.1", int(server.url.rsplit(":", 1)[1])


def request(how: bytes) -> bytes:
    return b"GET /ping HTTP/1.1\r\nhost: lab\r\n" + how + b"\r\n"


def ask(connection: socket.socket, how: bytes, answers: Answers, begun: float) -> None:
    """One request, and its answer: all of it comes at once, as it is short."""
    try:
        connection.sendall(request(how))
        answer = connection.recv(65536)
    except OSError:
        answer = b""
    answers.note(answer, time.monotonic() - begun)


def steady(server: RunningServer, pids: list[int]) -> Answers:
    answers = Answers()
    for _ in range(CONNECTIONS):
        kernel.wait_until_asleep(pids)
        begun = time.monotonic()
        with socket.create_connection(address_of(server), timeout=10) as connection:
            ask(connection, CLOSE, answers, begun)
    return answers


def open_at_once(server: RunningServer, count: int) -> dict[socket.socket, float]:
    """Connections that have all been asked for; when each was."""
    opened = {}
    for _ in range(count):
        connection = socket.socket()
        connection.setblocking(False)
        opened[connection] = time.monotonic()
        connection.connect_ex(address_of(server))
    return opened


def answer_all(opened: dict[socket.socket, float], answers: Answers, begun: float | None = None) -> None:
    """Ask on each as soon as it is there, and take the answers as they come, for at most 20 s."""
    deadline, got = time.monotonic() + 20, dict.fromkeys(opened, b"")
    with selectors.DefaultSelector() as waiting:
        for connection in opened:
            waiting.register(connection, selectors.EVENT_WRITE)
        while waiting.get_map() and time.monotonic() < deadline:
            for key, event in waiting.select(1):
                connection = key.fileobj  # type: ignore[assignment]
                try:
                    if event & selectors.EVENT_WRITE:
                        connection.sendall(request(CLOSE))
                        waiting.modify(connection, selectors.EVENT_READ)
                        continue
                    piece = connection.recv(65536)
                except OSError:
                    piece = b""
                got[connection] += piece
                if not piece or b"\r\n\r\n" in got[connection]:
                    answers.note(got[connection], time.monotonic() - (begun or opened[connection]))
                    waiting.unregister(connection)
                    connection.close()
        for key in list(waiting.get_map().values()):
            answers.failed += 1
            key.fileobj.close()  # type: ignore[union-attr]


def burst(server: RunningServer, pids: list[int]) -> Answers:
    answers = Answers()
    for _ in range(CONNECTIONS // BURST):
        kernel.wait_until_asleep(pids)
        answer_all(open_at_once(server, BURST), answers)
    return answers


def queued(server: RunningServer, pids: list[int]) -> Answers:
    answers, order = Answers(), random.Random(4)
    for _ in range(CONNECTIONS // BURST):
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            while "State:\tT" not in Path(f"/proc/{pid}/status").read_text():
                time.sleep(0.001)
        opened = open_at_once(server, BURST)
        for connection in opened:
            connection.setblocking(True)
            connection.sendall(request(CLOSE))
            connection.setblocking(False)
        begun = time.monotonic()
        for pid in order.sample(pids, len(pids)):
            os.kill(pid, signal.SIGCONT)
        answer_queued(opened, answers, begun)
    return answers


def answer_queued(opened: dict[socket.socket, float], answers: Answers, begun: float) -> None:
    """As `answer_all`, where everything has been asked already."""
    with selectors.DefaultSelector() as waiting:
        for connection in opened:
            waiting.register(connection, selectors.EVENT_READ)
        while waiting.get_map() and time.monotonic() < begun + 20:
            for key, _ in waiting.select(1):
                connection = key.fileobj  # type: ignore[assignment]
                try:
                    piece = connection.recv(65536)
                except OSError:
                    piece = b""
                answers.note(piece, time.monotonic() - begun)
                waiting.unregister(connection)
                connection.close()
        for key in list(waiting.get_map().values()):
            answers.failed += 1
            key.fileobj.close()  # type: ignore[union-attr]


def keep_alive(server: RunningServer, pids: list[int]) -> Answers:
    answers = Answers()
    connections = [socket.create_connection(address_of(server), timeout=10) for _ in range(8 * len(api_pids(server)))]
    for _ in range(20):
        for connection in connections:
            ask(connection, KEEP, answers, time.monotonic())
    for connection in connections:
        connection.close()
    return answers


def streaming(server: RunningServer, strategy: str, api_servers: int) -> Outcome:
    """`lab load` in a process of its own. Latencies: from request to last token of 24."""
    command = [
        sys.executable, "-m", "lab_support", "load", server.url, "--clients", "16", "--requests", str(CONNECTIONS),
        "--output-tokens", "24", "--prompt-words", "5", "--ignore-eos", "--duration", "120", "--no-keep-alive",
    ]  # fmt: skip
    pids = watched_pids(server, strategy)
    report: dict = {}

    def work() -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        report.update(json.loads(done.stdout.splitlines()[-1]))

    switches = kernel.count_wake_ups(pids, work, CONNECTIONS, idle_seconds=1.0)
    if report["errors"]:
        print(f"{strategy}, {api_servers} API servers: {report['errors']}", file=sys.stderr)
    served = {name: share["requests"] for name, share in report["by_server"].items()}
    latency = report["end_to_end"]
    return outcome_of(
        strategy, api_servers, "streaming", served, switches.per_connection, latency["p50"], latency["p99"],
        report["asked"] - report["completed"],
    )  # fmt: skip


LOADS: dict[str, Callable[[RunningServer, list[int]], Answers]] = {
    "steady": steady, "burst": burst, "queued": queued, "keep-alive": keep_alive,
}  # fmt: skip
NAMES = [*LOADS, "streaming"]


def api_pids(server: RunningServer) -> list[int]:
    return [pid for name, pid in server.pids.items() if name.startswith("api-")]


def watched_pids(server: RunningServer, strategy: str) -> list[int]:
    """Everybody who has to do with a connection's being taken."""
    return api_pids(server) + [server.pids["launcher"]] * (strategy == "handoff")


def measure(strategy: str, api_servers: int, load: str, server: RunningServer) -> Outcome:
    if load == "streaming":
        return streaming(server, strategy, api_servers)
    pids = watched_pids(server, strategy)
    answers = Answers()

    def work() -> None:
        nonlocal answers
        answers = LOADS[load](server, api_pids(server) if load == "queued" else pids)

    switches = kernel.count_wake_ups(pids, work, CONNECTIONS, idle_seconds=1.0)
    cuts = statistics.quantiles(answers.seconds, n=100)
    return outcome_of(
        strategy, api_servers, load, answers.served, switches.per_connection, cuts[49], cuts[98], answers.failed
    )


def outcome_of(
    strategy: str,
    api_servers: int,
    load: str,
    served: dict[str, int],
    switches: float,
    p50: float,
    p99: float,
    failed: int,
) -> Outcome:
    counts = sorted(served.values(), reverse=True) + [0] * (api_servers - len(served))
    share = counts[0] * api_servers / max(1, sum(counts))
    return Outcome(strategy, api_servers, load, counts, share, switches, p50 * 1000, p99 * 1000, failed)


def band(api_servers: int, connections: int, draws: int = 2000) -> float:
    """The busiest share times the number of API servers that 99 of 100 fair random draws do not exceed."""
    chance = random.Random(1)
    busiest = sorted(max(Counter(chance.choices(range(api_servers), k=connections)).values()) for _ in range(draws))
    return busiest[int(draws * 0.99)] * api_servers / connections


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--api-servers", default="2,4,8")
    parser.add_argument("--loads", default=",".join(NAMES))
    given = parser.parse_args()
    loads = given.loads.split(",")
    alone: dict[str, Outcome] = {}
    with running_server(accept="shared", api_server_count=1, log_level="warning") as server:
        for load in loads:
            alone[load] = measure("shared", 1, load, server)
    print("| --accept | API servers | load | connections | busiest (99 % band) | switches | p50 | p99 | failed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for load in loads:
        print(f"{alone[load].row(1)} {alone[load].switches:.2f} switches", flush=True)
    outcomes = []
    for count in map(int, given.api_servers.split(",")):
        for strategy in given.strategies.split(","):
            with running_server(accept=strategy, api_server_count=count, log_level="warning") as server:
                for load in loads:
                    outcome = measure(strategy, count, load, server)
                    outcome.extra = outcome.switches - alone[load].switches
                    print(outcome.row(band(count, sum(outcome.shares))), flush=True)
                    outcomes.append(outcome)
    print(json.dumps([asdict(each) for each in outcomes]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measures one front end before one engine, once: `python -m tests.benchmarks.front_ends.one ROUND REQUESTS CLIENTS
ENGINE NAME`. REQUESTS: of the load of long answers, at least two of each client; CLIENTS: their numbers, with commas
between them.

Each number of clients and each client program is a sample. Two loads, one of single tokens and one of long answers, so
the CPU time of a request and that of a streamed token, with its request's share in it. kernel_share: of the CPU time of
the load of long answers, the part that was spent in the kernel. (That of a further token is the
difference of the two, in which the noise of both adds up: a sample has it, the table hasn't.)
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from lab_support.experiments.program import emit
from lab_support.instruments import proc
from lab_support.instruments.cpu_time import CpuTime, spent, thread_seconds
from tests.benchmarks.front_ends.kinds import NAMED, FrontEnd, vllm_rs, why_not
from tests.benchmarks.peers.below import INTERRUPTED, nothing_left
from tests.benchmarks.peers.client import Client, Figures, Load
from tests.benchmarks.peers.environments import python_of
from tests.benchmarks.peers.one import MODEL, WARM_UP, loop_ms
from tests.benchmarks.peers.running import PeerFailed, Running, running

SINGLE_TOKENS = 2
"""So many times more requests are sent for a single token."""


def command(number: int, requests: int, clients: str, engine: str, name: str) -> list[str]:
    """The command that measures this front end; its arguments are those of `main`."""
    return [sys.executable, "-m", "tests.benchmarks.front_ends.one", str(number), str(requests), clients, engine, name]


def programs() -> list[Client]:
    """Both clients, or `lab load` alone where vLLM's isn't."""
    found = vllm_rs()
    return [*([Client(found)] if found else []), Client(None)]


def measure(front_end: FrontEnd, engine: str, python: Path, number: int, requests: int, clients: list[int]) -> None:
    """Start it, and emit a sample for each number of clients and each client. Raises `PeerFailed`, `RuntimeError`."""
    kind = front_end.before(engine)
    with running(kind, python, MODEL) as server:
        programs()[0].ask(server.port, MODEL, kind, WARM_UP, 1000)
        for count in clients:
            for program in programs():
                figures = of_both_loads(server, front_end, program, count, requests, 10 * number + count)
                about = {"engine": engine, "front_end": front_end.name, "title": kind.title, "round": number}
                emit("front end", **about, clients=count, client=program.name, **figures)


def of_both_loads(
    server: Running, front_end: FrontEnd, program: Client, count: int, requests: int, seed: int
) -> Figures:
    loop, requests = loop_ms(), max(requests, 2 * count)
    single, of_single = asked(server, front_end, program, Load(count, 1, 0.0), SINGLE_TOKENS * requests, seed)
    before = tick_counts(server, front_end)
    streamed, of_streamed = asked(server, front_end, program, Load(count), requests, seed + 1)
    user, kernel = (late - early for early, late in zip(before, tick_counts(server, front_end), strict=True))
    request_us = of_single.all / single["completed"] * 1e6
    further = streamed["tokens"] - streamed["completed"]
    return {
        "request_us": round(request_us, 1),
        "token_us": round(of_streamed.all / streamed["tokens"] * 1e6, 2),
        "kernel_share": round(kernel / (user + kernel), 2) if user + kernel else None,
        "further_token_us": round((of_streamed.all * 1e6 - request_us * streamed["completed"]) / further, 2),
        "requests_per_second": round(single["completed"] / single["seconds"], 1),
        "memory_mb": round(memory_mb(server, front_end), 1),
        "ttft_ms": streamed["ttft_ms"],
        "inter_token_ms": streamed["inter_token_ms"],
        "tokens_per_second": streamed["tokens_per_second"],
        "tokens": streamed["tokens"],
        "completed": [single["completed"], streamed["completed"]],
        "cpu_seconds": [round(each.all, 3) for each in (of_single, of_streamed)],
        "busiest_thread_cpu_seconds": [round(each.busiest, 3) for each in (of_single, of_streamed)],
        "client_cpu_seconds": [single["client_cpu_seconds"], streamed["client_cpu_seconds"]],
        "loop_ms": loop,
    }


def asked(
    server: Running, front_end: FrontEnd, program: Client, load: Load, requests: int, seed: int
) -> tuple[Figures, CpuTime]:
    """The client's figures, and the CPU time that the front end has spent meanwhile."""
    before = thread_times(server, front_end)
    figures = program.ask(server.port, MODEL, front_end.peer, requests, seed, load)
    return figures, spent(before, thread_times(server, front_end))


def thread_times(server: Running, front_end: FrontEnd) -> dict[int, float]:
    """CPU seconds of each thread of the front end so far."""
    return {thread: cpu for each in processes(server, front_end) for thread, cpu in thread_seconds(each.pid).items()}


def tick_counts(server: Running, front_end: FrontEnd) -> tuple[int, int]:
    """Ticks that the front end has spent in user mode and in the kernel. Source: proc_pid_stat(5), utime and stime."""
    words = [
        Path(f"/proc/{each.pid}/stat").read_text().rpartition(")")[2].split() for each in processes(server, front_end)
    ]
    return sum(int(each[11]) for each in words), sum(int(each[12]) for each in words)


def processes(server: Running, front_end: FrontEnd) -> Iterator[proc.Process]:
    found = [each for each in server.tree() if front_end.of in each.title]
    assert found, [each.title for each in server.tree()]
    yield from found


def memory_mb(server: Running, front_end: FrontEnd) -> float:
    """The proportional memory (PSS) of the front end's processes."""
    found = [proc.read_memory(each.pid) for each in processes(server, front_end)]
    return sum(each.pss for each in found if each) / 1e6


def measure_or_say_why(front_end: FrontEnd, engine: str, number: int, requests: int, clients: list[int]) -> None:
    about = {"engine": engine, "front_end": front_end.name, "title": front_end.peer.title, "round": number}
    if why := why_not(front_end):
        emit("absent", **about, why=why)
        return
    python = python_of(front_end.peer) if front_end.peer.packages else Path(sys.executable)
    assert python
    try:
        measure(front_end, engine, python, number, requests, clients)
    except (PeerFailed, RuntimeError, OSError) as error:
        emit("failed", **about, why=str(error))


def main() -> int:
    number, requests, clients, engine, name = sys.argv[1:]
    try:
        with nothing_left():
            measure_or_say_why(
                NAMED[name], engine, int(number), int(requests), [int(each) for each in clients.split(",")]
            )
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Clients of a live server, and what the server counts while they ask.

They run in a cell's own process, in one event loop.

Taught in: 08a_which_numbers_are_true
"""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from lab_support.instruments import proc
from lab_support.instruments.load import http_stream
from lab_support.instruments.load.generator import encode_request
from lab_support.instruments.load.plan import Load, address_of
from lab_support.instruments.load.workload import Question
from lab_support.notebook.servers.live_server import Server, live_server
from lab_support.notebook.servers.look import metric, read_metrics

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
STEPS = "lab_engine_steps_total"
_SUBMITTED = "vllm:request_prompt_tokens_count"
_PATIENCE = 30.0  # seconds for one answer
_WARM, _LOOK_EVERY = 0.5, 0.1  # seconds
_LONG = 370  # times
_EARLY = 16  # tokens of the answer that is under way when all others ask


@dataclass(frozen=True, slots=True)
class Got:
    """An answer. id: its x-request-id. times: of the arrival of each token, as `time.monotonic()` tells them."""

    id: str
    times: Sequence[float]


class Asker:
    """One client, with one connection, which asks one thing at a time."""

    def __init__(self, server: Server) -> None:
        self._load = Load(url=server.url, api_key=server.api_key)
        self._address = address_of(server.url)
        self._connection: http_stream.Connection | None = None

    async def ask(self, tokens: int, *, prompt: str = "Once upon a time", leave_after: int | None = None) -> Got:
        """Ask for an answer of so many tokens, and return when it has ended.

        leave_after: hang up after so many. Raises `RuntimeError` if the server refuses, or has not answered in 30 s.
        """
        connection = await self.connect()
        body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": True}
        message = encode_request(self._load, *self._address, Question("/v1/completions", body, None))
        answer = await connection.ask(message, timeout=_PATIENCE, hang_up_after=leave_after)
        if answer.outcome not in ("completed", "hung up"):
            raise RuntimeError(f"got “{answer.outcome}” from the server, expected an answer of {tokens} tokens")
        return Got(answer.header(b"x-request-id"), list(answer.token_times))

    @property
    def arrived(self) -> int:
        """The tokens of the answer under way that are here."""
        return len(self._connection.arrivals) if self._connection else 0

    def close(self) -> None:
        if self._connection:
            self._connection.close()

    async def connect(self) -> http_stream.Connection:
        """Connect, if it isn't."""
        if not self._connection or not self._connection.usable:
            self._connection = await http_stream.connect(*self._address)
        return self._connection


@asynccontextmanager
async def askers(server: Server, count: int) -> AsyncIterator[list[Asker]]:
    """So many clients of a server, in a list. Their connections are closed at the end of the block."""
    made = [Asker(server) for _ in range(count)]
    try:
        yield made
    finally:
        for asker in made:
            asker.close()


def paced_server(milliseconds: float, *, rows: int, **flags: Any) -> Server:
    """Start a server with one API server, in which each step takes so long: a stand-in for a GPU.

    rows: the most sequences in a step. flags: of `live_server`.
    """
    with tempfile.TemporaryDirectory() as folder:  # the engine core has read the table once the server is ready
        table = Path(folder, "pace.txt")
        table.write_text("".join(f"{count} 1 {milliseconds}\n" for count in sorted({1, rows})))
        return live_server(device=f"paced:{table}", api_server_count=1, max_num_seqs=rows, **flags)


async def stand_still(server: Server, seconds: float, role: str = "engine-0") -> None:
    """Stop one process of a server by SIGSTOP, with all its threads, and let it go on after so many seconds."""
    with stopped(server, role):
        await asyncio.sleep(seconds)


@contextmanager
def stopped(server: Server, role: str = "engine-0") -> Iterator[None]:
    """While the block runs, no thread of that process does. Raises `TimeoutError` if it does not stop within 5 s."""
    os.kill(server.pids[role], signal.SIGSTOP)
    try:
        _await_standstill(server.pids[role])
        yield
    finally:
        os.kill(server.pids[role], signal.SIGCONT)


def _await_standstill(pid: int) -> None:
    """kill(2) returns before a thread that runs on another core has stopped."""
    deadline = time.monotonic() + 5.0
    while set(proc.read_thread_states(pid).values()) - {"T"}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} got SIGSTOP and still runs after 5 s")
        time.sleep(0.0005)


async def meet_a_stop(
    server: Server, works: Sequence[Callable[[Asker, float], Awaitable[object]]], *, after: float, seconds: float
) -> None:
    """Let a client do each of `works` at the same time, and stop the engine core once; return when all are done.

    works: each is called with its client, which has asked before, and the time at which all begin. after: seconds from
    then to the stop. seconds: of the stop.
    """
    async with askers(server, len(works)) as crowd:
        await asyncio.gather(*(asker.ask(1) for asker in crowd))
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for work, asker in zip(works, crowd, strict=True):
                group.create_task(_awaited(work(asker, begin)))
            await asyncio.sleep(after)
            _tell(f"the engine core stands still for {seconds:g} s")
            await stand_still(server, seconds)


async def _awaited(work: Awaitable[object]) -> None:
    await work


def _tell(words: str) -> None:
    """A line for the reader, because what follows takes some seconds."""
    print(words, flush=True)


# ---- what the server counts ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Window:
    """A look at /metrics over a time. seconds: its length. grown: by how much each counter grew meanwhile, by its name.

    present: the sequences that were running or waiting, the mean of many looks.
    """

    seconds: float
    grown: Mapping[str, float]
    present: float


async def watch(
    server: Server, work: Callable[[Asker], Awaitable[object]], clients: int, seconds: float = 2.0
) -> Window:
    """Let so many clients work, look at /metrics ten times a second once they are all at it, and end them.

    work: called with each client; it must not return. Raises what it raises.
    """
    _tell(f"{clients} clients ask again and again")
    async with askers(server, clients) as crowd:
        tasks = [asyncio.ensure_future(work(asker)) for asker in crowd]
        try:
            await asyncio.sleep(_WARM)
            looks = await _looks(server, seconds)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ends:
            if isinstance(error, Exception):
                raise error
    (begun, first), *_, (ended, last) = looks
    grown = {name: value - first.get(name, 0.0) for name, value in last.items()}
    return Window(ended - begun, grown, mean(seen[RUNNING] + seen[WAITING] for _, seen in looks[1:]))


async def _looks(server: Server, seconds: float) -> list[tuple[float, dict[str, float]]]:
    begun = time.monotonic()
    found: list[tuple[float, dict[str, float]]] = []
    while not found or time.monotonic() < begun + seconds:
        found.append((time.monotonic(), await asyncio.to_thread(read_metrics, server)))
        await asyncio.sleep(_LOOK_EVERY)
    return found


# ---- all at once -----------------------------------------------------------------------------------------------------


async def ask_at_once(server: Server, lengths: Sequence[int]) -> dict[str, Any]:
    """Ask for answers of these lengths, all at once; return plain data for `emit`.

    The engine core is stopped in the middle of a short answer until all the others wait in front of it, so that it
    finds them all together, in this order. Then it goes on. steps: those that it took from then on. seconds: until the
    last answer had ended. ended: when each of them had.
    """
    async with askers(server, 1 + len(lengths)) as (early, *crowd):
        await asyncio.gather(*(asker.connect() for asker in crowd))  # so that they ask in order
        before = await asyncio.to_thread(read_metrics, server)
        asked = [asyncio.ensure_future(early.ask(_EARLY))]
        await _until(lambda: early.arrived > 0)
        _tell(f"{len(lengths)} ask while the engine core is stopped, and then it goes on")
        with stopped(server):
            gone = early.arrived
            asked += [asyncio.ensure_future(asker.ask(length)) for asker, length in zip(crowd, lengths, strict=True)]
            await _until_submitted(server, before.get(_SUBMITTED, 0.0) + len(asked))
        begun = time.monotonic()
        _, *answers = await asyncio.gather(*asked)
    ended = [round(answer.times[-1] - begun, 4) for answer in answers]
    steps = await asyncio.to_thread(metric, server, STEPS) - before.get(STEPS, 0.0) - gone
    return {"steps": steps, "seconds": max(ended), "ended": ended, "tokens": sum(lengths)}


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not holds():
            await asyncio.sleep(0.001)


async def _until_submitted(server: Server, count: float) -> None:
    async with asyncio.timeout(_PATIENCE):
        while (await asyncio.to_thread(read_metrics, server)).get(_SUBMITTED, 0.0) < count:
            await asyncio.sleep(0.01)


# ---- a long prompt ---------------------------------------------------------------------------------------------------


def long_prompt(number: int) -> str:
    """A prompt of about 1,900 tokens. No other number's begins like it, so nothing of it is in the prefix cache."""
    return f"{number} " + "there was a little dog " * _LONG

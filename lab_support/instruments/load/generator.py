"""The load generator: asks a server on this machine for completions, in an open or closed loop, and reports the result.

`lab load URL …`, or from Python `measure(Load(url=…))` and `await run_load(Load(url=…))`. It runs in one
process and says so when that process, not the server, was the limit. It connects to the loopback interface
alone, because a load generator that can be aimed at other machines is a weapon.

Closed loop: N clients, each of which sends its next request when the last one has ended; a slow server slows
them down, too. Open loop: requests arrive at times of their own, by a Poisson process or a trace; latency counts
from the due time of each.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any

from tqdm import tqdm

from lab_support.instruments.load import http_stream, report, workload
from lab_support.instruments.load import progress as load_progress
from lab_support.instruments.load.latency import COMPLETED, HUNG_UP, RequestRecord
from lab_support.instruments.load.plan import Load, address_of
from lab_support.instruments.load.report import Report
from lab_support.instruments.load.workload import Question

STOPPED = "stopped by Ctrl-C"
MOST_OPEN_CONNECTIONS = 512
"""An open loop that needs more waits, which shows as lateness. Below the usual limit of 1,024 descriptors."""


# ---- running ---------------------------------------------------------------------------------------------------------


class NoServer(Exception):
    """Nobody listens at the load's address. The text says what was got, what was expected and what to do."""


@dataclass(slots=True)
class _Run:
    """One running load: its connections and its records so far.

    needs_server: give up if the first connection can't be made.
    """

    load: Load
    host: str
    port: int
    progress: Any
    needs_server: bool = False
    stopped: bool = False
    started_at: float = 0.0
    idle: list[http_stream.Connection] = field(default_factory=list)
    busy: dict[http_stream.Connection, float] = field(default_factory=dict)
    """Connections that wait for an answer, with the due time of its request."""
    records: list[RequestRecord] = field(default_factory=list)
    stale_connections: int = 0

    @property
    def over(self) -> bool:
        return time.monotonic() - self.started_at >= self.load.duration


async def run_load(load: Load, *, progress: bool = False, progress_fd: int = -1, as_command: bool = False) -> Report:
    """Run `load` to its end in this process and event loop. It takes at most `duration + timeout` seconds.

    progress: draw a bar on stderr. progress_fd: write lines of `load_progress.Progress` there. as_command: Ctrl-C ends
    it with the report so far, without the requests under way; raises `NoServer` if nobody listens. Raises
    `WorkloadError` for prompts or a trace that can't be read.
    """
    host, port = address_of(load.url)
    asked = prepare(load)
    arrivals = _arrivals(load, len(asked))
    with report.GeneratorMeter() as meter, tqdm(total=len(asked), unit="req", disable=not progress) as bar:
        run = _Run(load, host, port, bar, needs_server=as_command, started_at=time.monotonic())
        async with _told_on(progress_fd, run, len(asked)):
            work = asyncio.ensure_future(
                _open_loop(run, asked, arrivals) if load.open_loop else _closed_loop(run, asked)
            )
            await (_until_ctrl_c(run, work) if as_command else work)
        ended_at = time.monotonic()
    for connection in (*run.idle, *run.busy):
        connection.close()
    return report.summarise(
        run.records,
        description=load.description + (f", {STOPPED} after {len(run.records)} of {len(asked)}" if run.stopped else ""),
        url=load.url,
        seconds=ended_at - run.started_at,
        open_loop=load.open_loop,
        generator=meter.cost,
        stale_connections=run.stale_connections,
        seed=load.seed,
    )


async def _until_ctrl_c(run: _Run, work: asyncio.Future[None]) -> None:
    """Wait for `work`, or end it at SIGINT. Raises `NoServer` if one of its requests raised it."""

    def stop() -> None:
        run.stopped = True
        work.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        await work
    except asyncio.CancelledError:
        if not run.stopped:
            raise
    except BaseExceptionGroup as group:
        nobody = group.subgroup(NoServer)
        raise nobody.exceptions[0] if nobody else group from None
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@asynccontextmanager
async def _told_on(descriptor: int, run: _Run, asked: int) -> AsyncIterator[None]:
    """Write lines of progress to `descriptor` while the body runs; none if it is negative."""
    if descriptor < 0:
        yield
        return
    pace, taken = load_progress.Pace(asked, run.started_at), 0

    def step(now: float) -> load_progress.Progress:
        nonlocal taken
        ended, taken = run.records[taken:], len(run.records)
        under_way = [(due_at, one.arrivals) for one, due_at in run.busy.items()]
        errors = sum(record.outcome not in (COMPLETED, HUNG_UP) for record in run.records)
        return pace.step(now, [(one.due_at, one.token_times) for one in ended], under_way, taken, errors)

    telling = asyncio.create_task(load_progress.tell_progress(descriptor, step))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])


def measure(load: Load, *, progress: bool = False, progress_fd: int = -1, as_command: bool = False) -> Report:
    """`run_load` for a program without an event loop. In a notebook's kernel, which has one, run `lab load` instead."""
    return asyncio.run(run_load(load, progress=progress, progress_fd=progress_fd, as_command=as_command))


def prepare(load: Load) -> list[Question]:
    """All the requests of `load`, in order. Raises `WorkloadError`."""
    chance = random.Random(load.seed)
    count = load.requests if load.trace is None else min(load.requests, len(workload.read_trace(load.trace)))
    source = load.prompts or workload.PROMPTS_IN_THE_BOX
    if load.prompt_words is not None:
        prompts = workload.made_up_prompts(load.prompt_words, chance)
    else:
        prompts = workload.shuffled_for_ever(workload.read_prompts(source), chance)
    return workload.questions(
        prompts,
        count,
        chance,
        output_tokens=load.output_tokens,
        hangup_share=load.hangup_share,
        fields=_fields(load),
    )


def _fields(load: Load) -> dict[str, Any]:
    fields: dict[str, Any] = {"stream": load.stream}
    if load.stream:
        fields["stream_options"] = {"include_usage": True}
    if load.ignore_eos:
        fields["ignore_eos"] = True
    if load.temperature is not None:
        fields["temperature"] = load.temperature
    if load.model is not None:
        fields["model"] = load.model
    return fields


def _arrivals(load: Load, count: int) -> list[float]:
    """Due times of the requests, in seconds from the start; empty for a closed loop."""
    if load.trace is not None:
        times: Iterable[float] = workload.read_trace(load.trace)
    elif load.rate is not None:
        times = workload.poisson_arrivals(load.rate, random.Random(f"arrivals {load.seed}"))
    else:
        return []
    return list(takewhile(lambda at: at < load.duration, islice(times, count)))


async def _closed_loop(run: _Run, asked: list[Question]) -> None:
    feed = iter(asked)

    async def client() -> None:
        for question in feed:
            if run.over:
                return
            await _request(run, question, due_at=time.monotonic())

    async with asyncio.TaskGroup() as clients:
        for _ in range(min(run.load.clients, len(asked))):
            clients.create_task(client())


async def _open_loop(run: _Run, asked: list[Question], arrivals: list[float]) -> None:
    free = asyncio.Semaphore(MOST_OPEN_CONNECTIONS)

    async def one(question: Question, due_at: float) -> None:
        async with free:
            await _request(run, question, due_at=due_at)

    async with asyncio.TaskGroup() as requests:
        for question, at in zip(asked, arrivals, strict=False):
            due_at = run.started_at + at
            await asyncio.sleep(max(0.0, due_at - time.monotonic()))
            requests.create_task(one(question, due_at))


async def _request(run: _Run, question: Question, *, due_at: float) -> None:
    """Send one request, on an idle connection if there is one, and record the outcome."""
    started_at = time.monotonic()
    message = encode_request(run.load, run.host, run.port, question)
    answer = await _ask(run, message, question.hang_up_after, due_at)
    run.records.append(
        RequestRecord(
            due_at=due_at,
            started_at=started_at,
            ended_at=answer.ended_at,
            token_times=answer.token_times,
            tokens=answer.tokens,
            outcome=answer.outcome,
            served_by=answer.header(b"x-served-by"),
            engine=answer.header(b"x-engine"),
            stand_in=answer.header(b"x-stand-in"),
        )
    )
    run.progress.update()


async def _ask(run: _Run, message: bytes, hang_up_after: int | None, due_at: float) -> http_stream.Answer:
    while True:
        try:
            # If the accept queue is full, the SYN is dropped and our kernel would resend it for minutes: tcp(7).
            async with asyncio.timeout(run.load.timeout):
                connection = await _connection(run)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "timeout"
            if run.needs_server and error.errno:
                raise NoServer(
                    f"{run.load.url}: got {reason}, expected a server; start one (`lab serve`) or give another address"
                ) from error
            return _unanswered(f"connect: {reason}")
        run.needs_server = False
        run.busy[connection] = due_at
        answer = await connection.ask(message, timeout=run.load.timeout, hang_up_after=hang_up_after)
        del run.busy[connection]
        if answer.outcome != "stale":
            break
        # The server closed an idle connection just as we wrote to it. HTTP/1.1 allows a client to retry, and all do.
        run.stale_connections += 1
    if run.load.keep_alive and connection.usable:
        run.idle.append(connection)
    else:
        connection.close()
    return answer


async def _connection(run: _Run) -> http_stream.Connection:
    while run.idle:
        connection = run.idle.pop()
        if connection.usable:
            return connection
        run.stale_connections += 1
    return await http_stream.connect(run.host, run.port)


def _unanswered(outcome: str) -> http_stream.Answer:
    answer = http_stream.Answer()
    answer.outcome = outcome
    answer.ended_at = time.monotonic()
    return answer


def encode_request(load: Load, host: str, port: int, question: Question) -> bytes:
    """The bytes of one HTTP/1.1 request."""
    body = json.dumps(question.body).encode()
    lines = [
        f"POST {question.path} HTTP/1.1",
        f"Host: {host}:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    if load.api_key is not None:
        lines.append(f"Authorization: Bearer {load.api_key}")
    if not load.keep_alive:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


# ---- the command -----------------------------------------------------------------------------------------------------

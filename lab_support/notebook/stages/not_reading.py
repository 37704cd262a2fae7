"""A batch of streams, of which one client reads, one reads now and then, and one reads nothing.

The streams are written in the cell's own process, the clients are a forked child. Standard library only.

Taught in: 09a_what_if_one_end_leaves
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from threading import Event, Thread
from typing import Any

from lab_support.notebook.stages.fleet import fleet

READS, SLOW, NEVER = "reads", "reads now and then", "reads nothing"
LIMIT = 1_000_000
"""Bytes that may wait for one client."""
STEPS = 300
_TOKEN = b"x" * 20_000
_TOGETHER = 40  # steps, after which those that read have to catch up: less than the limit
_BUFFER = 65536  # bytes, of each socket in the kernel
_PAUSE = 0.01  # seconds
_PATIENCE = 2.0

Step = Callable[[list[asyncio.StreamWriter], bytes], Awaitable[object]]


def stream(step: Step) -> dict[str, Any]:
    """Call `step(clients, token)` 300 times for three clients; for `emit`.

    steps: those that were done in time. kept: bytes that this process still keeps for its clients then, and most of
    them ever. open: connections that are. read: bytes, by client.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening_socket, fleet() as processes:
        listening_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        child = processes.start(_clients, listening_socket.getsockname())
        found = asyncio.run(_stream(listening_socket, step))
        return found | {"read": child.result()}


async def _stream(listening_socket: socket.socket, step: Step) -> dict[str, Any]:
    writers: dict[str, asyncio.StreamWriter] = {}

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers[(await reader.readline()).decode().strip()] = writer

    async with await asyncio.start_server(on_client, sock=listening_socket):
        while len(writers) < 3:
            await asyncio.sleep(_PAUSE)
        steps, most = await _compute(step, writers)
        kept = {name: _kept(writer) for name, writer in writers.items()}
        is_open = {name: writer.get_extra_info("socket").fileno() >= 0 for name, writer in writers.items()}
        for name in (READS, SLOW):
            await _flushed(writers[name])
        for writer in writers.values():
            writer.transport.abort()
        await asyncio.sleep(0)
    return {"steps": steps, "kept": kept, "most": most, "open": is_open, "token": len(_TOKEN)}


async def _compute(step: Step, writers: dict[str, asyncio.StreamWriter]) -> tuple[int, dict[str, int]]:
    clients = [writers[name] for name in (READS, SLOW, NEVER)]
    most = dict.fromkeys(writers, 0)
    for number in range(STEPS):
        try:
            await asyncio.wait_for(step(clients, _TOKEN), _PATIENCE)
        except TimeoutError:
            return number, most
        await asyncio.sleep(0)
        most = {name: max(most[name], _kept(writer)) for name, writer in writers.items()}
        if number % _TOGETHER == 0:
            for name in (READS, SLOW):
                await _flushed(writers[name])
    return STEPS, most


def _kept(writer: asyncio.StreamWriter) -> int:
    return writer.transport.get_write_buffer_size()


async def _flushed(writer: asyncio.StreamWriter) -> None:
    deadline = time.monotonic() + _PATIENCE
    while _kept(writer) and time.monotonic() < deadline:
        await asyncio.sleep(0.001)


# ---- the clients -----------------------------------------------------------------------------------------------------


def _clients(address: tuple[str, int]) -> dict[str, int]:
    """Runs in the child; by client, the bytes that it has read when its connection ends."""
    read: dict[str, int] = {}
    done = Event()
    threads = [Thread(target=_client, args=(address, name, read, done)) for name in (READS, SLOW, NEVER)]
    for thread in threads:
        thread.start()
    for thread in threads[:2]:
        thread.join()
    done.set()
    threads[2].join()
    return read


def _client(address: tuple[str, int], name: str, read: dict[str, int], done: Event) -> None:
    read[name] = 0
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        connection.connect(address)
        connection.sendall(f"{name}\n".encode())
        if name == NEVER:
            done.wait()
            return
        try:
            while more := connection.recv(1 << 20):
                read[name] += len(more)
                if name == SLOW:
                    time.sleep(_PAUSE)
        except OSError:
            return

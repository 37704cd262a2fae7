"""An API server in one coroutine, an engine core that answers it, and clients that leave or stay.

The server runs in the cell's own process, the clients in a forked child. Standard library only.

Taught in: 09a_what_if_one_end_leaves
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from threading import Thread
from typing import Any

from lab_support.notebook.stages.fleet import fleet

STAYS, PIPELINES, LEAVES, QUEUE = (
    "stays",
    "stays, and has sent its next request",
    "leaves after two tokens",
    "leaves before its first token",
)
TOKENS = 100
_STEP = 0.003  # seconds
_TOKEN = b"token\n"
_PATIENCE = 10.0

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter, "Tokens"], Awaitable[object]]


class Tokens:
    """One client's answer. The engine core puts a token into it at each step, until it has all or is told to abort."""

    def __init__(self) -> None:
        self.computed = 0
        self._aborted = False
        self._ready: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def get(self) -> bytes | None:
        """The next token; None after the last."""
        return await self._ready.get()

    def abort(self) -> None:
        """Tell the engine core to compute no more."""
        self._aborted = True

    @property
    def ended(self) -> bool:
        return self._aborted or self.computed == TOKENS

    def step(self) -> None:
        """Runs in the engine core."""
        if not self.ended:
            self.computed += 1
            self._ready.put_nowait(_TOKEN)
            if self.computed == TOKENS:
                self._ready.put_nowait(None)


def serve(answer: Answer) -> dict[str, Any]:
    """Serve four clients with `answer`, a coroutine for each; for `emit`: by client, its tokens computed and read."""
    with socket.create_server(("127.0.0.1", 0)) as listening_socket, fleet() as processes:
        clients = processes.start(_clients, listening_socket.getsockname())
        computed = asyncio.run(asyncio.wait_for(_serve(listening_socket, answer), _PATIENCE))
        read = clients.result()
    return {name: {"computed": computed[name], "read": read[name]} for name in (STAYS, PIPELINES, LEAVES, QUEUE)}


async def _serve(listening_socket: socket.socket, answer: Answer) -> dict[str, int]:
    answers: dict[str, Tokens] = {}

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode().strip()
        answers[name] = tokens = Tokens()
        try:
            await answer(reader, writer, tokens)
        finally:
            writer.close()

    server = await asyncio.start_server(on_client, sock=listening_socket)
    async with server:
        while len(answers) < 4:
            await asyncio.sleep(_STEP)
        await _compute([answers[name] for name in (STAYS, PIPELINES, LEAVES)])
        await _compute([answers[QUEUE]])
        return {name: each.computed for name, each in answers.items()}


async def _compute(batch: list[Tokens]) -> None:
    """The engine core: a token for each, step by step. One that waits in the queue is in no batch."""
    while not all(each.ended for each in batch):
        for each in batch:
            each.step()
        await asyncio.sleep(_STEP)


# ---- the clients -----------------------------------------------------------------------------------------------------


def _clients(address: tuple[str, int]) -> dict[str, int]:
    """Runs in the child: all at once; by client, the tokens that it has read."""
    read: dict[str, int] = {}
    threads = [Thread(target=_ask, args=(address, name, read)) for name in (STAYS, PIPELINES, LEAVES, QUEUE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return read


def _ask(address: tuple[str, int], name: str, read: dict[str, int]) -> None:
    wanted = {LEAVES: 2, QUEUE: 0}.get(name, TOKENS)
    got, until = b"", time.monotonic() + _PATIENCE
    with socket.create_connection(address, timeout=_PATIENCE) as connection:
        connection.sendall(f"{name}\n".encode() + b"another request\n" * (name == PIPELINES))
        while got.count(_TOKEN) < wanted and time.monotonic() < until:
            try:
                more = connection.recv(65536)
            except OSError:
                break
            if not more:
                break
            got += more
    read[name] = got.count(_TOKEN)

"""Clients that hold connections and ask for nothing, more than a server has descriptors for."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from tests.departures import HEALTH, Address

CLOSING = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
KINDS = {
    "slow": b"GET /health HTTP/1.1\r\nx: ",  # the head goes on, a byte now and then, and never ends
    "silent": b"",
    "idle": HEALTH,  # once, and then nothing more
}


@contextlib.contextmanager
def crowd(address: Address, counts: dict[str, int]) -> Iterator[None]:
    """So many of each kind while the block runs. The slow ones send a byte twice a second."""
    with contextlib.ExitStack() as stack:
        opened: dict[str, list[socket.socket]] = {kind: [] for kind in counts}
        for kind, count in counts.items():
            for _ in range(count):
                connection = stack.enter_context(socket.create_connection(address, timeout=30))
                with contextlib.suppress(OSError):  # it had to make way already
                    connection.sendall(KINDS[kind])
                connection.setblocking(False)
                opened[kind].append(connection)
        leaving = threading.Event()
        drips = threading.Thread(target=_drip, args=(opened.get("slow", []), leaving))
        drips.start()
        try:
            yield
        finally:
            leaving.set()
            drips.join()


def _drip(connections: list[socket.socket], leaving: threading.Event) -> None:
    while not leaving.wait(0.5):
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.send(b"a")


def ask(address: Address, request: bytes = CLOSING) -> tuple[bytes, float]:
    """The status line, and after how many seconds it was there."""
    begun = time.monotonic()
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=30) as connection:
        connection.sendall(request)
        return connection.recv(15), time.monotonic() - begun
    return b"", time.monotonic() - begun

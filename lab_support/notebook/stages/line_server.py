"""A server for experiments: a question is a line, and the answer is the same line. Standard library only.

It answers two questions at once if two come, a byte of each in turn, like a server that works for several
clients. This exposes processes that share a connection, because their answers get mixed.
"""

import os
import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

_PATIENCE = 0.2
"""Seconds for which the first question waits for a second one."""


@contextmanager
def line_server() -> Iterator[tuple[str, int]]:
    """The address of a server that runs in a process of its own while the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        address = listening_socket.getsockname()
        if (server := os.fork()) == 0:
            _serve(listening_socket)
    try:
        yield address
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


@dataclass(slots=True)
class _Client:
    connection: socket.socket
    arrived: bytes = b""


def _serve(listening_socket: socket.socket) -> NoReturn:
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(listening_socket, selectors.EVENT_READ)
            questions: list[tuple[socket.socket, bytes]] = []
            while True:
                arrived = _await_lines(ready, listening_socket, _PATIENCE if questions else None)
                questions += arrived
                if len(questions) > 1 or not arrived:
                    _answer_in_turn(questions)
                    questions = []
    finally:
        os._exit(1)


def _await_lines(
    ready: selectors.BaseSelector, listening_socket: socket.socket, seconds: float | None
) -> list[tuple[socket.socket, bytes]]:
    """The lines that came; none after `seconds`, or if a client only connected or left."""
    lines: list[tuple[socket.socket, bytes]] = []
    for key, _ in ready.select(seconds):
        if key.fileobj is listening_socket:
            connection, _ = listening_socket.accept()
            ready.register(connection, selectors.EVENT_READ, _Client(connection))
            continue
        client: _Client = key.data
        try:
            piece = client.connection.recv(4096)
        except ConnectionError:
            piece = b""
        if not piece:
            ready.unregister(client.connection)
            client.connection.close()
        *whole, client.arrived = (client.arrived + piece).split(b"\n")
        lines += [(client.connection, line + b"\n") for line in whole]
    return lines


def _answer_in_turn(questions: list[tuple[socket.socket, bytes]]) -> None:
    for place in range(max((len(line) for _, line in questions), default=0)):
        for connection, line in questions:
            try:
                connection.sendall(line[place : place + 1])
            except OSError:
                continue  # it has left

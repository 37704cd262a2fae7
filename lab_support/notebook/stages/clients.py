"""Clients of a cell's workers: they connect, and note their answers and the times. Standard library only."""

import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

CUT_OFF, NOTHING, STRANGER = "cut off", "no answer", "a stranger"


@dataclass(frozen=True, slots=True)
class Answer:
    """One client's answer. by: a worker's name, `STRANGER`, `CUT_OFF` or `NOTHING`. ms: since `answers` was called."""

    by: str
    ms: float


class Clients:
    """`count` connections to `address`.

    who: maps an answer to a worker's name, or "" for a stranger. finished: wait until each is connected; raises
    `TimeoutError` after 10 seconds. Otherwise the kernel goes on connecting while they wait for answers.
    """

    def __init__(self, address: tuple[str, int], count: int, who: Callable[[bytes], str], finished: bool) -> None:
        self._who = who
        self._sockets = [_connecting(address, finished) for _ in range(count)]

    def say(self, text: bytes) -> None:
        """Send `text` from each client that is connected."""
        for connection in self._sockets:
            with suppress(OSError):
                connection.send(text)

    def answers(self, seconds: float = 5.0) -> list[Answer]:
        """The answers in the order of their arrival; after `seconds`, the rest get `NOTHING`. Then all close."""
        began, found = time.monotonic(), []
        with selectors.DefaultSelector() as waiting:
            for connection in self._sockets:
                waiting.register(connection, selectors.EVENT_READ)
            while waiting.get_map() and time.monotonic() - began < seconds:
                for key, _ in waiting.select(max(0.0, began + seconds - time.monotonic())):
                    waiting.unregister(key.fileobj)
                    found.append(Answer(self._read(key.fileobj), 1000 * (time.monotonic() - began)))  # type: ignore[arg-type]
            found += [Answer(NOTHING, 1000 * seconds)] * len(waiting.get_map())
        self.close()
        return found

    def outcome(self, seconds: float = 5.0) -> dict[str, int]:
        """The count of clients by outcome, for `emit`: "answered", `CUT_OFF`, `NOTHING`, `STRANGER`."""
        by = Counter(answer.by for answer in self.answers(seconds))
        named = {what: by.pop(what, 0) for what in (CUT_OFF, NOTHING, STRANGER)}
        return {"answered": sum(by.values()), **named}

    def close(self) -> None:
        """Close all connections."""
        for connection in self._sockets:
            connection.close()

    def _read(self, connection: socket.socket) -> str:
        try:
            told = connection.recv(65536)
        except OSError:
            return CUT_OFF
        return (self._who(told) or STRANGER) if told else CUT_OFF


def _connecting(address: tuple[str, int], finished: bool) -> socket.socket:
    if finished:
        return socket.create_connection(address, timeout=10)
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(address)
    return connection

"""A client that connects to an address before any process is there that would accept it."""

import socket
import struct
import time
from types import TracebackType
from typing import Self

CONNECTED, REFUSED, MISSING, NO_ADDRESS = "connected", "refused", "no such path", "no address yet"
ANSWERED, UNANSWERED = "answered", "not answered"


class EarlyClient:
    """Connects to `address`, in ZeroMQ's notation; `met` says how that ended. It sends nothing.

    ZeroMQ greets whoever connects, as soon as it accepts the connection: that is the answer.
    """

    def __init__(self, address: str, seconds: float = 5.0) -> None:
        self.met = NO_ADDRESS
        self._socket = socket.socket(socket.AF_UNIX if address.startswith("ipc:") else socket.AF_INET)
        self._socket.settimeout(seconds)
        # Closed by a reset: otherwise the kernel would keep the port for a minute, in TIME_WAIT, and give it to nobody.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        place = address.partition("://")[2]
        if place and not place.endswith(":*"):
            self.met = self._connect(place)

    def _connect(self, place: str) -> str:
        host, _, port = place.rpartition(":")
        try:
            self._socket.connect((host, int(port)) if self._socket.family == socket.AF_INET else place)
        except ConnectionRefusedError:
            return REFUSED
        except FileNotFoundError:
            return MISSING
        return CONNECTED

    def outcome(self, deadline: float) -> str:
        """Whether an answer came until `deadline`, by time.monotonic()."""
        if self.met != CONNECTED:
            return UNANSWERED
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            return ANSWERED if self._socket.recv(1) else UNANSWERED
        except OSError:  # no answer in time, or the connection was reset
            return UNANSWERED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

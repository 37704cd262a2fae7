"""A narrow range of ports, so that an accident that is rare among all ports is seen within seconds.

Taught in: 07_how_do_strangers_find_each_other
"""

import errno
import random
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

IP_LOCAL_PORT_RANGE = 51  # from linux/in.h, since Linux 6.3; Python has no name for it


@dataclass(frozen=True, slots=True)
class PortRange:
    """The ports from which the kernel chooses one for port 0, on a loopback address that no other program uses.

    host: that address. low, high: the first port and the last one. narrow: False where the kernel can't narrow the
    range of one socket, before Linux 6.3; then it is the machine's.
    """

    host: str
    low: int
    high: int
    narrow: bool

    @classmethod
    def of(cls, count: int) -> Self:
        """A range of `count` ports, if the kernel can. Any user may set it, within the machine's own range."""
        words = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
        least, most = int(words[0]), int(words[1])
        host = ".".join(["127", *(str(random.randrange(1, 255)) for _ in range(3))])
        low = least + max(0, most + 1 - least - count) // 2
        chosen = cls(host, low, min(most, low + count - 1), True)
        return chosen if chosen._is_possible() else cls(host, least, most, False)

    @property
    def count(self) -> int:
        """The number of ports in the range. The kernel may draw from some of them only."""
        return self.high + 1 - self.low

    def bind(self) -> socket.socket:
        """A TCP socket, bound to port 0: the kernel has chosen a free port of the range. It does not listen yet."""
        sock = socket.socket()
        try:
            self._narrow(sock)
            sock.bind((self.host, 0))
        except OSError:
            sock.close()
            raise
        return sock

    def probe(self) -> tuple[str]:
        """The address of a port that was free, in ZeroMQ's notation. Nothing keeps it free."""
        with self.bind() as sock:
            return (address_of(sock),)

    def _narrow(self, sock: socket.socket) -> None:
        if self.narrow:
            both = struct.pack("I", self.low | self.high << 16)
            sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, both)

    def _is_possible(self) -> bool:
        with socket.socket() as sock:
            try:
                self._narrow(sock)
            except OSError as error:
                if error.errno != errno.ENOPROTOOPT:
                    raise
                return False
        return True


def address_of(sock: socket.socket) -> str:
    """The address of a TCP socket in ZeroMQ's notation."""
    host, port = sock.getsockname()
    return f"tcp://{host}:{port}"

"""A listening socket of its own for each API server, all on one port: SO_REUSEPORT, `--accept reuseport`.

The kernel distributes connections by a hash of their addresses: evenly if there are many, and without regard to load.
Each socket has an accept queue of its own, and only one API server holds it. So when that one dies, connections in its
queue are reset, unless net.ipv4.tcp_migrate_req is 1: then the kernel moves them to a sibling (ip-sysctl; per network
namespace, read when a listening socket closes, so it can be set while a server runs).

With the flag alone, any program of the same user may bind too and would get its share of the connections (it happened
to vLLM: two servers on one port, each with half the traffic). So the launcher keeps a guard: a socket bound to the
port that never listens and so gets no connection.

- It is bound without the flag, which fails if the port is in use already.
- It has the flag only while a socket for an API server is bound. At any other time it does not share the port.
- The kernel remembers the last bind with the flag and lets an equal one pass without checking the others. A bind
  without the flag, to an address that nobody needs, makes it forget.
"""

import errno
import logging
import socket
from contextlib import suppress
from typing import Self

from lab_support.boundary.listen_socket import bind_tcp

log = logging.getLogger("lab.reuseport")


class ReuseportGroup:
    """The sockets of one port, made by the launcher. A context manager; leaving it gives the port up."""

    def __init__(self, host: str, port: int, backlog: int) -> None:
        self.guard = bind_tcp(host, port)
        self._backlog = backlog
        self.guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # two with it may share if neither listens
        self._explain()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.guard.close()

    def bind_another(self) -> socket.socket:
        """A further listening socket on the port. Its queue is closed with its last descriptor."""
        made = socket.socket(self.guard.family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            made.bind(self.guard.getsockname())
            made.listen(self._backlog)
        except OSError:
            made.close()
            raise
        finally:
            self.guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
            self._make_the_kernel_forget()
        return made

    def is_guarded(self) -> bool:
        """Is another program's bind refused, even with the flag and by the same user?"""
        with socket.socket(self.guard.family, socket.SOCK_STREAM) as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                stranger.bind(self.guard.getsockname())
            except OSError as error:
                return error.errno == errno.EADDRINUSE
            return False

    def _make_the_kernel_forget(self) -> None:
        host, port = self.guard.getsockname()[:2]
        for family, address in ((socket.AF_INET, "127.77.77.77"), (socket.AF_INET6, "::1")):
            if address == host:
                continue
            with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as passing:
                if family == socket.AF_INET6:
                    passing.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                passing.bind((address, port))

    def _explain(self) -> None:
        try:
            with open("/proc/sys/net/ipv4/tcp_migrate_req") as setting:
                migrates = setting.read().strip() != "0"
        except OSError:
            migrates = False
        if migrates:
            log.info("net.ipv4.tcp_migrate_req is 1: connections that wait for an API server when it dies are moved")
        else:
            log.warning(
                "net.ipv4.tcp_migrate_req is 0: connections that wait for an API server when it dies are reset; "
                "`sysctl -w net.ipv4.tcp_migrate_req=1` makes the kernel move them to a sibling"
            )

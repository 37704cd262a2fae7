"""The sockets of a network namespace: listening addresses, lengths of accept queues, the two ends of connections.

The kernel is asked by sock_diag (`sock_diag.py`). If that is refused, or the process lives in another namespace,
/proc/PID/net is read instead; then limits and Unix peers stay unknown, and `reason` says so. Nothing here knows
processes: `proc.py` and `xray/read.py` find those that hold a socket, by their descriptors.
"""

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab_support.instruments import sock_diag
from lab_support.instruments.foreign_text import visible_bytes
from lab_support.instruments.net_tables import tcp_records, unix_records
from lab_support.instruments.proc import PROC, NotLinux

SOCK_DIAG, PROC_NET = "sock_diag", "/proc/net"
MEANS = (SOCK_DIAG, PROC_NET)
LISTENING_TCP, CONNECTED_TCP = "listening", "connected"

_ESTABLISHED = 1
_STATES = {LISTENING_TCP: 1 << sock_diag.LISTEN, CONNECTED_TCP: 1 << _ESTABLISHED}
_UNIX_LISTENS = 0x10000  # __SO_ACCEPTCON in the flags of /proc/net/unix
_UNIX_CONNECTED = 3
_MISSING = "so the limits of accept queues and the other ends of Unix sockets are unknown"


@dataclass(frozen=True, slots=True)
class Socket:
    """One socket. family is "TCP" or "Unix"; state is "listening", "connected" or "" for any other.

    address, peer_address: "127.0.0.1:8000", "[::1]:8000", a path, "@name" for an abstract one, or "".
    port: 0 for a Unix socket. peer_inode: the other end of a connected Unix socket; 0 if unknown or none.
    waiting, limit: for a listening socket, the connections in its accept queue and the queue's limit (a TCP queue
    takes one more); otherwise 0 and None. The limit is also None if it is unknown.
    """

    inode: int
    family: str
    state: str
    address: str
    port: int = 0
    peer_address: str = ""
    peer_inode: int = 0
    waiting: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class SocketTable:
    """Sockets by inode. how: the method that answered. reason: what it could not tell and why, or ""."""

    sockets: dict[int, Socket]
    how: str
    reason: str = ""

    @property
    def listening(self) -> list[Socket]:
        return [found for found in self.sockets.values() if found.state == "listening"]


def read_sockets(pid: int | None = None, means: Sequence[str] = MEANS, *, only: str = "") -> SocketTable:
    """All sockets of the network namespace of `pid`; by default of this process's.

    means: the methods to try, in this order. only: `LISTENING_TCP` is a hundred times cheaper than all;
    `CONNECTED_TCP` leaves out Unix sockets. Raises `NotLinux` on any other system.
    """
    if sys.platform != "linux":
        raise NotLinux(f"got {sys.platform}, expected Linux: sockets are read from sock_diag and /proc/net.")
    reason = "sock_diag was not asked, " + _MISSING
    if SOCK_DIAG in means:
        if pid is not None and not _in_our_namespace(pid):
            reason = f"process {pid} lives in another network namespace, where sock_diag can't be asked from here, "
        else:
            try:
                return SocketTable({found.inode: found for found in _from_sock_diag(only)}, SOCK_DIAG)
            except OSError as error:
                reason = f"sock_diag is refused here ({error.strerror}), "
        reason += _MISSING
    assert PROC_NET in means, f"got {means}, expected some of {MEANS}"
    return SocketTable({found.inode: found for found in _from_proc(pid, only)}, PROC_NET, reason)


def _in_our_namespace(pid: int) -> bool:
    try:
        return os.readlink(PROC / str(pid) / "ns/net") == os.readlink(PROC / "self/ns/net")
    except OSError:
        return True  # ended, or another user's process: our own namespace is the best guess


# ---- by sock_diag ----------------------------------------------------------------------------------------------------


def _from_sock_diag(only: str) -> Iterator[Socket]:
    """Leaves out sockets that belong to no process: in TIME_WAIT, or not accepted yet."""
    states = _STATES.get(only, sock_diag.WITH_A_PROCESS)
    families = [socket.AF_INET, socket.AF_INET6] if socket.has_ipv6 else [socket.AF_INET]
    for message in (message for family in families for message in sock_diag.tcp_sockets(family, states)):
        if message.inode:
            yield _tcp(message)
    for found in () if only else sock_diag.unix_sockets():
        if found.inode:
            yield _unix(found)


def _tcp(message: sock_diag.TcpMessage) -> Socket:
    listens = message.state == sock_diag.LISTEN
    return Socket(
        inode=message.inode,
        family="TCP",
        state=_state(listens, message.state == _ESTABLISHED),
        address=address_text(message.family, message.host, message.port),
        port=message.port,
        peer_address="" if listens else address_text(message.family, message.peer_host, message.peer_port),
        waiting=message.read_queue if listens else 0,
        limit=message.write_queue if listens else None,
    )


def _unix(message: sock_diag.UnixMessage) -> Socket:
    listens = message.state == sock_diag.LISTEN
    return Socket(
        inode=message.inode,
        family="Unix",
        state=_state(listens, bool(message.peer)),
        address=_unix_name(message.name),
        peer_inode=message.peer,
        waiting=message.read_queue if listens else 0,
        limit=message.write_queue if listens else None,
    )


def _state(listens: bool, connected: bool) -> str:
    return "listening" if listens else "connected" if connected else ""


def _unix_name(name: bytes) -> str:
    return "@" + visible_bytes(name[1:]) if name.startswith(b"\0") else visible_bytes(name.rstrip(b"\0"))


def address_text(family: int, host: bytes, port: int) -> str:
    """`127.0.0.1:80` or `[::1]:80`. An IPv4-mapped IPv6 address is written as IPv4."""
    if family == socket.AF_INET6 and host.startswith(bytes(10) + b"\xff\xff"):
        family, host = socket.AF_INET, host[12:]
    text = socket.inet_ntop(family, host)
    return f"[{text}]:{port}" if family == socket.AF_INET6 else f"{text}:{port}"


# ---- by /proc/net ----------------------------------------------------------------------------------------------------


def _from_proc(pid: int | None, only: str) -> Iterator[Socket]:
    folder = PROC / ("self" if pid is None else str(pid)) / "net"
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for fields in tcp_records(folder, table):
            found = _tcp_from_fields(fields, family)
            if found.inode and (not only or found.state == only):
                yield found
    for fields in () if only else unix_records(folder):
        of_unix = _unix_from_fields(fields)
        if of_unix.inode:
            yield of_unix


def _tcp_from_fields(fields: list[str], family: int) -> Socket:
    state = int(fields[3], 16)
    listens = state == sock_diag.LISTEN
    address, port = _address_from_hex(fields[1], family)
    return Socket(
        inode=int(fields[9]),
        family="TCP",
        state=_state(listens, state == _ESTABLISHED),
        address=address,
        port=port,
        peer_address="" if listens else _address_from_hex(fields[2], family)[0],
        waiting=int(fields[4].partition(":")[2], 16) if listens else 0,
    )


def _address_from_hex(text: str, family: int) -> tuple[str, int]:
    """The kernel prints an address as 32-bit words in the machine's own byte order."""
    host, _, port = text.partition(":")
    words = (bytes.fromhex(host[i : i + 8]) for i in range(0, len(host), 8))
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return address_text(family, packed, int(port, 16)), int(port, 16)


def _unix_from_fields(fields: list[str]) -> Socket:
    listens = bool(int(fields[3], 16) & _UNIX_LISTENS)
    return Socket(
        inode=int(fields[6]),
        family="Unix",
        state=_state(listens, int(fields[5], 16) == _UNIX_CONNECTED),
        address=fields[7],
    )

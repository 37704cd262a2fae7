"""sock_diag, the netlink protocol by which `ss` asks the kernel for sockets: requests out, messages in, as bytes.

It needs no privilege. It answers for the network namespace of the process that asks, and tells two things that
/proc/net does not: the limit of an accept queue, and which Unix socket is the other end of which. `sockets.py`
documents the figures. Linux only.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

LISTEN = 10
"""The kernel's number for the state of a listening socket, TCP or Unix."""

WITH_A_PROCESS = 0xFFFFFFFF & ~(1 << 3 | 1 << 6 | 1 << 12)
"""The states, a bit each, without SYN_RECV, TIME_WAIT and NEW_SYN_RECV: often thousands, and no process has them."""

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x1 | 0x300
_ERROR, _DONE = 2, 3
_ALL_STATES = 0xFFFFFFFF
_READ_BYTES = 64 * 1024

_HEADER = struct.Struct("=IHHII")
_INET_REQUEST = struct.Struct("=BBBxI48x")
_INET_MESSAGE = struct.Struct("=BBBB2s2s16s16s12xIIIII")
_UNIX_REQUEST = struct.Struct("=BBxxIIIII")
_UNIX_MESSAGE = struct.Struct("=BBBxIII")
_ATTRIBUTE = struct.Struct("=HH")
_UNIX_NAME, _UNIX_PEER, _UNIX_QUEUES = 0, 2, 4
_SHOW_NAME_PEER_QUEUES = 0x1 | 0x4 | 0x10


@dataclass(frozen=True, slots=True)
class TcpMessage:
    """One TCP socket. If it listens, read_queue is the number of waiting connections, and write_queue the limit.

    Otherwise they are bytes: not yet read by its process, and not yet acknowledged by the peer.
    """

    family: int
    state: int
    host: bytes
    port: int
    peer_host: bytes
    peer_port: int
    read_queue: int
    write_queue: int
    inode: int


@dataclass(frozen=True, slots=True)
class UnixMessage:
    """One Unix socket. The queues are as in `TcpMessage`. peer: inode of the other end, 0 if there is none.

    name: the bound path; an abstract one begins with a NUL byte.
    """

    state: int
    inode: int
    peer: int
    name: bytes
    read_queue: int
    write_queue: int


def tcp_sockets(family: int, states: int = WITH_A_PROCESS) -> list[TcpMessage]:
    """The TCP sockets of `family` (AF_INET or AF_INET6) in these states; in accept queues the inode is 0.

    With LISTEN alone the kernel leaves out its table of connections, which takes milliseconds to walk.
    Raises OSError where the kernel or a sandbox refuses.
    """
    request = _INET_REQUEST.pack(family, socket.IPPROTO_TCP, 0, states)
    return [_tcp_message(body) for body in _dump(request)]


def unix_sockets() -> list[UnixMessage]:
    """Every Unix socket. Raises OSError if the kernel or a sandbox refuses."""
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, _ALL_STATES, 0, _SHOW_NAME_PEER_QUEUES, 0xFFFFFFFF, 0xFFFFFFFF)
    return [_unix_message(body) for body in _dump(request)]


def _dump(request: bytes) -> Iterator[bytes]:
    """The body of every message in the kernel's answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        length = _HEADER.size + len(request)
        netlink.sendto(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + request, (0, 0))
        while True:
            for kind, body in _messages(netlink.recv(_READ_BYTES)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", body)[0] or errno.EPROTO
                    raise OSError(number, f"sock_diag: {os.strerror(number)}")
                yield body


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        length, kind, *_ = _HEADER.unpack_from(data, position)
        yield kind, data[position + _HEADER.size : position + length]
        position += _aligned(length)


def _tcp_message(body: bytes) -> TcpMessage:
    family, state, _, _, port, peer_port, host, peer_host, _, waiting, limit, _, inode = _INET_MESSAGE.unpack_from(body)
    length = 16 if family == socket.AF_INET6 else 4
    ports = int.from_bytes(port, "big"), int.from_bytes(peer_port, "big")
    return TcpMessage(family, state, host[:length], ports[0], peer_host[:length], ports[1], waiting, limit, inode)


def _unix_message(body: bytes) -> UnixMessage:
    _, _, state, inode, _, _ = _UNIX_MESSAGE.unpack_from(body)
    attributes = dict(_attributes(body[_UNIX_MESSAGE.size :]))
    peer = int.from_bytes(attributes.get(_UNIX_PEER, b"")[:4], sys.byteorder)
    queues = struct.unpack("=II", attributes.get(_UNIX_QUEUES, bytes(8))[:8])
    return UnixMessage(state, inode, peer, attributes.get(_UNIX_NAME, b""), *queues)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        yield kind, data[position + _ATTRIBUTE.size : position + length]
        position += _aligned(max(length, _ATTRIBUTE.size))


def _aligned(length: int) -> int:
    """Netlink starts each message and attribute at a multiple of four bytes."""
    return (length + 3) & ~3

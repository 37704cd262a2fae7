"""Clients whose connections are established but not accepted yet, as /proc/net/tcp shows them (proc(5)).

The kernel completes a connection by itself and keeps the data that the client sends. Such a connection has no inode,
because it has no descriptor, and its receive queue tells whether its client has sent a request already. accept(2)
would tell the same but cost a descriptor, and a connection that was accepted can't be put back.

Connections in a channel or held by the launcher (`--accept handoff`) do have an inode, but not one of ours.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

_TABLES = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
_CLOSE_WAIT = "08"  # its client has ended its side; the FIN counts as one byte unread
_OPEN = {"01", _CLOSE_WAIT}  # include/net/tcp_states.h: 01 is ESTABLISHED


@dataclass(frozen=True)
class Waiting:
    """`clients` wait to be accepted, and `asking` of them have sent something."""

    clients: int = 0
    asking: int = 0


def waiting_clients(port: int, *, handed: bool = False) -> Waiting | None:
    """Clients that wait at this TCP port, at any address; None if the kernel does not tell. Takes 1 ms for 1,000
    connections.

    handed: the launcher accepts connections, so those with an inode that is not ours count too. That is a few too many
    while siblings have not yet read their clients' bytes.
    """
    ours = _inodes() if handed else set()
    waiting = [row for row in _rows(f":{port:04X}") if row[9] == "0" or (handed and row[9] not in ours)]
    unread = [int(row[4].partition(":")[2], 16) - (row[3] == _CLOSE_WAIT) for row in waiting if row[3] in _OPEN]
    return Waiting(len(unread), sum(count > 0 for count in unread)) if _tells() else None


def _rows(local: str) -> Iterator[list[str]]:
    """Columns of the connections whose own end has this port."""
    for table in _TABLES:
        with suppress(OSError), open(table, encoding="ascii") as lines:
            for line in lines:
                if local in line and (row := line.split())[1].endswith(local):
                    yield row


def _inodes() -> set[str]:
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # it has been closed meanwhile
            found.add(str(os.fstat(int(descriptor)).st_ino))
    return found


def _tells() -> bool:
    return os.path.exists(_TABLES[0])

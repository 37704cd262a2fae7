"""The accept queues of a process tree, and its clients' connections: which process has taken which.

The queues are asked for at each look, which costs microseconds. The addresses of connections are in a table that takes
the kernel milliseconds to walk, so it is read only after a new socket was seen, and twice a second at most. Runs in the
process that watches.
"""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from lab_support.instruments import sockets
from lab_support.instruments.sockets import CONNECTED_TCP, LISTENING_TCP
from lab_support.watch.members import Member

_SELDOM = 0.5  # seconds between two readings of the table of connections


@dataclass(frozen=True, slots=True)
class Queue:
    """The accept queue of one listening TCP socket of the tree. limit: of `listen`; None if unknown."""

    inode: int
    address: str
    port: int
    waiting: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Client:
    """A connection that a client opened to one of the tree's ports. number: its descriptor in the process."""

    peer: str
    port: int
    number: int


@dataclass(slots=True)
class Connections:
    """Queues and clients of the tree below `root`; it remembers the addresses of sockets between looks.

    ours: the addresses from which the watcher itself asks the server, which are left out. reason: why figures are
    missing, or "".
    """

    root: int
    ours: Callable[[], Collection[str]] = tuple
    reason: str = ""
    _known: dict[int, sockets.Socket | None] = field(default_factory=dict)
    _read_at: float = 0.0

    def queues(self, members: Iterable[Member]) -> list[Queue]:
        """Of each listening TCP socket that a member holds, by port."""
        held = {inode for member in members for inode in member.held.sockets.values()}
        try:
            table = sockets.read_sockets(self.root, only=LISTENING_TCP)
        except OSError as error:
            self.reason = f"{error.filename or 'sock_diag'}: {error.strerror}"
            return []
        self.reason = table.reason
        found = [
            Queue(one.inode, one.address, one.port, one.waiting, one.limit)
            for one in table.listening
            if one.inode in held
        ]
        return sorted(found, key=lambda queue: (queue.port, queue.inode))

    def clients(self, members: list[Member], queues: Iterable[Queue]) -> dict[int, list[Client]]:
        """By pid, in the order of descriptors. A connection is unknown for half a second at most."""
        held = {inode for member in members for inode in member.held.sockets.values()}
        self._learn(held)
        ports = {queue.port for queue in queues}
        return {member.pid: list(self._of(member, ports)) for member in members}

    def _learn(self, held: set[int]) -> None:
        now = time.monotonic()
        if held <= self._known.keys() or now < self._read_at + _SELDOM:
            return
        self._read_at = now
        try:
            found = sockets.read_sockets(self.root, only=CONNECTED_TCP).sockets
        except OSError:
            return
        known, ours = {inode: found.get(inode) for inode in held}, self.ours()
        self._known = {inode: None if one and one.peer_address in ours else one for inode, one in known.items()}

    def _of(self, member: Member, ports: set[int]) -> Iterable[Client]:
        for number, inode in sorted(member.held.sockets.items()):
            found = self._known.get(inode)
            if found is not None and found.port in ports:
                yield Client(found.peer_address, found.port, number)

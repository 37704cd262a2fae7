"""An X-ray as an object to query: processes, kernel objects, and which process holds which by which descriptor.

Frozen data with queries. Nothing here reads from the machine (`read.py` does) or draws.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

# Kinds of kernel objects, in the order in which they are shown.
LISTENING_SOCKET = "listening socket"
TCP_CONNECTION = "TCP connection"
UNIX_CONNECTION = "Unix connection"
SOCKET = "socket"
PIPE = "pipe"
SHARED_MEMORY = "shared memory"
GPU_DEVICE = "GPU device"
EPOLL_SET = "epoll set"
EVENTFD = "eventfd"
FILE = "file"
TERMINAL = "terminal"
OTHER = "other"
KINDS = (
    *(LISTENING_SOCKET, TCP_CONNECTION, UNIX_CONNECTION, SOCKET, PIPE, SHARED_MEMORY, GPU_DEVICE),
    *(EPOLL_SET, EVENTFD, OTHER, FILE, TERMINAL),
)
STANDARD_STREAMS = frozenset({0, 1, 2})


class UnknownProcess(LookupError):
    """No process of this X-ray has that name, title or pid."""


@dataclass(frozen=True, slots=True)
class ProcessNode:
    """One process. descriptors: how many it has open; None if the user who took the X-ray may not read them.

    name: short, for a box; title: as `ps` shows it. outside: not below the root, but holds objects of the tree.
    """

    pid: int
    start_ticks: int
    parent_pid: int
    name: str
    title: str
    state: str
    threads: int
    descriptors: int | None
    outside: bool = False

    @property
    def identity(self) -> tuple[int, int]:
        return self.pid, self.start_ticks


@dataclass(frozen=True, slots=True)
class KernelObject:
    """One object in the kernel. The two ends of a connection are one object here. id: the same in later X-rays.

    address: of a socket or of the server side of a connection, a path, or a memory's name; peer: of the other
    side of a TCP connection.
    inodes: of the object, or of both ends. waiting, limit: of a listening socket's accept queue. size: bytes.
    """

    id: str
    kind: str
    address: str
    inodes: tuple[int, ...] = ()
    port: int = 0
    peer: str = ""
    waiting: int = 0
    limit: int | None = None
    size: int = 0

    @property
    def listening(self) -> bool:
        return self.kind == LISTENING_SOCKET


@dataclass(frozen=True, slots=True)
class Hold:
    """A process holds an object. number: its descriptor, None for memory that is mapped without one.

    access: "read", "write", "read and write", "path only" or "mapped". inode: which end of a connection. bound: that
    end has the address (the server's side). inheritable: stays open across execve. epoll_sets: descriptor numbers of
    this process's epoll sets that watch it; exclusive: of those with EPOLLEXCLUSIVE.
    """

    pid: int
    object_id: str
    number: int | None
    access: str
    inode: int = 0
    bound: bool = False
    inheritable: bool = False
    epoll_sets: tuple[int, ...] = ()
    exclusive: tuple[int, ...] = ()


@dataclass(frozen=True)
class Graph:
    """The state of the tree below the process `root` at one moment. notes: what could not be read, and why."""

    root: int
    processes: tuple[ProcessNode, ...]
    objects: tuple[KernelObject, ...]
    holds: tuple[Hold, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def _holds_of(self) -> dict[str, list[Hold]]:
        found: dict[str, list[Hold]] = {}
        for hold in self.holds:
            found.setdefault(hold.object_id, []).append(hold)
        return found

    # ---- questions -------------------------------------------------------------------------------------------------

    def process(self, wanted: int | str) -> ProcessNode:
        """The process with that pid, name or title. Raises `UnknownProcess`."""
        for process in self.processes:
            if wanted in (process.pid, process.name, process.title):
                return process
        known = ", ".join(f"{process.name} ({process.pid})" for process in self.processes)
        raise UnknownProcess(f"got {wanted!r}, expected one of: {known}")

    def holds_on(self, thing: KernelObject | str) -> tuple[Hold, ...]:
        """Every descriptor and mapping of an object, given itself or its id."""
        return tuple(self._holds_of.get(thing if isinstance(thing, str) else thing.id, ()))

    def holders(self, thing: KernelObject | str) -> tuple[ProcessNode, ...]:
        """The processes that hold an object, each once, in the order of `processes`."""
        pids = {hold.pid for hold in self.holds_on(thing)}
        return tuple(process for process in self.processes if process.pid in pids)

    def held_by(self, wanted: int | str) -> tuple[KernelObject, ...]:
        """The objects that a process (pid or name) holds."""
        pid = self.process(wanted).pid
        ids = {hold.object_id for hold in self.holds if hold.pid == pid}
        return tuple(thing for thing in self.objects if thing.id in ids)

    def between(self, one: int | str, other: int | str) -> tuple[KernelObject, ...]:
        """The objects that both processes hold: all direct ways between them."""
        ids = {thing.id for thing in self.held_by(other)}
        return tuple(thing for thing in self.held_by(one) if thing.id in ids)

    def of_kind(self, kind: str) -> tuple[KernelObject, ...]:
        return tuple(thing for thing in self.objects if thing.kind == kind)

    @property
    def listening_sockets(self) -> tuple[KernelObject, ...]:
        return self.of_kind(LISTENING_SOCKET)

    @property
    def shared(self) -> tuple[KernelObject, ...]:
        """The objects that more than one process holds."""
        return tuple(thing for thing in self.objects if len(self.holders(thing)) > 1)

    def who_holds(
        self, *, port: int | None = None, address: str | None = None, inode: int | None = None
    ) -> tuple[ProcessNode, ...]:
        """The holders of the sockets that listen on `port`, or of objects with that address (path, name) or inode."""
        assert (port, address, inode).count(None) == 2, "expected exactly one of port, address, inode"
        found = [
            thing
            for thing in self.objects
            if (port is not None and thing.listening and thing.port == port)
            or (address is not None and thing.address == address)
            or (inode is not None and inode in thing.inodes)
        ]
        pids = {process.pid for thing in found for process in self.holders(thing)}
        return tuple(process for process in self.processes if process.pid in pids)

    @property
    def inside(self) -> tuple[ProcessNode, ...]:
        """The root and its descendants."""
        return tuple(process for process in self.processes if not process.outside)

    # ---- to a file and back ----------------------------------------------------------------------------------------

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> Graph:
    """The graph that `to_json` wrote. Raises ValueError for any other text."""
    try:
        data = json.loads(text)
        return Graph(
            root=data["root"],
            processes=tuple(ProcessNode(**fields) for fields in data["processes"]),
            objects=tuple(KernelObject(**_with_tuples(fields)) for fields in data["objects"]),
            holds=tuple(Hold(**_with_tuples(fields)) for fields in data["holds"]),
            notes=tuple(data["notes"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"got no X-ray ({error}), expected what `lab xray PID --json` wrote") from error


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


# ---- two X-rays ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two X-rays: what is new and what is gone.

    holds_*: of objects that are in both, such as a listening socket with one more holder.
    """

    processes_new: tuple[ProcessNode, ...]
    processes_gone: tuple[ProcessNode, ...]
    objects_new: tuple[KernelObject, ...]
    objects_gone: tuple[KernelObject, ...]
    holds_new: tuple[Hold, ...]
    holds_gone: tuple[Hold, ...]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        parts = (self.processes_new, self.processes_gone, self.objects_new, self.objects_gone)
        return any((*parts, self.holds_new, self.holds_gone))


def compare(before: Graph, after: Graph) -> Difference:
    """The difference of two X-rays of one machine, taken one after the other."""
    ids_before, ids_after = {thing.id for thing in before.objects}, {thing.id for thing in after.objects}
    people_before = {process.identity for process in before.processes}
    people_after = {process.identity for process in after.processes}
    both = ids_before & ids_after
    return Difference(
        processes_new=tuple(one for one in after.processes if one.identity not in people_before),
        processes_gone=tuple(one for one in before.processes if one.identity not in people_after),
        objects_new=tuple(one for one in after.objects if one.id not in ids_before),
        objects_gone=tuple(one for one in before.objects if one.id not in ids_after),
        holds_new=_missing_from(before, after, both),
        holds_gone=_missing_from(after, before, both),
    )


def _missing_from(other: Graph, graph: Graph, ids: Iterable[str]) -> tuple[Hold, ...]:
    """The holds of `graph` on the objects `ids` that `other` does not have."""
    wanted = set(ids)
    there = {(hold.pid, hold.object_id, hold.number) for hold in other.holds}
    return tuple(
        hold
        for hold in graph.holds
        if hold.object_id in wanted and (hold.pid, hold.object_id, hold.number) not in there
    )

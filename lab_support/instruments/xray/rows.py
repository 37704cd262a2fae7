"""The rows of an X-ray, the same for the text and for the picture: which objects are shown, and which share a row.

A row is an object that more than one process holds, a listening socket or a GPU device; or several objects that are
alike: the connections to one address, the pipes between one process and each of its children. Other objects that
one process alone holds are counted and not shown. Pure functions over a graph.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace

from lab_support.instruments.xray import graph as xray_graph
from lab_support.instruments.xray.graph import Graph, Hold, KernelObject, ProcessNode
from lab_support.plural import counted

MOST_OUTSIDE = 3
"""At most so many processes outside the tree get a column; others are counted."""

_DELETED = " (deleted)"
_CONNECTIONS = (xray_graph.TCP_CONNECTION, xray_graph.UNIX_CONNECTION)


@dataclass(frozen=True, slots=True)
class Terminal:
    """One process's part in a row. Descriptor numbers: reads, writes: ends of pipes; listens: of the listening socket.

    bound: it has the address, so the others connect to it. epoll_sets: its sets that watch these descriptors.
    """

    pid: int
    numbers: tuple[int, ...] = ()
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    listens: tuple[int, ...] = ()
    mapped: bool = False
    bound: bool = False
    epoll_sets: tuple[int, ...] = ()
    exclusive: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the X-ray: one object, or `count` that are alike. detail: distinguishes it from other rows."""

    kind: str
    count: int
    detail: str
    terminals: tuple[Terminal, ...]
    ids: tuple[str, ...]

    @property
    def title(self) -> str:
        return counted(self.count, self.kind) if self.count > 1 else self.kind


@dataclass(frozen=True, slots=True)
class Rows:
    """processes: the columns, those outside the tree last. left_out: sentences on processes and objects not shown."""

    processes: tuple[ProcessNode, ...]
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]


def arrange(graph: Graph) -> Rows:
    """The rows of `graph`, and its columns."""
    processes, left_out = _columns(graph)
    pids = {process.pid for process in processes}
    shown = [thing for thing in graph.objects if _matters(graph, thing)]
    groups = _grouped(graph, shown)
    rows = (_row(graph, things[0].kind, things) for things in groups.values())
    kept = [row for row in (_only(row, pids) for row in _with_listeners(graph, list(rows))) if row.terminals]
    order = {process.pid: place for place, process in enumerate(processes)}
    ports = {thing.id: -thing.port for thing in graph.objects}
    kept.sort(
        key=lambda row: (xray_graph.KINDS.index(row.kind), *_first(row, order), min(ports[row.ids[0]], 0), row.detail)
    )
    alone = _held_alone(graph, {thing.id for thing in shown})
    return Rows(processes, tuple(kept), tuple(sentence for sentence in (left_out, alone) if sentence))


def size_text(size: int) -> str:
    for unit, bytes_each in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= bytes_each:
            return f"{size / bytes_each:.3g} {unit}"
    return f"{size} bytes"


# ---- what is shown ---------------------------------------------------------------------------------------------------


def _columns(graph: Graph) -> tuple[tuple[ProcessNode, ...], str]:
    outside = [process for process in graph.processes if process.outside]
    held = Counter(hold.pid for hold in graph.holds)
    kept = {process.pid for process in sorted(outside, key=lambda one: -held[one.pid])[:MOST_OUTSIDE]}
    columns = tuple(process for process in graph.processes if not process.outside or process.pid in kept)
    more = len(outside) - len(kept)
    return columns, f"Not shown: {counted(more, 'more process')} outside with some of these objects." if more else ""


def _matters(graph: Graph, thing: KernelObject) -> bool:
    if thing.listening or thing.kind == xray_graph.GPU_DEVICE:
        return True
    return thing.kind == xray_graph.TCP_CONNECTION or len(graph.holders(thing)) > 1


def _held_alone(graph: Graph, shown: set[str]) -> str:
    kinds = Counter(thing.kind for thing in graph.objects if thing.id not in shown)
    parts = [counted(kinds[kind], kind if kind != xray_graph.OTHER else "other object") for kind in xray_graph.KINDS]
    parts = [part for part in parts if not part.startswith("0 ")]
    return f"Held by one process alone, so not shown: {', '.join(parts)}." if parts else ""


def _only(row: Row, pids: set[int]) -> Row:
    return replace(row, terminals=tuple(one for one in row.terminals if one.pid in pids))


def _first(row: Row, order: dict[int, int]) -> tuple[int, int]:
    """Listening sockets with the most holders come first; then objects of the first processes."""
    places = [order[one.pid] for one in row.terminals]
    return -len(places) if row.kind == xray_graph.LISTENING_SOCKET else 0, min(places)


# ---- which share a row -----------------------------------------------------------------------------------------------


def _grouped(graph: Graph, things: Iterable[KernelObject]) -> dict[tuple[Hashable, ...], list[KernelObject]]:
    """Objects that are drawn as one row, by a key that begins with their kind."""
    things = list(things)
    hub_of = _hubs(graph, things)
    groups: dict[tuple[Hashable, ...], list[KernelObject]] = {}
    for thing in things:
        groups.setdefault((thing.kind, *_alike(graph, thing, hub_of)), []).append(thing)
    return groups


def _alike(graph: Graph, thing: KernelObject, hub_of: Callable[[KernelObject], Hashable]) -> tuple[Hashable, ...]:
    if thing.listening or thing.kind == xray_graph.GPU_DEVICE:
        return (thing.id,)
    if thing.kind in _CONNECTIONS and thing.address:
        return ("to", thing.address if any(hold.bound for hold in graph.holds_on(thing)) else "elsewhere")
    if _is_pair(graph, thing):
        return ("of", hub_of(thing), any(process.outside for process in graph.holders(thing)))
    return ("held alike", frozenset((hold.pid, hold.access) for hold in graph.holds_on(thing)))


def _is_pair(graph: Graph, thing: KernelObject) -> bool:
    """Whether two processes hold it, and it has no address that tells its purpose."""
    named = thing.kind in _CONNECTIONS and thing.address
    return len(graph.holders(thing)) == 2 and not named and thing.kind != xray_graph.SHARED_MEMORY


def _hubs(graph: Graph, things: Iterable[KernelObject]) -> Callable[[KernelObject], Hashable]:
    """For objects between two processes: the one with more such objects, and what each side may do with it."""

    def sides(thing: KernelObject) -> list[tuple[Hashable, ...]]:
        one, other = graph.holders(thing)
        return [
            (thing.kind, here.pid, _accesses(graph, thing, here.pid), _accesses(graph, thing, there.pid))
            for here, there in ((one, other), (other, one))
        ]

    tally = Counter(side for thing in things if _is_pair(graph, thing) for side in sides(thing))
    return lambda thing: max(sides(thing), key=lambda side: tally[side])


def _accesses(graph: Graph, thing: KernelObject, pid: int) -> frozenset[str]:
    return frozenset(hold.access for hold in graph.holds_on(thing) if hold.pid == pid)


# ---- rows ------------------------------------------------------------------------------------------------------------


def _row(graph: Graph, kind: str, things: list[KernelObject]) -> Row:
    pids = [process.pid for process in graph.processes if any(process in graph.holders(thing) for thing in things)]
    holds = [hold for thing in things for hold in graph.holds_on(thing)]
    terminals = tuple(_terminal(kind, pid, [hold for hold in holds if hold.pid == pid]) for pid in pids)
    row = Row(kind, len(things), "", terminals, tuple(thing.id for thing in things))
    return replace(row, detail=_detail(graph, row, things))


def _terminal(kind: str, pid: int, holds: list[Hold]) -> Terminal:
    def numbers(*accesses: str) -> tuple[int, ...]:
        found = {hold.number for hold in holds if not accesses or hold.access in accesses}
        return tuple(sorted(number for number in found if number is not None))

    of_pipe = kind == xray_graph.PIPE
    return Terminal(
        pid=pid,
        numbers=numbers("read and write", "path only") if of_pipe else numbers(),
        reads=numbers("read") if of_pipe else (),
        writes=numbers("write") if of_pipe else (),
        mapped=any(hold.access == "mapped" for hold in holds),
        bound=kind in _CONNECTIONS and any(hold.bound for hold in holds),
        epoll_sets=tuple(sorted({number for hold in holds for number in hold.epoll_sets})),
        exclusive=any(hold.exclusive for hold in holds),
    )


def _detail(graph: Graph, row: Row, things: list[KernelObject]) -> str:
    thing = things[0]
    if thing.listening:
        limit = "" if thing.limit is None else f" of {thing.limit:,}"
        return f"{last_part(thing.address)}, {thing.waiting}{limit} waiting"
    if row.kind in _CONNECTIONS:
        return _connection_detail(graph, row, things)
    if row.kind == xray_graph.PIPE:
        return _pipe_detail(graph, row) or last_part(thing.address)
    if row.kind == xray_graph.SHARED_MEMORY:
        largest = sorted(things, key=lambda one: -one.size)
        return _some([f"{last_part(one.address)} ({size_text(one.size)})" for one in largest])
    deleted = "deleted: " if all(one.address.endswith(_DELETED) for one in things) else ""
    return deleted + _some([last_part(one.address) for one in things])


def _connection_detail(graph: Graph, row: Row, things: list[KernelObject]) -> str:
    if not things[0].address:
        return _between(graph, row) or "no name (socketpair)"
    if any(terminal.bound for terminal in row.terminals):
        return f"to {last_part(things[0].address)}"
    return "to " + _some(sorted({last_part(one.address) for one in things}))


def _pipe_detail(graph: Graph, row: Row) -> str:
    if row.count > 1 and len(row.terminals) > 2:
        return _between(graph, row)
    readers = [one.pid for one in row.terminals if one.reads or one.numbers]
    writers = [one.pid for one in row.terminals if one.writes or one.numbers]
    if len(row.terminals) < 3:
        return ""
    if 1 in (len(writers), len(readers)):
        one, can = (writers[0], "write") if len(writers) == 1 else (readers[0], "read")
        return f"{graph.process(one).name} alone can {can}"
    if not readers or not writers:
        return f"no {'writer' if readers else 'reader'} was seen"
    return f"{len(readers)} can read, {len(writers)} can write"


def _between(graph: Graph, row: Row) -> str:
    """For several pairs: the process that is on one side of all of them."""
    if len(row.terminals) < 3:
        return ""
    hub = max(row.terminals, key=lambda one: len(one.numbers + one.reads + one.writes))
    name = graph.process(hub.pid).name
    if hub.writes:
        return f"{name} writes, the others read"
    return f"{name} reads, the others write" if hub.reads else f"{name} with each of the others"


def _some(names: list[str]) -> str:
    names = [name for name in dict.fromkeys(names) if name]
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def last_part(address: str) -> str:
    """The file name of a path; any other address unchanged."""
    address = address.removesuffix(_DELETED)
    return address.rstrip("/").rpartition("/")[2] if address.startswith("/") else address


def _with_listeners(graph: Graph, rows: list[Row]) -> list[Row]:
    """Moves a listening Unix socket that one process holds into the row of the connections to it."""
    by_address = {
        graph_object.address: row
        for row in rows
        if row.kind == xray_graph.UNIX_CONNECTION
        for graph_object in graph.objects
        if graph_object.id == row.ids[0] and graph_object.address
    }
    listeners = {row.ids[0]: row for row in rows if row.kind == xray_graph.LISTENING_SOCKET}
    merged: dict[tuple[str, ...], Row] = {row.ids: row for row in rows}
    for thing in graph.listening_sockets:
        target = by_address.get(thing.address)
        row = listeners[thing.id]
        if target is None or thing.port or len(row.terminals) != 1:
            continue
        [listener] = row.terminals
        terminals = tuple(_listening_too(one, listener) for one in merged[target.ids].terminals)
        if any(one.listens for one in terminals):
            merged[target.ids] = replace(merged[target.ids], terminals=terminals)
            del merged[row.ids]
    return list(merged.values())


def _listening_too(one: Terminal, listener: Terminal) -> Terminal:
    return replace(one, listens=listener.numbers) if one.pid == listener.pid else one

"""An X-ray, and the difference of two, as plain text. Pure functions."""

from collections.abc import Iterable, Iterator

from lab_support.instruments.xray import graph as xray_graph
from lab_support.instruments.xray.graph import Difference, Graph, ProcessNode
from lab_support.instruments.xray.rows import Row, Terminal, arrange, counted, last_part


def finding(graph: Graph) -> str:
    """One sentence with the number of processes and the holders of the listening socket."""
    root = graph.process(graph.root)
    count = counted(len(graph.inside), "process")
    ports = [thing for thing in graph.listening_sockets if thing.port]
    if not ports:
        return f"{root.name} ({root.pid}): {count}, {_shared_by(graph)}"
    most = max(ports, key=lambda thing: len(graph.holders(thing)))
    holding = graph.holders(most)
    holders = f"{holding[0].name} alone" if len(holding) == 1 else counted(len(holding), "process")
    others = len(ports) - 1
    more = f"; {counted(others, 'other socket')} listen{'s' if others == 1 else ''}" if others else ""
    return f"{root.name} ({root.pid}): {count}; the socket that listens on {most.address} is held by {holders}{more}"


def _shared_by(graph: Graph) -> str:
    """For a tree in which no process listens on a port."""
    if len(graph.inside) == 1:
        return "and it listens on no port"
    return f"{counted(len(graph.shared), 'kernel object') if graph.shared else 'nothing'} held by more than one"


def text(graph: Graph) -> str:
    """The whole X-ray: the tree, the rows, then notes on what is not shown and what could not be read."""
    arranged = arrange(graph)
    names = {process.pid: label(graph, process) for process in arranged.processes}
    lines = [finding(graph), "", *_tree(graph, arranged.processes), ""]
    width = max((len(row.title) for row in arranged.rows), default=0)
    for row in arranged.rows:
        lines.append(f"{row.title:{width}}  {row.detail}".rstrip())
        lines.append(" " * width + "  " + "   ".join(held_words(names, row)))
    return "\n".join([*lines, "", *arranged.left_out, *graph.notes]).rstrip() + "\n"


def label(graph: Graph, process: ProcessNode) -> str:
    """The process's name, with its pid if another has the same name; long names are cut."""
    same = [other for other in graph.processes if other.name == process.name]
    name = process.name if len(process.name) <= 28 else process.name[:27] + "…"
    return name if len(same) == 1 else f"{name} {process.pid}"


def in_words(one: Terminal) -> str:
    """Its descriptor numbers: `3`, `read 16, write 17`, `5 listens, 38 40`, `6 12, mapped`."""
    parts = [f"{' '.join(map(str, one.listens))} listens"] if one.listens else []
    parts += [f"read {' '.join(map(str, one.reads))}"] if one.reads else []
    parts += [f"write {' '.join(map(str, one.writes))}"] if one.writes else []
    parts += [" ".join(map(str, one.numbers))] if one.numbers else []
    parts += ["mapped"] if one.mapped else []
    return ", ".join(parts)


def epoll_words(row: Row, one: Terminal) -> str:
    """The epoll sets by which a process waits for connections; "" for objects that don't listen."""
    if row.kind != xray_graph.LISTENING_SOCKET or not one.epoll_sets:
        return ""
    return f"epoll {' '.join(map(str, one.epoll_sets))}" + (" exclusive" if one.exclusive else "")


def held_words(names: dict[int, str], row: Row) -> list[str]:
    """The row's processes with their numbers: `lab:api-0: 3 (epoll 9)`; three or more with equal numbers are joined."""
    people: dict[str, list[str]] = {}
    for one in row.terminals:
        waits = epoll_words(row, one)
        people.setdefault(in_words(one) + (f" ({waits})" if waits else ""), []).append(names[one.pid])
    found = []
    for words, who in people.items():
        found += [f"{', '.join(who)}: {words}"] if len(who) > 2 else [f"{name}: {words}" for name in who]
    return found


def _tree(graph: Graph, processes: Iterable[ProcessNode]) -> Iterator[str]:
    depths = depths_of(graph)
    for process in processes:
        indent = "  " * depths.get(process.pid, 0)
        where = "   outside this tree" if process.outside else ""
        held = "not readable" if process.descriptors is None else counted(process.descriptors, "descriptor")
        threads = counted(process.threads, "thread")
        yield f"{process.pid:>8}  {indent + process.name:32} {process.state}  {threads:10}  {held}{where}".rstrip()


def depths_of(graph: Graph) -> dict[int, int]:
    """The depth of each process below the root; 0 for those outside the tree."""
    depths: dict[int, int] = {}
    for process in graph.processes:
        inside = not process.outside and process.pid != graph.root
        depths[process.pid] = depths.get(process.parent_pid, -1) + 1 if inside else 0
    return depths


# ---- two X-rays ------------------------------------------------------------------------------------------------------


def difference_text(before: Graph, after: Graph) -> str:
    """Lines of what is new and what is gone; one sentence if nothing differs."""
    change = xray_graph.compare(before, after)
    if not change:
        return "Nothing has changed.\n"
    lines = [
        *_processes("new", change.processes_new),
        *_processes("gone", change.processes_gone),
        *_objects("new", after, change.objects_new),
        *_objects("gone", before, change.objects_gone),
        *_holds("held too", after, change.holds_new),
        *_holds("no longer held", before, change.holds_gone),
        *_counts(before, after, change),
    ]
    return "\n".join(lines) + "\n"


def _processes(word: str, processes: Iterable[ProcessNode]) -> Iterator[str]:
    for process in processes:
        yield f"{word:14}  process {process.name} ({process.pid}){', outside' if process.outside else ''}"


def _objects(word: str, graph: Graph, things: Iterable[xray_graph.KernelObject]) -> Iterator[str]:
    """Joins objects of one kind with the same address or, without an address, with the same holders."""
    groups: dict[tuple[str, object], list[xray_graph.KernelObject]] = {}
    for thing in things:
        alike = thing.address if thing.port or thing.listening else graph.holders(thing)
        groups.setdefault((thing.kind, alike), []).append(thing)
    for (kind, group), members in groups.items():
        people = dict.fromkeys(label(graph, process) for thing in members for process in graph.holders(thing))
        address = f" {group}" if isinstance(group, str) else ""
        yield f"{word:14}  {counted(len(members), kind)}{address}, held by {', '.join(people)}"


def _holds(word: str, graph: Graph, holds: Iterable[xray_graph.Hold]) -> Iterator[str]:
    """One line for each process, with the objects and its descriptor numbers for them."""
    things = {thing.id: thing for thing in graph.objects}
    held: dict[int, dict[str, list[str]]] = {}
    for hold in holds:
        number = "mapped" if hold.number is None else str(hold.number)
        held.setdefault(hold.pid, {}).setdefault(hold.object_id, []).append(number)
    for pid, numbers_of in held.items():
        parts = [f"{_named(things[thing])} ({' '.join(numbers)})" for thing, numbers in numbers_of.items()]
        yield f"{word:14}  by {label(graph, graph.process(pid))}: {', '.join(parts)}"


def _named(thing: xray_graph.KernelObject) -> str:
    return f"{thing.kind} {last_part(thing.address)}".rstrip()


def _counts(before: Graph, after: Graph, change: Difference) -> Iterator[str]:
    """Descriptor counts of processes that are in both: in a leak the number only grows."""
    earlier = {process.identity: process.descriptors for process in before.processes if not process.outside}
    for process in after.processes:
        count = earlier.get(process.identity)
        if count is not None and process.descriptors is not None and count != process.descriptors:
            yield f"{'descriptors':14}  {label(after, process)}: {count} before, {process.descriptors} after"


def row_words(names: dict[int, str], row: Row) -> str:
    """One row as a sentence, for alt text."""
    return f"{row.title}{', ' + row.detail if row.detail else ''}: {'; '.join(held_words(names, row))}."

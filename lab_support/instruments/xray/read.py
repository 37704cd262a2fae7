"""Takes an X-ray: reads a process tree's descriptors and shared mappings, and finds out which are one kernel object.

Two descriptors refer to one object if the kernel gives them one number: the inode of a socket, pipe or memory,
the id of an eventfd. For objects without a number (epoll sets, io_uring, …) kcmp(2) tells. The two ends of a
connection are one object. It changes nothing; a process that ends meanwhile is left out. Linux only.
"""

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from lab_support.instruments import fdinfo, kernel, proc, sockets
from lab_support.instruments.process_name import short_name
from lab_support.instruments.xray import graph as xray_graph
from lab_support.instruments.xray.graph import Graph, Hold, KernelObject, ProcessNode

MAPPED = "mapped"

_GPU_DEVICES = ("/dev/nvidia", "/dev/dri/", "/dev/kfd", "/dev/accel/")
_BORING_DEVICES = frozenset({"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"})
_MEMORY_PATHS = ("/memfd:", "/dev/shm/", "/dev/zero", "/SYSV", "[anon_shmem")
_ANONYMOUS_KINDS = {"eventpoll": xray_graph.EPOLL_SET, "eventfd": xray_graph.EVENTFD}


class NoSuchProcess(LookupError):
    """There is no process with the pid whose X-ray was asked for."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One hold and its object. loose: the object has no number of its own, so its id is provisional."""

    thing: KernelObject
    hold: Hold
    loose: bool = False


@dataclass(frozen=True, slots=True)
class _Network:
    """The sockets of the tree's network namespace, with indexes."""

    sockets: dict[int, sockets.Socket]
    partners: dict[tuple[str, str], int]
    listening_ports: frozenset[int]


def take_xray(pid: int, *, outside: bool | Collection[int] = True, without: Collection[str] = ()) -> Graph:
    """The X-ray of `pid` and all its descendants, as this user may see them.

    outside: also search all other processes, or these, for holders of the tree's objects, or of their other ends.
    without: leave out `sockets.SOCK_DIAG` or `kernel.KCMP`, to see the effect of a sandbox that forbids them.
    Raises `NoSuchProcess`, and `proc.NotLinux` on any other system.
    """
    tree = [process for process in proc.process_tree(pid) if not process.ended]
    if not tree:
        raise NoSuchProcess(f"got pid {pid}, expected a running process: `ps -ef` lists them.")
    table = sockets.read_sockets(pid, [means for means in sockets.MEANS if means not in without])
    network = _network(table)
    notes = [f"Sockets: {table.reason}."] if table.reason else []
    seen: list[_Seen] = []
    nodes = []
    for process in tree:
        found = _look_into(process.pid, network)
        nodes.append(_node(process, found))
        seen += found or []
    notes += _closed_notes(nodes)
    seen, note = _merge_loose(seen, ask=kernel.KCMP not in without)
    notes += [note] if note else []
    if outside:
        others = proc.all_processes() if outside is True else _processes(outside or ())
        strangers, found_outside = _look_outside(tree, others, seen, network)
        nodes += strangers
        seen += found_outside
    return _graph(pid, nodes, seen, notes)


def _network(table: sockets.SocketTable) -> _Network:
    partners = {
        (found.address, found.peer_address): inode
        for inode, found in table.sockets.items()
        if found.family == "TCP" and found.state == "connected"
    }
    return _Network(table.sockets, partners, frozenset(found.port for found in table.listening if found.port))


def _node(process: proc.Process, found: list[_Seen] | None, outside: bool = False) -> ProcessNode:
    return ProcessNode(
        pid=process.pid,
        start_ticks=process.identity.start_ticks,
        parent_pid=process.parent_pid,
        name=short_name(process),
        title=process.title,
        state=process.state,
        threads=process.threads,
        descriptors=None if found is None else _open_descriptors(process.pid),
        outside=outside,
    )


def _open_descriptors(pid: int) -> int | None:
    try:
        return len(os.listdir(proc.PROC / str(pid) / "fd"))
    except PermissionError:
        return None
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _closed_notes(nodes: Iterable[ProcessNode]) -> list[str]:
    closed = [f"{node.name} ({node.pid})" for node in nodes if node.descriptors is None]
    if not closed:
        return []
    return [f"Not readable, so drawn empty: {', '.join(closed)}. They are another user's; take the X-ray as that user."]


def _graph(root: int, nodes: list[ProcessNode], seen: list[_Seen], notes: list[str]) -> Graph:
    objects: dict[str, KernelObject] = {}
    for one in seen:
        before = objects.get(one.thing.id, one.thing)
        objects[one.thing.id] = replace(before, size=max(before.size, one.thing.size))
    holds = [one.hold for one in seen]
    mapped_by: dict[str, set[int]] = {}
    for hold in holds:
        if hold.access == MAPPED:
            mapped_by.setdefault(hold.object_id, set()).add(hold.pid)
    for name, pids in mapped_by.items():
        if objects[name].kind == xray_graph.FILE and len(pids) > 1:
            objects[name] = replace(objects[name], kind=xray_graph.SHARED_MEMORY)
    ordered = sorted(objects.values(), key=lambda thing: (xray_graph.KINDS.index(thing.kind), thing.address, thing.id))
    return Graph(root, _without_prefix(nodes), tuple(ordered), tuple(holds), tuple(notes))


def _without_prefix(nodes: list[ProcessNode]) -> tuple[ProcessNode, ...]:
    """Below `postgres`, `postgres: checkpointer` is called checkpointer."""
    prefix = nodes[0].name.partition(":")[0] + ": "
    return (nodes[0], *(replace(node, name=node.name.removeprefix(prefix)) for node in nodes[1:]))


# ---- one process -----------------------------------------------------------------------------------------------------


def _look_into(pid: int, network: _Network) -> list[_Seen] | None:
    """The objects that `pid` holds; None if this user may not read them, nothing if it has ended."""
    try:
        numbers = sorted(int(name) for name in os.listdir(proc.PROC / str(pid) / "fd"))
        seen = [one for number in numbers if (one := _see(pid, number, network)) is not None]
        return [*_with_epoll_sets(pid, seen), *_see_mappings(pid)]
    except PermissionError:
        return None
    except (FileNotFoundError, ProcessLookupError):
        return []


def _see(pid: int, number: int, network: _Network) -> _Seen | None:
    link, info = fdinfo.link_of(pid, number), fdinfo.read_fdinfo(pid, number)
    if link is None or info is None or link in _BORING_DEVICES:
        return None
    thing, loose, bound = _object_behind(pid, number, link, info, network)
    if thing is None:
        return None
    inode = int(link[8:-1]) if link.startswith("socket:[") else 0
    hold = Hold(pid, thing.id, number, info.access, inode, bound, info.inheritable)
    return _Seen(thing, hold, loose)


def _object_behind(
    pid: int, number: int, link: str, info: fdinfo.DescriptorInfo, network: _Network
) -> tuple[KernelObject | None, bool, bool]:
    """The object, whether its id is provisional, and whether the descriptor is the bound end of a connection."""
    if link.startswith("socket:["):
        thing, bound = _socket(pid, number, int(link[8:-1]), network)
        return thing, False, bound
    if link.startswith("pipe:["):
        inode = int(link[6:-1])
        return KernelObject(f"pipe:{inode}", xray_graph.PIPE, "", (inode,)), False, False
    if not link.startswith("/"):
        thing = _anonymous(pid, number, link, info)
        return thing, thing.kind != xray_graph.EVENTFD or info.eventfd_id is None, False
    return _with_path(pid, number, link), False, False


def _socket(pid: int, number: int, inode: int, network: _Network) -> tuple[KernelObject, bool]:
    """The socket, or the connection of which it is one end, and whether that end is the bound one."""
    found = network.sockets.get(inode)
    if found is None or not found.state:
        protocol = fdinfo.socket_protocol(pid, number) or "unknown"
        address = f"{found.address} {protocol}".strip() if found else protocol
        return KernelObject(f"socket:{inode}", xray_graph.SOCKET, address, (inode,)), False
    if found.state == "listening":
        kind, name = xray_graph.LISTENING_SOCKET, f"socket:{inode}"
        queue = {"waiting": found.waiting, "limit": found.limit}
        return KernelObject(name, kind, found.address, (inode,), port=found.port, **queue), True  # type: ignore[arg-type]
    if found.family == "Unix":
        return _unix_connection(found, network)
    return _tcp_connection(found, network)


def _unix_connection(found: sockets.Socket, network: _Network) -> tuple[KernelObject, bool]:
    ends = tuple(sorted({found.inode, found.peer_inode or found.inode}))
    peer = network.sockets.get(found.peer_inode)
    address = found.address or (peer.address if peer else "")
    name = "unix:" + "-".join(map(str, ends))
    return KernelObject(name, xray_graph.UNIX_CONNECTION, address, ends), bool(found.address)


def _tcp_connection(found: sockets.Socket, network: _Network) -> tuple[KernelObject, bool]:
    partner = network.partners.get((found.peer_address, found.address))
    ends = tuple(sorted({found.inode, partner or found.inode}))
    bound = found.port in network.listening_ports
    address, peer = (found.address, found.peer_address) if bound else (found.peer_address, found.address)
    name = "tcp:" + "-".join(map(str, ends))
    port = int(address.rpartition(":")[2])
    return KernelObject(name, xray_graph.TCP_CONNECTION, address, ends, port, peer), bound


def _anonymous(pid: int, number: int, link: str, info: fdinfo.DescriptorInfo) -> KernelObject:
    """Objects without a path: `anon_inode:[eventpoll]`, `anon_inode:inotify` and others."""
    what = link.removeprefix("anon_inode:").partition(":")[0].strip("[]")
    kind = _ANONYMOUS_KINDS.get(what, xray_graph.OTHER)
    if info.eventfd_id is not None:
        return KernelObject(f"eventfd:{info.eventfd_id}", kind, "")
    return KernelObject(f"{what}:{pid}:{number}", kind, "" if kind != xray_graph.OTHER else what)


def _with_path(pid: int, number: int, link: str) -> KernelObject | None:
    status = fdinfo.status_of(pid, number)
    if status is None:
        return None
    inode = (status.st_ino,)
    if stat.S_ISCHR(status.st_mode):
        kind = xray_graph.GPU_DEVICE if link.startswith(_GPU_DEVICES) else xray_graph.OTHER
        kind = xray_graph.TERMINAL if link.startswith(("/dev/pts/", "/dev/tty", "/dev/console")) else kind
        return KernelObject(f"device:{link}", kind, link)
    if stat.S_ISFIFO(status.st_mode):
        return KernelObject(f"pipe:{status.st_dev}:{status.st_ino}", xray_graph.PIPE, link, inode)
    device = os.major(status.st_dev), os.minor(status.st_dev)
    return _memory_or_file(link, device, status.st_ino, status.st_size)


def _memory_or_file(path: str, device: tuple[int, int], inode: int, size: int) -> KernelObject:
    kind = xray_graph.SHARED_MEMORY if path.startswith(_MEMORY_PATHS) else xray_graph.FILE
    return KernelObject(f"file:{device[0]}:{device[1]}:{inode}", kind, _memory_name(path), (inode,), size=size)


def _memory_name(path: str) -> str:
    if path.startswith("/dev/zero"):
        return "anonymous"
    return path.removeprefix("/memfd:").removesuffix(" (deleted)") if path.startswith("/memfd:") else path


def _see_mappings(pid: int) -> Iterator[_Seen]:
    for mapping in fdinfo.shared_mappings(pid):
        is_memory = mapping.path.startswith(_MEMORY_PATHS)
        if (is_memory or mapping.writable) and not mapping.path.startswith("/dev/nvidia"):
            thing = _memory_or_file(mapping.path, mapping.device, mapping.inode, mapping.size)
            yield _Seen(thing, Hold(pid, thing.id, None, MAPPED))


def _with_epoll_sets(pid: int, seen: list[_Seen]) -> list[_Seen]:
    """`seen`, each with the epoll sets of `pid` that watch it."""
    watchers: dict[int, list[tuple[int, fdinfo.Watched]]] = {}
    for one in seen:
        if one.thing.kind == xray_graph.EPOLL_SET and one.hold.number is not None:
            info = fdinfo.read_fdinfo(pid, one.hold.number)
            for watched in info.watched if info else ():
                watchers.setdefault(watched.number, []).append((one.hold.number, watched))
    return [_with_watchers(one, watchers.get(one.hold.number or 0, [])) for one in seen]


def _with_watchers(one: _Seen, watchers: list[tuple[int, fdinfo.Watched]]) -> _Seen:
    # An epoll set keeps the descriptor number of the adding, which may be another object by now.
    right = [(number, watched) for number, watched in watchers if _may_be(watched.inode, one)]
    sets = tuple(number for number, _ in right)
    exclusive = tuple(number for number, watched in right if watched.exclusive)
    return replace(one, hold=replace(one.hold, epoll_sets=sets, exclusive=exclusive)) if right else one


def _may_be(inode: int, one: _Seen) -> bool:
    known = {one.hold.inode} if one.hold.inode else set(one.thing.inodes)
    return not inode or not known or inode in known


# ---- which loose ones are one ----------------------------------------------------------------------------------------


def _merge_loose(seen: list[_Seen], ask: bool) -> tuple[list[_Seen], str]:
    """Give loose objects that are one by kcmp the same id; and a note if kcmp can't be used."""
    first_of: dict[tuple[str, str], list[Hold]] = {}
    reason = "" if ask else "kcmp was not asked"
    merged = []
    for one in seen:
        if one.loose and not reason:
            known = first_of.setdefault((one.thing.kind, one.thing.address), [])
            found, reason = _find_same(one.hold, known)
            if found is None:
                known.append(one.hold)
            else:
                thing = replace(one.thing, id=found.object_id)
                one = replace(one, thing=thing, hold=replace(one.hold, object_id=thing.id))
        merged.append(one)
    if not reason:
        return merged, ""
    return merged, f"Epoll sets and similar objects are drawn as unshared, even if they are shared: {reason}."


def _find_same(hold: Hold, known: list[Hold]) -> tuple[Hold | None, str]:
    """The one of `known` that is the same object, if any; and the reason if that can't be told, or ""."""
    for other in known:
        assert hold.number is not None and other.number is not None
        answer = kernel.same_open_file_description(hold.pid, hold.number, other.pid, other.number, (kernel.KCMP,))
        if answer.same:
            return other, ""
        if answer.same is None and _still_there(hold.pid) and _still_there(other.pid):
            return None, answer.reason
    return None, ""


def _still_there(pid: int) -> bool:
    process = proc.read_process(pid)
    return process is not None and not process.ended


# ---- everybody else --------------------------------------------------------------------------------------------------


def _processes(pids: Iterable[int]) -> list[proc.Process]:
    return [process for process in map(proc.read_process, pids) if process is not None]


def _look_outside(
    tree: list[proc.Process], others: list[proc.Process], seen: list[_Seen], network: _Network
) -> tuple[list[ProcessNode], list[_Seen]]:
    """Other processes that hold a socket, pipe or memory of the tree, or its other end; and their holds."""
    inside = {process.pid for process in tree} | {os.getpid()}
    wanted, accesses = _wanted_links(seen), _accesses(seen)
    nodes, found = [], []
    for process in others:
        if process.pid not in inside and not process.ended:
            holds = [one for one in _matching(process.pid, wanted, network) if _matters_outside(one, accesses)]
            if holds:
                nodes.append(_node(process, holds, outside=True))
                found += holds
    return nodes, found


def _wanted_links(seen: list[_Seen]) -> frozenset[str]:
    """Links in /proc of the tree's objects that others may hold, except those that are standard streams only."""
    numbers: dict[str, set[int | None]] = {}
    for one in seen:
        numbers.setdefault(one.thing.id, set()).add(one.hold.number)
    links = set()
    for one in seen:
        if numbers[one.thing.id] <= xray_graph.STANDARD_STREAMS:
            continue
        scheme = "pipe" if one.thing.kind == xray_graph.PIPE else "socket"
        if one.thing.kind == xray_graph.SHARED_MEMORY:
            links |= {f"/memfd:{one.thing.address} (deleted)", one.thing.address}
        elif one.thing.kind not in (xray_graph.FILE, xray_graph.TERMINAL):
            links |= {f"{scheme}:[{inode}]" for inode in one.thing.inodes}
    return frozenset(links)


def _accesses(seen: list[_Seen]) -> dict[str, set[str]]:
    """The tree's accesses to each object, by its id."""
    accesses: dict[str, set[str]] = {}
    for one in seen:
        accesses.setdefault(one.thing.id, set()).add(one.hold.access)
    return accesses


def _matters_outside(one: _Seen, accesses: dict[str, set[str]]) -> bool:
    """Whether it is an object of the tree, and not just the same end of a pipe, inherited from a common ancestor.

    Equal links are not enough, because two memories may have one name.
    """
    inside = accesses.get(one.thing.id, set())
    return bool(inside) and not (one.thing.kind == xray_graph.PIPE and inside == {one.hold.access})


def _matching(pid: int, wanted: frozenset[str], network: _Network) -> Iterator[_Seen]:
    try:
        for name in os.listdir(proc.PROC / str(pid) / "fd"):
            if fdinfo.link_of(pid, int(name)) in wanted and (one := _see(pid, int(name), network)) is not None:
                yield one
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return  # another user's, or ended

"""/proc, read into dataclasses: processes below a pid, their memory, descriptors, libraries and context switches.

It looks from outside, as any other process of the same user could, and changes nothing. A process that ends while it is
read is not an error: functions that read one process return None or nothing then. Another user's process raises
PermissionError in a function that reads one process, and is left out of a search. Linux only; elsewhere each function
raises `NotLinux`.
"""

import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab_support.instruments.foreign_text import read_text, visible, visible_bytes
from lab_support.instruments.net_tables import tcp_records, unix_records

PROC = Path("/proc")

_GONE = (FileNotFoundError, ProcessLookupError)
"""Errors of /proc for a process that has ended: at open, and between open and read."""


class NotLinux(RuntimeError):
    """This system has no /proc like Linux's."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Identifies one process uniquely: the kernel reuses pids, but not with the same start time.

    start_ticks: clock ticks from boot to its start.
    """

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Process:
    """One process at the moment it was read.

    name, title: control characters are escaped. title: its command line, or the title it set in place of that, or its
    short name in brackets if it has neither.
    state: the kernel's letter: R running, S sleeping, D in the kernel, T stopped, Z ended but not waited for.
    """

    identity: Identity
    parent_pid: int
    name: str
    title: str
    state: str
    threads: int
    cpu_seconds: float

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def ended(self) -> bool:
        """A zombie: it has ended, but its parent has not waited for it yet."""
        return self.state in "ZX"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. rss counts a shared page in full, pss divides it by the processes that map it, uss leaves it out.

    anonymous: pages of no file. Without swap the kernel can't take them back, as it does with those of files.
    """

    rss: int
    pss: int
    uss: int
    anonymous: int


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """A socket that listens. port: 0 for a Unix socket; queued: connections that wait to be accepted."""

    inode: int
    address: str
    port: int
    queued: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One entry of a process's descriptor table.

    kind: "listening socket", "socket", "pipe", "memfd", "epoll", "eventfd", "pidfd", another anonymous kind by the
    kernel's name, or "file". inode: of the kernel object, 0 if it has none of its own.
    about: a listening socket's address, or the kernel's name of the target.
    """

    number: int
    kind: str
    inode: int
    about: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a descriptor of a listening socket."""

    process: Process
    number: int
    socket: ListeningSocket


@dataclass(frozen=True, slots=True)
class ContextSwitches:
    """Of one thread, or of all of a process. voluntary: it went to sleep by itself, so about once for each wake-up."""

    voluntary: int
    involuntary: int


# ---- one process -----------------------------------------------------------------------------------------------------


def read_process(pid: int) -> Process | None:
    """The process `pid`, or None if it does not exist (any more)."""
    _require_linux()
    try:
        stat = read_text(f"{PROC}/{pid}/stat")
        with open(f"{PROC}/{pid}/cmdline", "rb", buffering=0) as file:
            command = file.readall()
    except _GONE:
        return None
    # The name may hold spaces and parentheses: it ends at the last one.
    name = visible(stat[stat.index("(") + 1 : stat.rindex(")")])
    fields = _after_the_name(stat)
    ticks = os.sysconf("SC_CLK_TCK")
    return Process(
        identity=Identity(pid, int(fields[19])),
        parent_pid=int(fields[1]),
        name=name,
        title=visible_bytes(command.rstrip(b"\0 ").replace(b"\0", b" ")) or f"[{name}]",
        state=fields[0],
        threads=int(fields[17]),
        cpu_seconds=(int(fields[11]) + int(fields[12])) / ticks,
    )


def is_running(identity: Identity) -> bool:
    """Whether this very process still runs. A zombie does not."""
    process = read_process(identity.pid)
    return process is not None and process.identity == identity and not process.ended


def read_memory(pid: int) -> Memory | None:
    """Memory from /proc/PID/smaps_rollup, or None if the process has ended."""
    _require_linux()
    try:
        text = read_text(PROC / str(pid) / "smaps_rollup")
    except _GONE:
        return None
    sizes = {name: int(size) * 1024 for name, size in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    if "Rss" not in sizes:
        return None
    uss = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Memory(sizes["Rss"], sizes["Pss"], uss, sizes["Anonymous"])


def read_context_switches(pid: int) -> ContextSwitches | None:
    """Context switches of all living threads of `pid`, or None if the process has ended."""
    threads = read_thread_switches(pid).values()
    if not threads:
        return None
    return ContextSwitches(sum(one.voluntary for one in threads), sum(one.involuntary for one in threads))


def read_thread_switches(pid: int) -> dict[int, ContextSwitches]:
    """Context switches of each thread of `pid` by thread id; empty if the process has ended."""
    _require_linux()
    switches = {}
    for thread in _numbers_in(PROC / str(pid) / "task"):
        try:
            status = read_text(PROC / str(pid) / "task" / str(thread) / "status")
        except _GONE:
            continue
        counts = dict(re.findall(r"^((?:non)?voluntary)_ctxt_switches:\s+(\d+)", status, re.MULTILINE))
        switches[thread] = ContextSwitches(int(counts.get("voluntary", 0)), int(counts.get("nonvoluntary", 0)))
    return switches


def read_thread_states(pid: int) -> dict[int, str]:
    """The kernel's letter for the state of each thread of `pid` by thread id; empty if the process has ended."""
    _require_linux()
    states = {}
    for thread in _numbers_in(PROC / str(pid) / "task"):
        try:
            stat = read_text(PROC / str(pid) / "task" / str(thread) / "stat")
        except _GONE:
            continue
        states[thread] = _after_the_name(stat)[0]
    return states


def _after_the_name(stat: str) -> list[str]:
    """The fields of /proc/PID/stat from the third on, proc_pid_stat(5). The name before them may hold parentheses."""
    return stat[stat.rindex(")") + 2 :].split()


def mapped_libraries(pid: int) -> frozenset[str]:
    """File names (`libtorch_cpu.so`, without folders) of the shared libraries that `pid` has mapped."""
    _require_linux()
    try:
        maps = read_text(PROC / str(pid) / "maps")
    except _GONE:
        return frozenset()
    return frozenset(os.path.basename(path) for path in re.findall(r"(/\S+\.so[\w.-]*)", maps))


def maps_library(pid: int, name: str) -> bool:
    """Whether `pid` has mapped a library whose file name begins with `name`, such as "libtorch"."""
    return any(library.startswith(name) for library in mapped_libraries(pid))


# ---- many processes --------------------------------------------------------------------------------------------------


def all_processes() -> list[Process]:
    """Every process that this user may see, by pid."""
    _require_linux()
    processes = (read_process(pid) for pid in _numbers_in(PROC))
    return [process for process in processes if process is not None]


def process_tree(pid: int) -> list[Process]:
    """`pid` and all its descendants, each before its children, siblings by age; empty if it has ended.

    One pass over /proc, so a process that was born or re-parented meanwhile may be missed.
    """
    processes = {process.pid: process for process in all_processes()}
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent_pid, []).append(process)

    def below(process: Process) -> Iterator[Process]:
        yield process
        for child in sorted(children.get(process.pid, []), key=lambda child: (child.identity.start_ticks, child.pid)):
            yield from below(child)

    return list(below(processes[pid])) if pid in processes else []


# ---- descriptors and sockets -----------------------------------------------------------------------------------------


def read_descriptors(pid: int) -> list[Descriptor]:
    """The descriptor table of `pid`, by number; empty if it has ended."""
    try:
        return _descriptor_table(pid, listening_sockets())
    except PermissionError:
        process = read_process(pid)
        if process and not process.ended:
            raise
        return []  # root owns a zombie's files in /proc


def _descriptor_table(pid: int, listening: dict[int, ListeningSocket]) -> list[Descriptor]:
    folder = PROC / str(pid) / "fd"
    found = []
    for number in sorted(_numbers_in(folder)):
        try:
            target = os.readlink(os.fsencode(folder / str(number)))
        except _GONE:
            continue
        found.append(_descriptor(number, visible_bytes(target), listening))
    return found


def _descriptor(number: int, target: str, listening: dict[int, ListeningSocket]) -> Descriptor:
    if target.startswith("anon_inode:"):
        name = target.removeprefix("anon_inode:").strip("[]")
        return Descriptor(number, {"eventpoll": "epoll"}.get(name, name), 0, target)
    if target.startswith("/memfd:"):
        return Descriptor(number, "memfd", 0, target.removeprefix("/memfd:").removesuffix(" (deleted)"))
    kind, found, inode = target.removesuffix("]").partition(":[")
    if not found:
        return Descriptor(number, "file", 0, target)
    if kind == "socket" and int(inode) in listening:
        return Descriptor(number, "listening socket", int(inode), listening[int(inode)].address)
    return Descriptor(number, kind, int(inode), target)


def listening_sockets() -> dict[int, ListeningSocket]:
    """Every listening socket in this network namespace, TCP and Unix, by inode."""
    _require_linux()
    tcp = [*_listening_tcp("tcp", socket.AF_INET), *_listening_tcp("tcp6", socket.AF_INET6)]
    return {found.inode: found for found in (*tcp, *_listening_unix())}


def _listening_tcp(table: str, family: int) -> Iterator[ListeningSocket]:
    for fields in tcp_records(PROC / "net", table):
        if fields[3] != "0A":  # TCP_LISTEN
            continue
        host, _, port = fields[1].partition(":")
        address = _address_text(host, family)
        # rx_queue of a listening socket is the length of its accept queue.
        queued = int(fields[4].partition(":")[2], 16)
        yield ListeningSocket(int(fields[9]), f"{address}:{int(port, 16)}", int(port, 16), queued)


def _address_text(host: str, family: int) -> str:
    """The kernel prints an address as 32-bit words in the machine's own byte order."""
    words = (bytes.fromhex(host[i : i + 8]) for i in range(0, len(host), 8))
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    text = socket.inet_ntop(family, packed)
    return f"[{text}]" if family == socket.AF_INET6 else text


def _listening_unix() -> Iterator[ListeningSocket]:
    for fields in unix_records(PROC / "net"):
        if int(fields[3], 16) & 0x10000:  # SO_ACCEPTCON
            yield ListeningSocket(int(fields[6]), fields[7] or "(no name)", 0, 0)


def holders_of_listening_socket(port: int, pids: Iterable[int] | None = None) -> list[Holder]:
    """The holders of TCP sockets that listen on `port`, ordered by pid and descriptor number.

    pids: look at these only; by default at every process of this user.
    """
    listening = {inode: found for inode, found in listening_sockets().items() if found.port == port}
    return [
        Holder(process, descriptor.number, listening[descriptor.inode])
        for pid in (sorted(_numbers_in(PROC)) if pids is None else pids)
        for descriptor in _descriptors_if_allowed(pid, listening)
        if descriptor.kind == "listening socket" and (process := read_process(pid)) is not None
    ]


def _descriptors_if_allowed(pid: int, listening: dict[int, ListeningSocket]) -> list[Descriptor]:
    try:
        return _descriptor_table(pid, listening)
    except PermissionError:
        return []  # another user's, so left out of the search, as the module says


def _numbers_in(folder: Path) -> Iterator[int]:
    try:
        names = os.listdir(folder)
    except _GONE:
        return
    yield from (int(name) for name in names if name.isdigit())


def _require_linux() -> None:
    if sys.platform != "linux":
        raise NotLinux(f"got {sys.platform}, expected Linux: this looks into /proc. Use Linux, or WSL2 on Windows.")

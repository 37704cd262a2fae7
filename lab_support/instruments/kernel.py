"""Questions to the kernel about processes: are two descriptors one object, who waits, who was woken, what was dropped?

Each answer names its method; one that could not be found gives the reason (`reason`) instead of raising. All of it
works for an ordinary user on their own processes. `audit.py` counts descriptor messages, `strace.py` shows single
system calls. Linux only.
"""

import ctypes
import errno
import fcntl
import functools
import os
import platform
import stat
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lab_support.instruments import fdinfo, proc, sockets

KCMP, INODE, FLAG = "kcmp", "inode", "flag"
MEANS = (KCMP, INODE, FLAG)
"""The methods by which two descriptors are compared, the surest first."""

_KCMP_NUMBERS = {"x86_64": 312, "aarch64": 272, "riscv64": 272, "loongarch64": 272, "ppc64le": 354, "s390x": 343}
_KCMP_FILE, _KCMP_VM, _KCMP_FILES = 0, 1, 2


# ---- one open file description or two --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sameness:
    """Whether two things are one in the kernel; None if that can't be told here. how: the method that decided."""

    same: bool | None
    how: str = ""
    reason: str = ""


def same_open_file_description(
    pid: int, number: int, other_pid: int, other_number: int, means: Sequence[str] = MEANS
) -> Sameness:
    """Whether two descriptors refer to one open file description: one offset, one set of flags.

    means: the methods to try, in this order. `KCMP` always decides if it is allowed. `INODE` decides if the objects
    differ, and for sockets, which have one description each. `FLAG` sets a status flag on one side, looks for it on
    the other, and resets it; one side must be this process. The flag is one that the kernel ignores for that kind of
    object.
    """
    reasons = []
    for one in means:
        answer = _ASK[one](pid, number, other_pid, other_number)
        if answer.reason:
            reasons.append(answer.reason)
        if answer.same is not None:
            return Sameness(answer.same, one, "; ".join(reasons))
    return Sameness(None, "", "; ".join(reasons))


def same_descriptor_table(pid: int, other_pid: int) -> Sameness:
    """Whether two processes or threads share one descriptor table, so that a file that one opens is open in both."""
    return _kcmp(pid, other_pid, _KCMP_FILES, 0, 0)


def same_memory(pid: int, other_pid: int) -> Sameness:
    """Whether two processes or threads share one address space."""
    return _kcmp(pid, other_pid, _KCMP_VM, 0, 0)


def _same_by_kcmp(pid: int, number: int, other_pid: int, other_number: int) -> Sameness:
    return _kcmp(pid, other_pid, _KCMP_FILE, number, other_number)


def _kcmp(pid: int, other_pid: int, kind: int, first: int, second: int) -> Sameness:
    machine = platform.machine()
    if machine not in _KCMP_NUMBERS or struct.calcsize("P") != 8:
        return Sameness(None, KCMP, f"the number of kcmp(2) on {machine} is not known here")
    numbers = (pid, other_pid, kind, first, second)
    result = _libc().syscall(ctypes.c_long(_KCMP_NUMBERS[machine]), *(ctypes.c_ulong(number) for number in numbers))
    if result < 0:
        return Sameness(None, KCMP, _why_no_kcmp(ctypes.get_errno()))
    return Sameness(result == 0, KCMP)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _why_no_kcmp(error: int) -> str:
    meant = {
        errno.EPERM: "a process is another user's, or a sandbox blocks it, as Docker's default profile does",
        errno.EACCES: "a process is another user's",
        errno.ENOSYS: "this kernel or sandbox has no kcmp",
        errno.ESRCH: "a process has ended",
        errno.EBADF: "a descriptor is not open",
    }
    return f"kcmp: {errno.errorcode.get(error, error)}, {meant.get(error, os.strerror(error))}"


def _same_by_inode(pid: int, number: int, other_pid: int, other_number: int) -> Sameness:
    try:
        links = fdinfo.link_of(pid, number), fdinfo.link_of(other_pid, other_number)
        status = fdinfo.status_of(pid, number), fdinfo.status_of(other_pid, other_number)
        access = _access(pid, number), _access(other_pid, other_number)
    except PermissionError:
        return Sameness(None, INODE, "inode: a process is another user's")
    if None in links or status[0] is None or status[1] is None:
        return Sameness(None, INODE, "inode: a descriptor is not open, or its process has ended")
    one, two = ((found.st_dev, found.st_ino) for found in status if found)
    if one != two or access[0] != access[1] or (links[0] != links[1] and "deleted" not in str(links)):
        return Sameness(False, INODE)
    if stat.S_ISSOCK(status[0].st_mode):
        return Sameness(True, INODE)
    return Sameness(None, INODE, "inode: the same file or kind, which can be open more than once")


def _access(pid: int, number: int) -> str:
    info = fdinfo.read_fdinfo(pid, number)
    return info.access if info else ""


def _same_by_flag(pid: int, number: int, other_pid: int, other_number: int) -> Sameness:
    if pid != os.getpid():
        pid, number, other_pid, other_number = other_pid, other_number, pid, number
    if pid != os.getpid():
        return Sameness(None, FLAG, "flag: neither process is this one, so no flag can be set")
    try:
        flag = os.O_NONBLOCK if stat.S_ISREG(os.fstat(number).st_mode) else os.O_APPEND
        return _follows(number, flag, other_pid, other_number)
    except OSError as error:
        return Sameness(None, FLAG, f"flag: {error.strerror}")


def _follows(number: int, flag: int, other_pid: int, other_number: int) -> Sameness:
    """Whether the other side's flags change with this side's, at the change and when it is undone."""
    before = fcntl.fcntl(number, fcntl.F_GETFL)
    seen = [_flags(other_pid, other_number)]
    try:
        fcntl.fcntl(number, fcntl.F_SETFL, before ^ flag)
        seen.append(_flags(other_pid, other_number))
    finally:
        fcntl.fcntl(number, fcntl.F_SETFL, before)
    seen.append(_flags(other_pid, other_number))
    if None in seen:
        return Sameness(None, FLAG, "flag: a descriptor is not open, or its process has ended")
    return Sameness([bool(flags & flag) for flags in seen if flags is not None] == _there_and_back(before, flag), FLAG)


def _there_and_back(before: int, flag: int) -> list[bool]:
    was = bool(before & flag)
    return [was, not was, was]


def _flags(pid: int, number: int) -> int | None:
    info = fdinfo.read_fdinfo(pid, number)
    return info.flags if info else None


_ASK = {KCMP: _same_by_kcmp, INODE: _same_by_inode, FLAG: _same_by_flag}


# ---- accept queues ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AcceptQueue:
    """Connections that the kernel has established and no process has accepted yet. limit: None if unknown."""

    inode: int
    address: str
    port: int
    waiting: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class AcceptQueues:
    """One queue for each listening socket. how: the method that answered; reason: what is missing and why, or ""."""

    queues: tuple[AcceptQueue, ...]
    how: str
    reason: str = ""

    @property
    def waiting(self) -> int:
        """Connections in all queues."""
        return sum(queue.waiting for queue in self.queues)


def accept_queues(port: int, means: Sequence[str] = sockets.MEANS) -> AcceptQueues:
    """The accept queue of each TCP socket that listens on `port`: one, or several with SO_REUSEPORT; () if none.

    means: `sockets.SOCK_DIAG` knows length and limit, `sockets.PROC_NET` the length alone.
    """
    table = sockets.read_sockets(means=means)
    queues = [
        AcceptQueue(found.inode, found.address, found.port, found.waiting, found.limit)
        for found in table.listening
        if found.port == port
    ]
    return AcceptQueues(tuple(sorted(queues, key=lambda queue: queue.inode)), table.how, table.reason)


@dataclass(frozen=True, slots=True)
class ListenOverflows:
    """Counts of all sockets of the network namespace since it was made. None: unknown, see `reason`.

    overflows: connections that found the accept queue full. drops: these and connections lost for other causes.
    """

    overflows: int | None
    drops: int | None
    reason: str = ""

    def since(self, earlier: "ListenOverflows") -> "ListenOverflows":
        """The increase since `earlier`."""
        if None in (self.overflows, self.drops, earlier.overflows, earlier.drops):
            return ListenOverflows(None, None, self.reason or earlier.reason)
        assert self.overflows is not None and earlier.overflows is not None
        assert self.drops is not None and earlier.drops is not None
        return ListenOverflows(self.overflows - earlier.overflows, self.drops - earlier.drops)


def listen_overflows(pid: int | None = None) -> ListenOverflows:
    """The counters of `pid`'s network namespace; by default of this process's."""
    path = proc.PROC / ("self" if pid is None else str(pid)) / "net/netstat"
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.startswith("TcpExt:")]
    except OSError as error:
        return ListenOverflows(None, None, f"{path}: {error.strerror}")
    counts = dict(zip(*lines, strict=False)) if len(lines) == 2 else {}
    if "ListenOverflows" not in counts:
        return ListenOverflows(None, None, f"{path} has no ListenOverflows: the counters of a sandbox, not of Linux")
    return ListenOverflows(int(counts["ListenOverflows"]), int(counts["ListenDrops"]))


# ---- wake-ups --------------------------------------------------------------------------------------------------------

_SETTLE_SECONDS = 0.05
"""A process woken in vain is counted only when it sleeps again, a moment after the work is done."""


@dataclass(frozen=True, slots=True)
class WakeUps:
    """Voluntary context switches of all threads of some processes, over a piece of work.

    switches: during `seconds` of work. idle_rate: per second without work. reason: why the figure is too small or
    missing, or "".
    """

    switches: int
    seconds: float
    idle_rate: float
    connections: int
    reason: str = ""

    @property
    def for_the_work(self) -> float:
        """The switches minus those that would have happened anyway; at least 0."""
        return max(0.0, self.switches - self.idle_rate * self.seconds)

    @property
    def per_connection(self) -> float:
        return self.for_the_work / self.connections


def count_wake_ups(
    pids: Iterable[int], work: Callable[[], object], connections: int, idle_seconds: float = 0.3
) -> WakeUps:
    """Run `work`, which makes `connections` connections to the processes `pids`, and count how often they were woken.

    First it waits `idle_seconds` to measure the idle rate. Each sleep is one voluntary switch, so there is one for each
    wake-up. The processes should do nothing else meanwhile, and the count of a thread that ends during the work is
    lost. One wake-up can serve several connections that arrive together: if each should find the processes asleep,
    `work` calls `wait_until_asleep` before each.
    """
    assert connections > 0, f"got {connections} connections, expected at least one"
    pids = list(pids)
    first, began = _voluntary(pids), time.monotonic()
    time.sleep(idle_seconds)
    second, worked_from = _voluntary(pids), time.monotonic()
    work()
    time.sleep(_SETTLE_SECONDS)
    third, ended = _voluntary(pids), time.monotonic()
    return WakeUps(
        switches=_growth(second, third),
        seconds=ended - worked_from,
        idle_rate=_growth(first, second) / (worked_from - began),
        connections=connections,
        reason=_what_is_missing(pids, second, third),
    )


def wait_until_asleep(pids: Iterable[int], seconds: float = 1.0) -> bool:
    """Wait until every thread of the processes `pids` sleeps; False if one still runs after `seconds`."""
    pids = list(pids)
    deadline = time.monotonic() + seconds
    while any(state in "RD" for pid in pids for state in proc.read_thread_states(pid).values()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def _voluntary(pids: list[int]) -> dict[tuple[int, int], int]:
    """Voluntary switches so far, by process and thread."""
    return {
        (pid, thread): switches.voluntary for pid in pids for thread, switches in proc.read_thread_switches(pid).items()
    }


def _growth(before: dict[tuple[int, int], int], after: dict[tuple[int, int], int]) -> int:
    return sum(count - before.get(thread, 0) for thread, count in after.items())


def _what_is_missing(pids: list[int], before: dict[tuple[int, int], int], after: dict[tuple[int, int], int]) -> str:
    never_seen = sorted(set(pids) - {pid for pid, _ in before})
    ended = len(before.keys() - after.keys())
    reasons = [f"no process {', '.join(map(str, never_seen))}"] if never_seen else []
    return "; ".join(reasons + ([f"{ended} threads ended during the work: too few are counted"] if ended else []))

"""The members of a process tree, read four times a second: state, CPU time, context switches, memory, descriptors.

It reads the files of `instruments/proc.py`, but opens as few as it can, because opening one costs more than reading it:
at each look one file for each process, twice a second its descriptors, and once a second the files of its threads. A
process that ends meanwhile is left out. Linux only; runs in the process that watches.
"""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from lab_support.instruments import proc
from lab_support.instruments.foreign_text import read_text
from lab_support.instruments.proc import PROC, Identity
from lab_support.instruments.process_name import short_name
from lab_support.signal_names import signal_name

_GONE = (FileNotFoundError, ProcessLookupError)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SWITCHES = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)\nnonvoluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)
_PENDING = re.compile(r"^ShdPnd:\s+([0-9a-f]+)", re.MULTILINE)
_SELDOM, _HALF = 0.9, 0.45  # seconds between two readings of a process's threads, of its descriptors
_YOUNG = 5.0  # seconds in which a process may give itself a title, so that it is read at each look


@dataclass(frozen=True, slots=True)
class Stat:
    """One process by the one file that is read at each look. resident: bytes. ended_with: a zombie's wait status."""

    identity: Identity
    parent_pid: int
    state: str
    threads: int
    resident: int
    ended_with: int | None


@dataclass(slots=True)
class Slow:
    """The figures that are read once a second. first, at: of the first and the last reading; 0 before the first.

    Times are seconds on the clock of `time.monotonic`. switches: voluntary and involuntary ones so far, by thread.
    pending: names of signals that were sent to the process and that it has not taken yet.
    """

    first: float = 0.0
    at: float = 0.0
    name: str = ""
    title: str = ""
    switches: dict[int, tuple[int, int]] = field(default_factory=dict)
    pending: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """The descriptors of a process. count: None if this user may not read them. sockets: inodes, by descriptor number.

    at: of the reading.
    """

    at: float = 0.0
    count: int | None = 0
    sockets: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """One process of the tree at one moment. cpu: seconds on a core so far."""

    stat: Stat
    slow: Slow
    held: Held
    cpu: float

    @property
    def identity(self) -> Identity:
        return self.stat.identity

    @property
    def pid(self) -> int:
        return self.stat.identity.pid

    @property
    def name(self) -> str:
        return self.slow.name

    @cached_property
    def ended(self) -> bool:
        """A zombie: it has ended, and its parent has not waited for it yet."""
        return self.stat.state in "ZX"


class Tree:
    """The tree below one process, from look to look: `read` finds those that were born and drops those that ended.

    A process whose parent has ended stays a member. A process that reads its own tree is left out.
    """

    def __init__(self, root: Identity) -> None:
        self.root = root
        self._members: dict[int, Identity] = {}
        self._seen = {str(os.getpid())}
        self._newest = ""
        self._slow: dict[Identity, Slow] = {}
        self._held: dict[Identity, Held] = {}

    def read(self) -> list[Member]:
        """The members now, each before its children; none once all have ended. Raises `proc.NotLinux`."""
        self._find_new()
        found = {pid: member for pid in self._members if (member := self._read(pid)) is not None}
        self._members = {pid: member.identity for pid, member in found.items()}
        self._slow = {member.identity: member.slow for member in found.values()}
        self._held = {member.identity: member.held for member in found.values()}
        return list(_in_order(self.root.pid, found))

    def somebody_new(self) -> bool:
        """Whether a process was born in the tree since the last call; in `read` it will be a member."""
        newest = read_text(f"{PROC}/loadavg").split()[-1]  # the pid that the kernel gave last: proc_loadavg(5)
        if newest == self._newest:
            return False
        self._newest = newest
        return self._find_new()

    def _find_new(self) -> bool:
        """A new pid belongs to the tree if its parent does. Others are looked at once. Returns whether one belongs."""
        names = set(os.listdir(PROC))
        unseen = names - self._seen
        self._seen = names
        parents = {}
        for name in unseen:
            if name.isdigit() and (stat := _read_stat(int(name))) is not None:
                parents[int(name)] = stat
        before = len(self._members)
        for pid, stat in sorted(parents.items(), key=lambda each: each[1].identity.start_ticks):
            if stat.identity == self.root or self._belongs(stat.parent_pid, parents):
                self._members[pid] = stat.identity
        return len(self._members) > before

    def _belongs(self, pid: int, others: dict[int, Stat]) -> bool:
        while pid not in self._members and pid in others and others[pid].identity != self.root:
            pid = others[pid].parent_pid
        return pid in self._members or (pid in others and others[pid].identity == self.root)

    def _read(self, pid: int) -> Member | None:
        stat = _read_stat(pid)
        if stat is None or stat.identity != self._members[pid]:
            return None
        try:
            cpu = time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3): of all its threads, ended ones too
        except OSError:
            cpu = 0.0  # it has just ended
        return Member(stat, self._read_slow(stat), self._read_held(stat.identity), cpu)

    def _read_held(self, identity: Identity) -> Held:
        held, now = self._held.get(identity, Held()), time.monotonic()
        return held if now < held.at + _HALF else read_held(identity.pid, now)

    def _read_slow(self, stat: Stat) -> Slow:
        slow, now = self._slow.get(stat.identity, Slow()), time.monotonic()
        first = slow.first or now
        due = now >= slow.at + _SELDOM or now < first + _YOUNG or stat.state == "T"
        if due and stat.state not in "ZX":
            return _read_slow(stat.identity.pid, slow, first, now) or slow
        return slow


def _in_order(root: int, members: dict[int, Member]) -> Iterator[Member]:
    """Each before its children, siblings by age; then those whose parents have ended."""
    children: dict[int, list[Member]] = {}
    for member in sorted(members.values(), key=lambda one: (one.identity.start_ticks, one.pid)):
        parent = member.stat.parent_pid
        at_top = member.pid == root or parent not in members
        children.setdefault(0 if at_top else parent, []).append(member)

    def below(pid: int) -> Iterator[Member]:
        for member in children.get(pid, []):
            yield member
            yield from below(member.pid)

    return below(0)


# ---- one process -----------------------------------------------------------------------------------------------------


def _read_stat(pid: int) -> Stat | None:
    try:
        text = read_text(f"{PROC}/{pid}/stat")
    except _GONE:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # from the third on, proc_pid_stat(5); the name may hold spaces
    return Stat(
        identity=Identity(pid, int(fields[19])),
        parent_pid=int(fields[1]),
        state=fields[0],
        threads=int(fields[17]),
        resident=int(fields[21]) * _PAGE,
        ended_with=int(fields[49]) if fields[0] in "ZX" else None,
    )


def _read_slow(pid: int, before: Slow, first: float, now: float) -> Slow | None:
    process = proc.read_process(pid)
    if process is None:
        return None
    changed = process.title != before.title
    name = short_name(process) if changed else before.name
    switches: dict[int, tuple[int, int]] = {}
    pending: tuple[str, ...] = ()
    try:
        for thread in os.listdir(f"{PROC}/{pid}/task"):
            status = read_text(f"{PROC}/{pid}/task/{thread}/status")
            switches[int(thread)] = _switches(status)
            pending = _pending(status)
    except _GONE:
        pass
    return Slow(first, now, name, process.title, switches, pending)


def _switches(status: str) -> tuple[int, int]:
    found = _SWITCHES.search(status)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _pending(status: str) -> tuple[str, ...]:
    """Signals to the whole process that wait, as for one that is stopped. Source: proc_pid_status(5), ShdPnd."""
    found = _PENDING.search(status)
    bits = int(found[1], 16) if found else 0
    return tuple(signal_name(number + 1) for number in range(64) if bits >> number & 1)


def read_held(pid: int, now: float) -> Held:
    """The descriptors of one process. now: on the clock of `time.monotonic`."""
    folder = f"{PROC}/{pid}/fd"
    sockets = {}
    try:
        numbers = os.listdir(folder)
        for number in numbers:
            if (link := _link(f"{folder}/{number}")).startswith("socket:["):
                sockets[int(number)] = int(link[8:-1])
    except PermissionError:
        return Held(now, None)
    except _GONE:
        return Held(now)
    return Held(now, len(numbers), sockets)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""  # closed meanwhile


def in_words(status: int | None) -> str:
    """A wait status: `by SIGKILL`, `with exit code 0`; "" if it is unknown."""
    if status is None:
        return ""
    if os.WIFSIGNALED(status):
        return f"by {signal_name(os.WTERMSIG(status))}"
    return f"with exit code {os.WEXITSTATUS(status)}"

"""The processes of a cell: each descendant of the supervisor, its parent, and how it ended.

Runs in the supervisor; standard library only. Processes are found in /proc, every few milliseconds, and by
their own messages (`inside_cells/sitecustomize.py`). Their ends are seen by pidfds and by waiting.
"""

import fcntl
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from descendants import children, stat_fields

NOBODY = -1
_MOST_AT_ONCE = 32  # new processes in one look, so that the limit is checked before there are more
_GONE = (FileNotFoundError, ProcessLookupError)
_PIDFD_GET_INFO, _PIDFD_INFO_EXIT = 0xC040FF0B, 1 << 3


@dataclass(slots=True, eq=False)
class Member:
    """One process, living or not. number: 0 for the script, then by order of creation. start: in ticks since boot.

    image: the address of its stack, which changes with each exec. became: the images that exec gave it.
    command: its words.
    code: how it ended, see `Census.end`.
    traced: it is still strace, and about to become the script. unnamed: it was in the middle of an exec, and had no
    command line yet.
    """

    number: int
    pid: int
    start: int
    pidfd: int
    image: int
    command: list[str] = field(default_factory=list)
    ended: bool = False
    code: int | None = None
    unnamed: bool = False
    traced: bool = False
    became: list[int] = field(default_factory=list)


class Census:
    """All members by pid. Reports news to `report`, with the seconds since the cell began.

    watch, unwatch: called with a pidfd to start or stop waiting for. last_words: called before an end is reported.
    read_news: called before a process found in /proc is added, so that earlier ones that sent messages come first.
    count: the living; some may have just ended. most: with more than that it looks for no others, because a fork
    bomb makes them faster than they can be added. traced: strace, which becomes the script, is not counted.
    """

    def __init__(
        self,
        report: Callable[..., None],
        now: Callable[[], float],
        watch: Callable[[int, Member], None],
        unwatch: Callable[[int], None],
        last_words: Callable[[Member], None],
        read_news: Callable[[], None],
        most: int,
        *,
        traced: bool = False,
    ) -> None:
        self._report, self._now, self._watch, self._unwatch = report, now, watch, unwatch
        self._last_words, self._read_news = last_words, read_news
        self._members: dict[int, Member] = {}
        self._all: list[Member] = []
        self._script_spoke = False
        self._most, self.count = most, 0
        self._traced = traced

    @property
    def full(self) -> bool:
        return self.count > self._most

    @property
    def living(self) -> list[Member]:
        return [member for member in self._members.values() if not member.ended]

    def __getitem__(self, pid: int) -> Member:
        """The member that has, or had, this pid; an unknown one is added."""
        known = self._members.get(pid)
        if known and not (known.ended and _start_time(pid) not in (0, known.start)):
            return known
        if known is None and self._all:  # the script is added before news is read
            self._read_news()
            if pid in self._members:
                return self._members[pid]
        return self._add(pid)

    def belongs(self, pid: int) -> bool:
        """Whether the process descends from this one; True if it has ended and can no longer be looked at."""
        if self.full:
            return True  # in a fork bomb no other process is counted, and each look gives the bomb time
        while pid > 1 and pid != os.getpid():
            known = self._members.get(pid)
            pid = os.getpid() if known and not known.ended else _parent(pid) or os.getpid()
        return pid == os.getpid()

    def number_of(self, pid: int) -> int:
        return self._members[pid].number if pid in self._members else NOBODY

    def scan(self) -> None:
        """Look for new processes, and for processes that became another program by exec."""
        for member in self.living:
            self._look_for_exec(member)
        below = children(os.getpid())
        at_first = self.count
        for pid in below:  # the list grows meanwhile
            if self.full or self.count > at_first + _MOST_AT_ONCE:
                return
            known = self._members.get(pid)
            if (known is None or known.ended) and (self._is_tracer(pid) or not _start_time(pid)):
                continue
            below += children(pid)
            self[pid]

    def heard(self, pid: int, pidfd: int, made: str, at: float, parent: int, command: bytes = b"") -> None:
        """A process sent a message that it was made by "fork", or has started a new program by "exec".

        pidfd: as it came with the message, -1 without; closed here. The process may have ended, and been waited for.
        command: its own command line after an exec, words with NULs between them; used if /proc no longer has it.
        """
        if self.full and pid not in self._members:
            if pidfd >= 0:
                os.close(pidfd)
            return
        siblings = children(parent)
        # Siblings come first, so that numbers follow the order of creation. Ended ones are in no list any more.
        before = siblings[: siblings.index(pid)] if pid in siblings else [each for each in siblings if each < pid]
        for sibling in before:
            if not self.full and sibling not in self._members and not self._is_tracer(sibling):
                self._add(sibling, parent)
        known = self[pid] if pid in self._members else self._add(pid, parent, at, pidfd)
        if pidfd >= 0 and pidfd != known.pidfd:
            os.close(pidfd)
        if made == "exec" and (known.number or self._script_spoke):
            self._exec(known, at, _image(pid), _words(command))
        if known.number == 0:
            self._script_spoke = True

    def end(self, member: Member, code: int | None) -> None:
        """Record the end of `member`. code: as in `subprocess`, negative for a signal; None if it can't be known."""
        if member.ended:
            return
        member.ended, member.code = True, code
        self.count -= 1
        if member.pidfd >= 0:
            self._unwatch(member.pidfd)
            os.close(member.pidfd)
        self._last_words(member)
        self._report("exit", number=member.number, code=code, at=self._now())

    def reap(self) -> bool:
        """Collect the supervisor's own children that ended; return whether it has any left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid in self._members:
                self.end(self._members[pid], os.waitstatus_to_exitcode(status))

    def exit_code(self, member: Member) -> int | None:
        """The exit code of a member that has ended, as its pidfd says, and that another process waits for."""
        try:
            fields = stat_fields(member.pid)
            if fields[0] == "Z":
                return os.waitstatus_to_exitcode(int(fields[49]))
        except _GONE:
            pass
        return _code_by_pidfd(member.pidfd)

    def _add(self, pid: int, parent: int = 0, at: float = 0.0, pidfd: int = -1) -> Member:
        made = at or self._now()
        try:
            pidfd = pidfd if pidfd >= 0 else os.pidfd_open(pid)
        except ProcessLookupError:
            pidfd = -1
        member = Member(len(self._all), pid, _start_time(pid), pidfd, _image(pid))
        member.traced = self._is_tracer(pid)
        parent = parent or _parent(pid)
        member.command = self._command_of(member, parent)
        self._all.append(member)
        self._members[pid] = member
        self.count += 1
        self._report(
            "process",
            number=member.number,
            pid=pid,
            start=member.start,
            parent=self.number_of(parent),
            at=made,
            command=member.command,
        )
        if member.number and parent != os.getpid() and member.image not in (0, _image(parent)):
            self._exec(member, made, member.image)
        if pidfd >= 0:
            self._watch(pidfd, member)
        else:
            self.end(member, None)
        return member

    def _command_of(self, member: Member, parent: int) -> list[str]:
        """Its command; after a fork, its parent's, because a forking parent's memory is locked and a read waits."""
        maker = self._members.get(parent)
        return maker.command if maker and member.image == maker.image else _command(member.pid)

    def _look_for_exec(self, member: Member) -> None:
        image = _image(member.pid)
        if member.traced:
            member.traced = self._is_tracer(member.pid)
            member.image = image
        elif image and (image != member.image or member.unnamed):
            self._exec(member, self._now(), image)

    def _is_tracer(self, pid: int) -> bool:
        """Whether it is the cell's strace. Without --strace, a process of that name is like any other."""
        return self._traced and _comm(pid) == b"strace\n"

    def _exec(self, member: Member, at: float, image: int, told: list[str] | None = None) -> None:
        """Report that it has become another program; or report the same again, with details that were missing."""
        again = bool(member.became) and image in (0, member.became[-1])
        if not again:
            member.became.append(image)
        member.image = image or member.image
        found = _command(member.pid)
        member.command = found if any(found) else told or found
        member.unnamed = not any(member.command)
        self._report("exec", number=member.number, at=at, command=member.command, again=again)


def _code_by_pidfd(pidfd: int) -> int | None:
    """The exit code of a process that was waited for: Linux 6.15 and later keep it with the pidfd."""
    asked = struct.pack("<Q56x", _PIDFD_INFO_EXIT)
    try:
        told = fcntl.ioctl(pidfd, _PIDFD_GET_INFO, asked)
    except OSError:
        return None
    mask, code = struct.unpack("<Q52xi", told)
    return os.waitstatus_to_exitcode(code) if mask & _PIDFD_INFO_EXIT else None


def _start_time(pid: int) -> int:
    """The start time in ticks since boot; 0 if it has ended and was waited for."""
    try:
        return int(stat_fields(pid)[19])
    except _GONE:
        return 0


def _parent(pid: int) -> int:
    try:
        return int(stat_fields(pid)[1])
    except _GONE:
        return 0


def _image(pid: int) -> int:
    """The start of its stack (proc(5), startstack): fork copies it, exec chooses a new one. 0 if it can't be told."""
    try:
        return int(stat_fields(pid)[25])
    except _GONE:
        return 0


def _command(pid: int) -> list[str]:
    """Its command line; no word, or an empty one, if it has ended."""
    try:
        return _words(Path(f"/proc/{pid}/cmdline").read_bytes())
    except _GONE:
        return []


def _words(command: bytes) -> list[str]:
    return command.rstrip(b"\0").decode("utf-8", "replace").split("\0")


def _comm(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/comm").read_bytes()
    except _GONE:
        return b""

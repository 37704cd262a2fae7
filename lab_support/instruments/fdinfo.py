"""One process by /proc/PID/fdinfo, fd and maps: descriptor flags, members of epoll sets, shared memory.

Functions read one process and compare nothing; `xray/read.py` puts processes together. They return None or nothing for
a process or a descriptor that is gone, and raise PermissionError for another user's process. Linux only.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lab_support.instruments.foreign_text import read_text, visible, visible_bytes
from lab_support.instruments.proc import PROC

READ, WRITE, READ_AND_WRITE, PATH_ONLY = "read", "write", "read and write", "path only"

_GONE = (FileNotFoundError, ProcessLookupError)
_ACCESS = (READ, WRITE, READ_AND_WRITE, PATH_ONLY)
_EPOLLEXCLUSIVE = 1 << 28
_FLAGS = re.compile(r"^flags:\s+([0-7]+)", re.MULTILINE)
_EVENTFD = re.compile(r"^eventfd-id:\s*(\d+)", re.MULTILINE)
_EPOLL_MEMBER = re.compile(r"^tfd:\s+(\d+) events:\s+([0-9a-f]+) .*?(?:ino:([0-9a-f]+))?(?: sdev:\S+)?$", re.MULTILINE)
_MAPPING = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) (.)(.)(.)(.) [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Watched:
    """A descriptor that an epoll set watches. number: under which it was added; inode: of its object, 0 if unknown.

    exclusive: added with EPOLLEXCLUSIVE, so the kernel wakes one of the waiting sets, not all.
    """

    number: int
    exclusive: bool
    inode: int


@dataclass(frozen=True, slots=True)
class DescriptorInfo:
    """One descriptor. flags: those of open(2). inheritable: stays open across execve.

    watched: members, if it is an epoll set. eventfd_id: the kernel's own number for an eventfd, else None.
    """

    flags: int
    watched: tuple[Watched, ...]
    eventfd_id: int | None

    @property
    def access(self) -> str:
        return _ACCESS[self.flags & os.O_ACCMODE]

    @property
    def inheritable(self) -> bool:
        return not self.flags & os.O_CLOEXEC

    @property
    def nonblocking(self) -> bool:
        return bool(self.flags & os.O_NONBLOCK)


@dataclass(frozen=True, slots=True)
class SharedMapping:
    """Pages mapped with MAP_SHARED: all processes that map the same file or memory see writes. size in bytes."""

    path: str
    device: tuple[int, int]
    inode: int
    writable: bool
    size: int


def read_fdinfo(pid: int, number: int) -> DescriptorInfo | None:
    """Descriptor `number` of process `pid`."""
    try:
        text = read_text(f"{PROC}/{pid}/fdinfo/{number}")
    except _GONE:
        return None
    flags = _FLAGS.search(text)
    eventfd = _EVENTFD.search(text) if "eventfd-id:" in text else None  # an X-ray reads hundreds, and few are either
    return DescriptorInfo(
        flags=int(flags[1], 8) if flags else 0,
        watched=tuple(_watched(text)) if "tfd:" in text else (),
        eventfd_id=int(eventfd[1]) if eventfd else None,
    )


def _watched(text: str) -> Iterator[Watched]:
    for number, events, inode in _EPOLL_MEMBER.findall(text):
        yield Watched(int(number), bool(int(events, 16) & _EPOLLEXCLUSIVE), int(inode or "0", 16))


def link_of(pid: int, number: int) -> str | None:
    """The target of a descriptor, as /proc names it: `socket:[1234]`, `anon_inode:[eventpoll]`, a path, escaped."""
    try:
        return visible_bytes(os.readlink(f"{PROC}/{pid}/fd/{number}".encode()))
    except _GONE:
        return None


def status_of(pid: int, number: int) -> os.stat_result | None:
    """stat(2) of the object behind a descriptor, even of a deleted file."""
    try:
        return os.stat(f"{PROC}/{pid}/fd/{number}")
    except _GONE:
        return None


def socket_protocol(pid: int, number: int) -> str:
    """Such as "TCP" or "UNIX-STREAM", even if the socket is neither bound nor connected; "" if it is no socket."""
    try:
        return os.getxattr(f"{PROC}/{pid}/fd/{number}", "system.sockprotoname").rstrip(b"\0").decode()
    except OSError:
        return ""


def shared_mappings(pid: int) -> list[SharedMapping]:
    """Mappings made with MAP_SHARED, of memory and files: one entry for each file, with the sum of its pages."""
    try:
        text = read_text(PROC / str(pid) / "maps")
    except _GONE:
        return []
    found: dict[tuple[tuple[int, int], int], SharedMapping] = {}
    for start, end, _, write, _, shared, major, minor, inode, path in _MAPPING.findall(text):
        if shared != "s" or inode == "0" or path.startswith("anon_inode:"):
            continue
        key = (int(major, 16), int(minor, 16)), int(inode)
        before = found.get(key)
        size = int(end, 16) - int(start, 16) + (before.size if before else 0)
        # The kernel escapes a line feed in a path as \\012 here, but not in the link of a descriptor: proc(5).
        path = visible(path.replace("\\012", "\n"))
        found[key] = SharedMapping(path, *key, write == "w" or bool(before and before.writable), size)
    return list(found.values())

"""Messages that carry descriptors, counted by a Python audit hook: it sees each sendmsg and needs no privilege.

It sees calls by Python code in this process; it misses C code and children. The event does not show what a message
carries; the caller does, if it is one of Python's own senders (`multiprocessing.reduction.sendfds`,
`socket.send_fds`): its argument `fds` has the descriptors. `strace.py` shows the rest, if strace is installed.
"""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SENDERS = {("multiprocessing.reduction", "sendfds"), ("socket", "send_fds")}


@dataclass(frozen=True, slots=True)
class UnixSend:
    """One sendmsg on a Unix socket: the only call that can carry a descriptor. caller: module and function."""

    caller: str
    carries_descriptors: bool | None
    """True for Python's own senders of descriptors; None for others, because the event does not tell."""
    files: tuple[tuple[int, int], ...] = ()
    """The file behind each descriptor in the message, in order: its device and inode. Empty for other callers."""

    def carries(self, descriptor: int) -> bool:
        """Whether the message leads to the same file as this process's `descriptor`, also by a duplicate of it."""
        return _file(descriptor) in self.files


@contextmanager
def unix_sends() -> Iterator[list[UnixSend]]:
    """A list to which each sendmsg of this process on a Unix socket is added, until the `with` ends.

    An audit hook can't be removed: each use leaves one that does nothing for the rest of the process's life.
    """
    sends: list[UnixSend] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "socket.sendmsg" and _is_unix(arguments[0]):
            sends.append(_unix_send(sys._getframe(1)))

    sys.addaudithook(hook)
    try:
        yield sends
    finally:
        watching = False


def _is_unix(sender: object) -> bool:
    return getattr(sender, "family", None) == socket.AF_UNIX


def _unix_send(caller: FrameType) -> UnixSend:
    module, function = caller.f_globals.get("__name__", "?"), caller.f_code.co_name
    name = f"{module}.{function}"
    if (module, function) not in _SENDERS:
        return UnixSend(name, None)
    return UnixSend(name, True, tuple(map(_file, caller.f_locals["fds"])))


def _file(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino

"""Signals of the launcher: which it handles, which it leaves as they were, and what its children do with them.

A terminal sends SIGINT and SIGHUP to its whole foreground process group, and `kill -- -PGID` sends any signal to one.
Only the launcher acts on them, and stops its children in order. The children ignore these signals, and block them until
they do: a signal mask is inherited over fork(2) and execve(2), so at no moment can one end a half-made child.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Self

TO_THE_GROUP = frozenset({signal.SIGINT, signal.SIGHUP, signal.SIGUSR1})
PR_GET_CHILD_SUBREAPER = 37  # <linux/prctl.h>


class Signals:
    """The signals that the launcher handles. A handler only records: the number goes into a pipe that is waited on.

    A signal that was ignored before stays ignored, as nohup and a shell's `&` expect; but SIGTERM always ends a server.
    SIGCHLD is handled only if orphans become children of the launcher. Made by the launcher's main thread; a context
    manager that restores the former handlers.
    """

    TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    MAY_STAY_IGNORED = (signal.SIGINT, signal.SIGHUP)

    def __enter__(self) -> Self:
        self.read, self._write = os.pipe()  # it holds 65,536 numbers: pipe(7)
        os.set_blocking(self._write, False)
        self._former_wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, _record) for number in self._to_take()}
        return self

    def _to_take(self) -> Iterator[signal.Signals]:
        for number in self.TAKEN:
            if number not in self.MAY_STAY_IGNORED or signal.getsignal(number) != signal.SIG_IGN:
                yield number
        if adopts_orphans():
            yield signal.SIGCHLD

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._former_wakeup)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self.close()

    def close(self) -> None:
        os.close(self.read)
        os.close(self._write)

    def hears(self, number: int) -> bool:
        return number in self._former

    def take(self) -> int:
        """The number of the next signal. Reads one at a time, because a second one has a meaning of its own."""
        return os.read(self.read, 1)[0]


def _record(number: int, frame: FrameType | None) -> None:
    """Do nothing: `signal.set_wakeup_fd` has already written the number, which it does only if there is a handler."""


def end_by_ctrl_c_without_a_word() -> None:
    """Let SIGINT end the process silently until there is a handler: Python's own prints a traceback. If it is ignored,
    it stays ignored."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def blocked(numbers: Iterable[int]) -> Iterator[None]:
    """Block these signals; they are delivered afterwards. A child made meanwhile inherits the mask."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def leave_to_the_launcher() -> None:
    """Ignore signals sent to the whole group, and unblock all. Called in a child before it does anything else."""
    for number in TO_THE_GROUP:
        signal.signal(number, signal.SIG_IGN)
    # A SIGTERM before the child has a handler of its own ends it at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*TO_THE_GROUP, signal.SIGTERM})


def adopts_orphans() -> bool:
    """Does the kernel make orphans children of this process: as PID 1 of a container, or as a subreaper (prctl(2))?"""
    if os.getpid() == 1 or sys.platform != "linux":
        return os.getpid() == 1
    answer = ctypes.c_int(0)
    ctypes.CDLL(None, use_errno=True).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)

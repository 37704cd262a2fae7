"""Signals of the launcher: which it takes, which it leaves as they were, and what its children do with them.

A terminal sends SIGINT and SIGHUP to its whole foreground process group, and `kill -- -PGID` any signal. Only the
launcher acts on them, and asks its children in order. They ignore these signals, and until they do, they block them:
a signal mask is inherited over fork(2) and execve(2), so there is no moment in which one ends a half-made child.
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
    """The signals that the launcher hears. A handler only records: the number goes into a pipe that is waited on.

    One that was ignored before stays ignored, as nohup and a shell's `&` want it; but SIGTERM always ends a server.
    Where orphans come to the launcher, SIGCHLD is heard too. Made by the launcher's main thread; a context manager
    that gives the former handlers back.
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
        """The number of the next signal. One at a time: a second one has a meaning of its own."""
        return os.read(self.read, 1)[0]


def _record(number: int, frame: FrameType | None) -> None:
    """Nothing: `signal.set_wakeup_fd` has already written the number. Without a handler it would not."""


def end_by_ctrl_c_without_a_word() -> None:
    """Until there is a handler: Python's own answer to SIGINT is a traceback. Ignored, it stays ignored."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def blocked(numbers: Iterable[int]) -> Iterator[None]:
    """What comes meanwhile is delivered afterwards. Whoever is made meanwhile inherits the mask."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def leave_to_the_launcher() -> None:
    """In a child, before it does anything else: ignore what is sent to the whole group. Then nothing is blocked."""
    for number in TO_THE_GROUP:
        signal.signal(number, signal.SIG_IGN)
    # One that comes before a child is ready to hear it ends the child at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*TO_THE_GROUP, signal.SIGTERM})


def adopts_orphans() -> bool:
    """Does the kernel make orphans this process's children? As PID 1, in a container, or as a subreaper: prctl(2)."""
    if os.getpid() == 1 or sys.platform != "linux":
        return os.getpid() == 1
    answer = ctypes.c_int(0)
    ctypes.CDLL(None, use_errno=True).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)

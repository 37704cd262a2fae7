"""Life and death: every process that we start ends with the one that started it, and every end has an exit code.

Two mechanisms, because each alone misses a case:

- **EOF on a pipe.** The launcher holds the only write end and never writes. However the launcher ends, the kernel
  closes that end, and a thread of each child reads EOF. But a child that is stopped, or in C code that keeps the GIL,
  never runs that thread.
- **The parent-death signal** (prctl(2), PR_SET_PDEATHSIG). The kernel itself sends SIGKILL, so a stopped child dies
  too. But it is sent at the end of the *thread* that made the child, and not at all if that thread ended before the
  child asked for it. So the launcher's main thread makes the children, and a child checks the pipe right after asking.
"""

import ctypes
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import NoReturn, Self

from lab_support.boundary.passed_descriptor import PassedDescriptor
from lab_support.signal_names import signal_name

log = logging.getLogger("lab.lifeline")

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class ExitCode(IntEnum):
    """The exit codes of our processes. Any other is a crash or a signal.

    The launcher starts another API server after every end that it did not ask for. If none serves, REFUSED is final,
    because the next one would be refused too. Before the server is ready, every end is final.
    """

    STOPPED = 0  # it was asked to stop, and did
    FAILED = 1  # it, or a process that it needs, broke
    REFUSED = 2  # it can't run as asked: a flag, the port, the model folder, the device
    LAUNCHER_GONE = 3  # the launcher ended first


class ServerMustEnd(Exception):
    """The server has to end. `code` is the launcher's exit code; the text says why."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def describe_exit(code: int) -> str:
    """`multiprocessing`'s exit code in words: a negative one is the number of a signal."""
    if code == -signal.SIGBUS:
        return (
            "was killed by SIGBUS: a file that it has mapped lacks room (is the disk full, or was the file truncated?)"
        )
    if code < 0:
        return f"was killed by {signal_name(code)}"
    return f"exited with code {code} ({ExitCode(code).name})" if code in set(ExitCode) else f"exited with code {code}"


def open_pidfd(pid: int) -> int | None:
    """A descriptor that always means this process, even after its pid is reused. None if there can't be one."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux; no descriptor free; it has ended and been waited for
        return None


@dataclass(frozen=True)
class ReadEnd:
    """The end of the pipe that a child holds. It travels as a descriptor, in an argument of `Process`."""

    descriptor: PassedDescriptor

    def at_eof(self) -> bool:
        """Has the launcher ended? Never waits."""
        looking = select.poll()  # select(2) can't handle a descriptor above 1023
        looking.register(self.descriptor, select.POLLIN)
        return bool(looking.poll(0))


class Lifeline:
    """The pipe, in the launcher. A context manager; leaving it tells every child that still runs to die."""

    def __init__(self) -> None:
        read, self._write = os.pipe()
        self.read_end = ReadEnd(PassedDescriptor(read))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.close_write_end()
        os.close(self.read_end.descriptor)

    def close_write_end(self) -> None:
        """Call this in a child made by fork: with its copy open, neither it nor any other child would ever see EOF."""
        os.close(self._write)


def hold(read_end: ReadEnd, clean_up: Callable[[], None]) -> None:
    """Tie this child's life to the launcher's. Called before anything heavy is imported.

    `clean_up` runs in the lifeline's thread once the launcher is gone, before this process exits. The kernel's
    signal may end the process first; then the next server's start cleans up.
    """
    _ask_for_parent_death_signal()
    if read_end.at_eof():  # the launcher ended before the signal was asked for
        end_process(ExitCode.LAUNCHER_GONE, clean_up)
    threading.Thread(target=_wait_for_eof, args=(read_end, clean_up), name="lifeline", daemon=True).start()


def _wait_for_eof(read_end: ReadEnd, clean_up: Callable[[], None]) -> None:
    try:
        os.read(read_end.descriptor, 1)  # returns only at EOF: nobody ever writes
    finally:
        end_process(ExitCode.LAUNCHER_GONE, clean_up)


def end_process(code: int, last_act: Callable[[], object] = lambda: None) -> NoReturn:
    """Exit at once, without the interpreter's shutdown, even if `last_act` fails: it may find no memory."""
    try:
        last_act()
    finally:
        os._exit(code)


def vital(work: Callable[[], None]) -> Callable[[], None]:
    """Wrap a thread's work so that its failure ends the process, which would otherwise look alive and answer nobody.

    `threading.excepthook` alone won't do: Python makes the hook's argument first, and without memory it never calls
    the hook.
    """

    def run() -> None:
        try:
            work()
        except BaseException as error:  # whatever it is, the process must not outlive this thread
            name = threading.current_thread().name
            end_process(ExitCode.FAILED, partial(log.critical, "thread %s failed", name, exc_info=error))

    return run


def _ask_for_parent_death_signal() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

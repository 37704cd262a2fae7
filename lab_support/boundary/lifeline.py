"""Life and death: how every process that we start ends with the one that started it, and how an end is named.

Two ropes, because each alone lets somebody hang:

- **EOF on a pipe.** The launcher holds the only write end and writes nothing, ever. However the launcher ends, the
  kernel closes the end, and a thread of each child reads EOF. A child that is stopped, or in C code that keeps the
  GIL, never runs that thread.
- **The parent-death signal** (prctl(2), PR_SET_PDEATHSIG). The kernel itself sends SIGKILL, so a stopped child dies
  too. But it fires at the end of the *thread* that made the child, and not at all where that had ended before the
  child asked. So: children are made by the launcher's main thread, and a child looks at the pipe right after asking.
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
    """What a process of ours says with its last breath. Everything else is a crash or a signal.

    For the launcher, every end of an API server that it did not ask for is a reason to start another. Where none
    serves, REFUSED is final, because whoever follows would be refused too. Before the server is ready every end is.
    """

    STOPPED = 0  # it was asked to stop, and did
    FAILED = 1  # it, or a process that it needs, broke
    REFUSED = 2  # what was asked for cannot be done: a flag, the port, the model folder, the device
    LAUNCHER_GONE = 3  # the launcher ended first


class ServerMustEnd(Exception):
    """The server has to end. `code` is what the launcher will exit with; the text says why."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def describe_exit(code: int) -> str:
    """`multiprocessing`'s exit code in words: a negative one is the number of a signal."""
    if code == -signal.SIGBUS:
        return "was killed by SIGBUS: a file that it has mapped lost its room (is the disk full, or was the file cut?)"
    if code < 0:
        return f"was killed by {signal_name(code)}"
    return f"exited with code {code} ({ExitCode(code).name})" if code in set(ExitCode) else f"exited with code {code}"


def open_pidfd(pid: int) -> int | None:
    """A descriptor that means this process for ever, whoever gets its number later. None where it can't be had."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux; no descriptor free; it has ended and been waited for
        return None


@dataclass(frozen=True)
class ReadEnd:
    """The end of the pipe that a child holds. Travels as an argument of `Process`: as a descriptor, that is."""

    descriptor: PassedDescriptor

    def at_eof(self) -> bool:
        """Has the launcher ended? Never waits."""
        looking = select.poll()  # select(2) knows descriptors below 1,024 only
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
        """In a child made by fork: its copy would keep itself and every other child waiting for EOF for ever."""
        os.close(self._write)


def hold(read_end: ReadEnd, clean_up: Callable[[], None]) -> None:
    """In a child, before anything heavy is imported: tie its life to the launcher's.

    `clean_up` runs in the lifeline's thread once the launcher is gone, before this process exits. The kernel's
    signal may end the process first; then the next start sweeps.
    """
    _ask_for_parent_death_signal()
    if read_end.at_eof():  # the launcher ended before the kernel knew that we want to hear of it
        end_process(ExitCode.LAUNCHER_GONE, clean_up)
    threading.Thread(target=_wait_for_eof, args=(read_end, clean_up), name="lifeline", daemon=True).start()


def _wait_for_eof(read_end: ReadEnd, clean_up: Callable[[], None]) -> None:
    try:
        os.read(read_end.descriptor, 1)  # returns only at EOF: nobody ever writes
    finally:
        end_process(ExitCode.LAUNCHER_GONE, clean_up)


def end_process(code: int, last_act: Callable[[], object] = lambda: None) -> NoReturn:
    """End at once, without the interpreter's farewell, whatever becomes of the last act: it may find no memory."""
    try:
        last_act()
    finally:
        os._exit(code)


def vital(work: Callable[[], None]) -> Callable[[], None]:
    """A thread's work without which its process would look alive and answer nobody: its failure ends the process.

    `threading.excepthook` alone won't do. Python makes the hook's argument first, and without memory it never calls
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

"""All processes below this one: counted, and ended without exception."""

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lab_support.instruments import proc

PR_SET_CHILD_SUBREAPER = 36
INTERRUPTED = 130
"""The exit code after Ctrl-C or SIGTERM, as a shell has it."""


@contextmanager
def nothing_left() -> Iterator[None]:
    """Nothing that is started in this context outlives it, whatever ends it: Ctrl-C, SIGTERM, SIGHUP or an error.

    Processes whose parents end become children of this one meanwhile, prctl(2), so that a server's daemons are found.
    For the main thread of a process that has no other children.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        kill_all()


def kill_all() -> None:
    """SIGKILL until no process is below this one. When it returns, all have been waited for."""
    looks = 2  # without any: one look may miss a process that gets another parent meanwhile
    while looks:
        found = [each for each in proc.process_tree(os.getpid())[1:] if not each.ended]
        looks = 2 if found else looks - 1
        for each in found:
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
        _reap()
        time.sleep(0.01 if found else 0)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass

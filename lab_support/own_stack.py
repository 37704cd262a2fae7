"""The stack of a process that does not answer: it writes it itself, when the launcher asks with a signal.

faulthandler's signal handler is C code, so it also runs while Python code holds the GIL for ever, and it needs no
memory. It writes into a memfd, which has no name in the file system; the launcher reads it through /proc/PID/fd. A
process that is stopped, or in an uninterruptible call, can't run even that.
"""

import faulthandler
import os
import signal
from contextlib import suppress
from pathlib import Path

ASK = signal.SIGUSR2
_NAME = "lab-stack"


def write_when_asked() -> None:
    """Called in a child, once; from then on `ASK` makes it write the stacks of all its threads."""
    if hasattr(os, "memfd_create"):
        faulthandler.register(ASK, file=os.memfd_create(_NAME), all_threads=True)


def can_be_asked(pid: int) -> bool:
    """Does this process write its stacks on `ASK`? To any other process that signal would be deadly."""
    return _memory(pid) is not None


def written(pid: int) -> str:
    """What it has written so far; "" if nothing, or if it is gone."""
    memory = _memory(pid)
    if memory is None:
        return ""
    try:
        return memory.read_text(errors="replace")
    except OSError:
        return ""


def _memory(pid: int) -> Path | None:
    with suppress(OSError):  # it has ended, or is another user's
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(descriptor).startswith(f"/memfd:{_NAME}"):
                    return descriptor
    return None

"""The processes below a process: found, stopped so that none can fork, killed and waited for. Standard library only.

Runs in supervisors, which import it as a neighbour, and in the kernel.
"""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol


class Named(Protocol):
    """The names that processes have made in shared memory: `named_memory.py`."""

    def look(self, pids: Iterable[int]) -> None:
        """Remember the names that `pids` hold."""

    def remove(self) -> None:
        """Remove the names, when none of the processes runs any more."""


def kill_descendants(named: Named | None = None) -> None:
    """SIGKILL to all descendants of this process, adopted ones too; when it returns, all have been waited for.

    They are stopped first, because running ones may fork faster than they can be killed. A process that this user may
    not kill (it runs as another user) is left. named: their names in shared memory, which are removed, too.
    """
    refused: set[int] = set()
    stop_descendants(refused)
    if named:
        named.look(descendants(os.getpid()))
    _kill_and_wait(refused)
    if named:
        named.remove()


def kill_family(root: int) -> None:
    """SIGKILL to `root` and all its descendants, without waiting for the descendants. Runs in the kernel."""
    _send(root, signal.SIGSTOP, set())
    kill_below(root)
    _send(root, signal.SIGKILL, set())


def kill_below(root: int) -> None:
    """SIGKILL to all descendants of `root`, but not to `root`. Runs in the kernel, which can't wait for them."""
    refused: set[int] = set()
    stop_descendants(refused, root)
    for pid in list(descendants(root)):  # listed first: the children of one that is killed belong to another parent
        _send(pid, signal.SIGKILL, refused)


def _kill_and_wait(refused: set[int]) -> None:
    while True:
        for pid in descendants(os.getpid()):
            _send(pid, signal.SIGKILL, refused)
        try:
            if set(children(os.getpid())) <= refused:
                return
            os.waitpid(-1, 0)
            while os.waitpid(-1, os.WNOHANG)[0]:  # the many processes of a fork bomb end together
                pass
        except ChildProcessError:
            return


def stop_descendants(refused: set[int], root: int = 0) -> None:
    """SIGSTOP to all descendants of `root`, by default this process; when it returns, none of them can fork.

    See `kill_descendants`.
    """
    root = root or os.getpid()
    stopped: set[int] = set()
    groups = {os.getpgrp()}
    count = -1
    while count < len(stopped):
        count = len(stopped)
        for pid in descendants(root):
            if pid not in stopped:
                stopped.add(pid)
                _stop_group(pid, groups)
                _send(pid, signal.SIGSTOP, refused)


def _stop_group(pid: int, known: set[int]) -> None:
    """Stop the whole process group of `pid` at once: a fork under way is either stopped with it or restarts: fork(2).

    A group in another session than this process's has only descendants in it: setpgid(2).
    """
    with suppress(ProcessLookupError, PermissionError):
        group = os.getpgid(pid)
        if group not in known and os.getsid(pid) != os.getsid(0):
            known.add(group)
            os.killpg(group, signal.SIGSTOP)


def _send(pid: int, number: int, refused: set[int]) -> None:
    try:
        os.kill(pid, number)
    except PermissionError:
        refused.add(pid)
    except ProcessLookupError:
        pass


def descendants(pid: int) -> Iterator[int]:
    """All descendants of `pid`, parents before their children."""
    waiting = children(pid)
    while waiting:
        child = waiting.pop()
        yield child
        waiting += children(child)


def children(pid: int) -> list[int]:
    """The children of `pid`, oldest first; none if it has ended."""
    if not _CHILDREN.exists():
        return _children_by_search(pid)
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


_CHILDREN = Path("/proc/thread-self/children")
"""Kernels built without CONFIG_PROC_CHILDREN lack it."""


def _children_by_search(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if name.isdigit() and stat_fields(int(name))[1] == str(parent):
                found.append(int(name))
    return sorted(found)


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from the state on: [0] state, [1] parent, [19] start time in ticks, [49] exit status."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()  # a name may be any bytes

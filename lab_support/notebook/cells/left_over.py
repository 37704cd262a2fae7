"""Finds processes of cells by their environment, and ends those that nobody watches any more.

Runs in the kernel. A process that has cleared its environment is not found, nor is another user's.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

from lab_support.instruments.proc import Identity
from lab_support.notebook.cells.descendants import stat_fields

_MARK = b"LAB_CELL="
_SUPERVISOR = b"cell_supervisor.py"
_done: list[int] = []
"""Pids under which this process has looked: a kernel looks once, and so does a process forked from it."""


def marked(folder: Path) -> list[Identity]:
    """The processes of the cell with this folder that still run."""
    return [identity for identity, of in _of_cells() if of == os.fsencode(folder)]


def end_what_nobody_watches() -> list[Identity]:
    """End processes of cells whose kernel, supervisor and guard were all killed at once; return these processes.

    Runs once in each kernel, before its first cell. A cell is watched if a supervisor or a guard has the cell's folder
    in its command line; if that was stopped, it is continued, and finishes its work.
    """
    if os.getpid() in _done:
        return []
    _done.append(os.getpid())
    found = _of_cells()
    watchers = [pid for pid in _all_pids() if found and _is_watcher(pid)]
    watched = {word for pid in watchers for word in _words(pid, "cmdline")}
    left = [identity for identity, folder in found if folder not in watched]
    _send(signal.SIGCONT, watchers)
    _send(signal.SIGKILL, [identity.pid for identity in left])
    return left


def _is_watcher(pid: int) -> bool:
    return any(_SUPERVISOR in word for word in _words(pid, "cmdline"))


def _send(number: int, pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _of_cells() -> list[tuple[Identity, bytes]]:
    """All processes of this user's cells, with the folder of each one's cell."""
    found = []
    for pid in _all_pids():
        folders = [word.removeprefix(_MARK) for word in _words(pid, "environ") if word.startswith(_MARK)]
        if folders and (identity := _identity(pid)):
            found.append((identity, folders[0]))
    return found


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _identity(pid: int) -> Identity | None:
    """The process's identity; None if it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = stat_fields(pid)
        if fields[0] not in "ZX":
            return Identity(pid, int(fields[19]))
    return None


def _words(pid: int, name: str) -> list[bytes]:
    """The words of /proc/PID/environ or cmdline; none if it has ended, or is another user's."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    return []

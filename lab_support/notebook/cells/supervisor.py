"""Runs one command that must not outlive a notebook's kernel: stops it when the kernel says so, or is gone.

`python -S -E supervisor.py KERNEL_PID GRACE FOLDER READY_FD COMMAND…`. Standard library only, so that it
starts in milliseconds. stdin is the lifeline: a byte or its end means stop. A pidfd of the kernel stands
behind it, because a process that the kernel forked may hold the lifeline's other end open.

It is two processes, so that whichever is killed, the other remains to clear up. The outer one, the guard, does
nothing but wait. The inner one, the supervisor, starts the command. Both are subreapers: whatever the command
leaves behind becomes the supervisor's child, and the guard's if the supervisor is gone, and is killed.

What is promised of a command and of all that descends from it, where this user may kill it:

- It ends when the kernel says so or is gone, however it ends, and when the supervisor or the guard is killed.
- One of the two that is stopped (SIGSTOP) is continued: the supervisor by the guard, the guard by the supervisor, and
  both together by the kernel. Where a cell stops them again and again, the kernel kills the cell's processes first and
  continues both then; where that does not help either, it kills them, too. It waits no longer than 15 s beyond a
  cell's deadline, or beyond an interrupt.
- What a cell printed is shown. One that kills its supervisor may lose what it printed in the moment before.
- Where supervisor and guard are killed, the kernel ends a cell's processes: those it was told of, and those that have
  the cell's name in their environment. One that it was not told of, and that has cleared its environment, goes on.
- Where kernel, supervisor and guard are killed at one stroke, nobody is left to act but Linux, which kills the command
  itself (PR_SET_PDEATHSIG; its children do not inherit that). What a cell had forked goes on until the next notebook
  of this user runs its first cell, which ends it by its environment. Only a PID namespace would end it at once, and
  in one a cell would see other pids than everybody else; a control group needs somebody alive to write `cgroup.kill`.
- What they had named in shared memory is removed, as far as `named_memory.py` can know it.

When the kernel was there to the end, the files in FOLDER are the kernel's to look at and to remove; when it
was not, they are removed here. It does not restart anything and reads no output; `cell_supervisor.py` does.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_WITHOUT_KERNEL = 2.0
"""Seconds from SIGTERM to SIGKILL when nobody is left to wait for an orderly end."""
_LOOK = 1.0  # seconds between two looks of the guard whether its supervisor was stopped
PATIENCE = 0.5
"""Seconds for what is about to happen: a kernel's end after its lifeline's, a supervisor's after all it started."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Whose end means the end, as pidfds, in the supervisor."""

    kernel: int
    guard: int


class Named(Protocol):
    """What processes have named in shared memory: `named_memory.py`."""

    def look(self, pids: Iterable[int]) -> None:
        """Remember what `pids` hold."""

    def remove(self) -> None:
        """Remove it, when none of them runs any more."""


def main(words: list[str]) -> int:
    """Returns the command's exit code; 128 + N if signal N ended it. Nothing that it started runs then."""
    kernel_pid, grace, folder, ready_fd, *command = words
    return guarded(int(kernel_pid), folder, lambda watched: _run(command, int(ready_fd), watched, float(grace)))


# ---- the guard -------------------------------------------------------------------------------------------------------


def guarded(kernel_pid: int, folder: str, work: Callable[[Watched], int], named: Named | None = None) -> int:
    """Fork; do `work` in the child, the supervisor, and wait for it in the parent, the guard. Both return its code."""
    ignore_signals()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        kernel = os.pidfd_open(kernel_pid)
    except ProcessLookupError:
        return 0
    if os.getppid() != kernel_pid:  # it ended, and the pid may be another's by now
        return 0
    guard = os.pidfd_open(os.getpid())
    supervisor = os.fork()
    if supervisor == 0:
        prctl(PR_SET_CHILD_SUBREAPER, 1)  # fork does not pass it on: prctl(2)
        code = work(Watched(kernel, guard))
        _clear_up(kernel, folder, named)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(guard, signal.SIGCONT)
        return code
    os.close(guard)
    return _stand_guard(supervisor, kernel, folder, named)


def _stand_guard(supervisor: int, kernel: int, folder: str, named: Named | None) -> int:
    _close_all_but(kernel)
    ended = os.pidfd_open(supervisor)
    if not _await_end(supervisor, ended, kernel):
        wait_for(ended, GRACE_WITHOUT_KERNEL + PATIENCE)
        os.kill(supervisor, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(supervisor, 0)[1])
    _clear_up(kernel, folder, named)
    return code if code >= 0 else 128 - code


def _await_end(supervisor: int, ended: int, kernel: int) -> bool:
    """Wait for the supervisor's end, and continue it when it was stopped; False if the kernel has ended instead."""
    was_stopped = False
    while True:
        if readable := select.select([ended, kernel], [], [], _LOOK)[0]:
            return ended in readable
        is_stopped = stat_fields(supervisor)[0] == "T"
        if was_stopped and is_stopped:  # for a second: one who lets it go on in a moment is not in a hurry
            os.kill(supervisor, signal.SIGCONT)
        was_stopped = is_stopped


def _close_all_but(kept: int) -> None:
    """The lifeline, the ready pipe and the report are the supervisor's: a second holder would hide their end."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _clear_up(kernel: int, folder: str, named: Named | None) -> None:
    kill_descendants(named)
    if wait_for(kernel, 0):
        shutil.rmtree(folder, ignore_errors=True)


def ignore_signals() -> None:
    """Only the lifeline ends a supervisor: a stray Ctrl-C must not leave its command alone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def wait_for(descriptor: int, seconds: float) -> bool:
    """Whether `descriptor` becomes readable, which for a pidfd is the process's end."""
    return bool(select.select([descriptor], [], [], seconds)[0])


# ---- the command -----------------------------------------------------------------------------------------------------


def _run(command: list[str], ready_fd: int, watched: Watched, grace: float) -> int:
    child = _start(command, ready_fd)
    _watch(child, watched, grace)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def before_exec(supervisor: int, parent_death_signal: int) -> None:
    """In the child, between fork and exec: signals as they come, and a word from the kernel if the parent dies."""
    # An ignored signal stays ignored across exec: signal(7).
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    prctl(PR_SET_PDEATHSIG, parent_death_signal)
    if os.getppid() != supervisor:
        os._exit(1)


def _start(command: list[str], ready_fd: int) -> subprocess.Popen[bytes]:
    supervisor = os.getpid()
    passed = (ready_fd,) if ready_fd >= 0 else ()
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=passed,
        preexec_fn=lambda: before_exec(supervisor, signal.SIGTERM),
    )
    if ready_fd >= 0:
        os.close(ready_fd)  # so that its end shows when the command is gone
    return child


def _watch(child: subprocess.Popen[bytes], watched: Watched, grace: float) -> None:
    """Wait for the child to end, having asked it to when told so."""
    ended = os.pidfd_open(child.pid)
    readable = select.select([sys.stdin, watched.kernel, watched.guard, ended], [], [])[0]
    # A byte is a living kernel's wish. An end alone is a dead kernel's, whose pidfd may tell a moment later.
    lifeline_ended = sys.stdin in readable and os.read(sys.stdin.fileno(), 1) == b""
    if ended not in readable:
        child.terminate()
        alone = watched.kernel in readable or watched.guard in readable or lifeline_ended
        if not wait_for(ended, GRACE_WITHOUT_KERNEL if alone else grace):
            child.kill()
    child.wait()
    if lifeline_ended:
        wait_for(watched.kernel, PATIENCE)


# ---- the end of everything -------------------------------------------------------------------------------------------


def kill_descendants(named: Named | None = None) -> None:
    """SIGKILL to all that descend from this process, adopted ones too; when it returns all were waited for.

    They are stopped first, because who runs may fork faster than anybody can kill. One that this user may not
    kill (it runs as another user) is left. named: what they have named, which is removed, too.
    """
    refused: set[int] = set()
    stop_descendants(refused)
    if named:
        named.look(descendants(os.getpid()))
    _kill_and_wait(refused)
    if named:
        named.remove()


def kill_family(root: int) -> None:
    """SIGKILL to `root` and all that descend from it, which are not this process's to wait for. Runs in the kernel."""
    _send(root, signal.SIGSTOP, set())
    kill_below(root)
    _send(root, signal.SIGKILL, set())


def kill_below(root: int) -> None:
    """SIGKILL to all that descend from `root`, but not to `root`. Runs in the kernel, which can't wait for them."""
    refused: set[int] = set()
    stop_descendants(refused, root)
    for pid in descendants(root):
        _send(pid, signal.SIGKILL, refused)


def _kill_and_wait(refused: set[int]) -> None:
    while True:
        for pid in descendants(os.getpid()):
            _send(pid, signal.SIGKILL, refused)
        try:
            if set(children(os.getpid())) <= refused:
                return
            os.waitpid(-1, 0)
            while os.waitpid(-1, os.WNOHANG)[0]:  # the many of a fork bomb end together
                pass
        except ChildProcessError:
            return


def stop_descendants(refused: set[int], root: int = 0) -> None:
    """SIGSTOP to all that descend from `root`, by default this process; when it returns none of them can fork.

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
    """The process group of `pid` at one stroke: a fork under way is either stopped with it or begins anew: fork(2).

    A group in another session than this process's consists of descendants alone: setpgid(2).
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
    """All below `pid`, parents before their children."""
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
"""Kernels that were built without CONFIG_PROC_CHILDREN lack it."""


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


if __name__ == "__main__":
    # Not sys.exit: two processes come by here, and neither has anything to flush.
    os._exit(main(sys.argv[1:]))

"""Runs one command that must not outlive a notebook's kernel: stops it when the kernel says so, or is gone.

`python -S -E supervisor.py KERNEL_PID GRACE FOLDER READY_FD COMMAND…`. Standard library only, so that it
starts in milliseconds. stdin is the lifeline: a byte or its end means stop. A pidfd of the kernel backs
it up, because a process that the kernel forked may hold the lifeline's other end open.

It is two processes, so that if either is killed, the other remains to clean up. The outer one, the guard, only
waits. The inner one, the supervisor, starts the command. Both are subreapers: processes that the command
leaves behind become the supervisor's children, or the guard's if the supervisor is gone, and are killed.

Promises about a command and all its descendants, as far as this user may kill them:

- It ends when the kernel says so or is gone, however it ends, and when the supervisor or the guard is killed.
- If one of the two is stopped (SIGSTOP), it is continued: the supervisor by the guard, the guard by the supervisor, and
  both together by the kernel. If a cell stops them again and again, the kernel first kills the cell's processes, then
  continues both; if that does not help either, it kills them, too. It waits no longer than 15 s beyond a
  cell's deadline, or beyond an interrupt.
- A cell's output is shown. A cell that kills its supervisor may lose the output of the moment before.
- If supervisor and guard are killed, the kernel ends a cell's processes: those reported to it, and those that have
  the cell's name in their environment. A process that was not reported, and has cleared its environment, goes on.
- If kernel, supervisor and guard are all killed at once, nobody is left to act but Linux, which kills the command
  itself (PR_SET_PDEATHSIG; its children do not inherit that). A cell's forked processes go on until the next notebook
  of this user runs its first cell, which finds them by their environment and ends them. Only a PID namespace would end
  them at once, and in one a cell would see other pids than everybody else; a control group needs somebody alive to
  write `cgroup.kill`.
- Their names in shared memory are removed, as far as `named_memory.py` can know them.

If the kernel lives to the end, it reads and removes the files in FOLDER; if not, they are removed here.
It does not restart anything and reads no output; `cell_supervisor.py` reads it.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from descendants import Named, kill_descendants, stat_fields

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_WITHOUT_KERNEL = 2.0
"""Seconds from SIGTERM to SIGKILL if nobody is left to wait for an orderly end."""
_LOOK = 1.0  # seconds between two checks by the guard whether its supervisor was stopped
PATIENCE = 0.5
"""Seconds to wait for an end that follows another: a kernel's after its lifeline's, a supervisor's after its cell's."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Processes whose end ends the supervisor, as pidfds. Used in the supervisor."""

    kernel: int
    guard: int


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
    if os.getppid() != kernel_pid:  # it ended, and its pid may belong to another process by now
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
        if was_stopped and is_stopped:  # for a second: a shorter stop is left to the process that made it
            os.kill(supervisor, signal.SIGCONT)
        was_stopped = is_stopped


def _close_all_but(kept: int) -> None:
    """Close the lifeline, the ready pipe and the report in the guard, because a second holder would hide their end."""
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _clear_up(kernel: int, folder: str, named: Named | None) -> None:
    kill_descendants(named)
    if wait_for(kernel, 0):
        shutil.rmtree(folder, ignore_errors=True)


def ignore_signals() -> None:
    """Only the lifeline ends a supervisor: a stray Ctrl-C must not leave its command unsupervised."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def wait_for(descriptor: int, seconds: float) -> bool:
    """Whether `descriptor` becomes readable in time; a pidfd does so at the process's end."""
    return bool(select.select([descriptor], [], [], seconds)[0])


# ---- the command -----------------------------------------------------------------------------------------------------


def _run(command: list[str], ready_fd: int, watched: Watched, grace: float) -> int:
    child = _start(command, ready_fd)
    _watch(child, watched, grace)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def before_exec(supervisor: int, parent_death_signal: int) -> None:
    """In the child, between fork and exec: default signal handling, and a signal from Linux if the parent dies."""
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
        os.close(ready_fd)  # so that the pipe ends when the command is gone
    return child


def _watch(child: subprocess.Popen[bytes], watched: Watched, grace: float) -> None:
    """Wait for the child to end by itself, or ask it to end when told so."""
    ended = os.pidfd_open(child.pid)
    readable = select.select([sys.stdin, watched.kernel, watched.guard, ended], [], [])[0]
    # A byte means that a living kernel asks. An end without a byte means that it died; its pidfd may say so later.
    lifeline_ended = sys.stdin in readable and os.read(sys.stdin.fileno(), 1) == b""
    if ended not in readable:
        child.terminate()
        alone = watched.kernel in readable or watched.guard in readable or lifeline_ended
        if not wait_for(ended, GRACE_WITHOUT_KERNEL if alone else grace):
            child.kill()
    child.wait()
    if lifeline_ended:
        wait_for(watched.kernel, PATIENCE)


if __name__ == "__main__":
    # Not sys.exit: two processes reach this line, and neither has anything to flush.
    os._exit(main(sys.argv[1:]))

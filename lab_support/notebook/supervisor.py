"""Runs one command that must not outlive a notebook's kernel: stops it when the kernel says so, or is gone.

`python -S -E supervisor.py KERNEL_PID GRACE FOLDER READY_FD COMMAND…`. Standard library only, so that it
starts in milliseconds. stdin is the lifeline: a byte or its end means stop. A pidfd of the kernel stands
behind it, because a process that the kernel forked may hold the lifeline's other end open. It is a
subreaper: whatever the command leaves behind becomes its child, and is killed. When the kernel was there to
the end, the files in FOLDER are the kernel's to look at and to remove; when it was not, they are removed here.

It does not restart anything and reads no output.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_WITHOUT_KERNEL = 2.0
"""Seconds from SIGTERM to SIGKILL when nobody is left to wait for an orderly end."""


def main(words: list[str]) -> int:
    """Returns the command's exit code; 128 + N if signal N ended it. Nothing that it started runs then."""
    kernel_pid, grace, folder, ready_fd, *command = words
    _ignore_signals()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        kernel = os.pidfd_open(int(kernel_pid))
    except ProcessLookupError:
        return 0
    if os.getppid() != int(kernel_pid):  # it ended, and the pid may be another's by now
        return 0
    child = _start(command, int(ready_fd))
    kernel_lives = _watch(child, kernel, float(grace))
    kill_descendants()
    if not kernel_lives:
        shutil.rmtree(folder, ignore_errors=True)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _ignore_signals() -> None:
    """Only the lifeline ends a supervisor: a stray Ctrl-C must not leave its command alone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _start(command: list[str], ready_fd: int) -> subprocess.Popen[bytes]:
    supervisor = os.getpid()

    def before_exec() -> None:
        # An ignored signal stays ignored across exec: signal(7).
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        # Should the supervisor itself be killed, the kernel tells the command.
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor:
            os._exit(1)

    passed = (ready_fd,) if ready_fd >= 0 else ()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=passed, preexec_fn=before_exec)
    if ready_fd >= 0:
        os.close(ready_fd)  # so that its end shows when the command is gone
    return child


def _watch(child: subprocess.Popen[bytes], kernel: int, grace: float) -> bool:
    """Wait for the child to end, having asked it to when told so; whether the kernel still lived then."""
    ended = os.pidfd_open(child.pid)
    readable = select.select([sys.stdin, kernel, ended], [], [])[0]
    # A byte is a living kernel's wish. An end alone is a dead kernel's, whose pidfd may tell a moment later.
    lifeline_ended = sys.stdin in readable and os.read(sys.stdin.fileno(), 1) == b""
    kernel_lives = kernel not in readable and not lifeline_ended
    if ended not in readable:
        child.terminate()
        if not select.select([ended], [], [], grace if kernel_lives else GRACE_WITHOUT_KERNEL)[0]:
            child.kill()
    child.wait()
    return kernel_lives and not select.select([kernel], [], [], 0)[0]


def kill_descendants() -> None:
    """SIGKILL to every child, adopted ones too, until none is left and all were waited for."""
    while True:
        children = Path("/proc/thread-self/children").read_text().split()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

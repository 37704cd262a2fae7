"""The limits of a cell's script, and the start of the script. Runs in the supervisor and its child."""

import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

from supervisor import before_exec

MOST_THREADS = 1000
"""Threads in a cell of an ordinary user, besides one for each process."""


def go_first() -> None:
    """Run at real-time priority if this user may: each process of a fork bomb wants a core. Children run as before."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def limit_tasks(more: int) -> None:
    """A second limit behind the supervisor's own: this user gets at most `more` tasks besides the existing ones.

    Root has no such limit: getrlimit(2), RLIMIT_NPROC. There is none either if /proc/loadavg counts nothing.
    """
    tasks = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if tasks and (soft == resource.RLIM_INFINITY or tasks + more < soft):
        resource.setrlimit(resource.RLIMIT_NPROC, (tasks + more, hard))


def allow_descriptors(processes: int) -> tuple[int, int]:
    """Allow a pidfd for each possible process and some to spare, up to the hard limit; return the old limits.

    Limits survive exec, so the script's own must be set again before it starts; descriptors are close-on-exec.
    """
    soft, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * processes + 256
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return before


def become(command: list[str], supervisor: int, out: int, err: int, tasks: int) -> None:
    """In the child: become the script, in a session of its own, with nothing on stdin."""
    try:
        os.setsid()
        before_exec(supervisor, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit_tasks(tasks)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        for source, number in ((nowhere, 0), (out, 1), (err, 2)):
            os.dup2(source, number, inheritable=True)
        os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)

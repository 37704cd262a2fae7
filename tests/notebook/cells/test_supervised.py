"""When a kernel or a supervisor ends, in any way, the command that it started ends, too, and leaves nothing."""

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab_support.instruments import proc
from lab_support.notebook.cells.descendants import kill_family
from lab_support.notebook.cells.supervised import SupervisedProcess

# A command with a child of its own in another session, the hardest to find, and a file in its temporary folder.
FAMILY = """
import os, signal, subprocess, sys, tempfile
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
open(os.path.join(tempfile.gettempdir(), "left behind"), "w").close()
os.write(int(sys.argv[1]), f"{os.getpid()} {child.pid} {tempfile.gettempdir()}\\n".encode())
signal.pause()
"""
# A kernel that starts the family and then does as it is told.
KERNEL = f"""
import os, sys
from lab_support.notebook.cells.supervised import SupervisedProcess
read, write = os.pipe()
running = SupervisedProcess([sys.executable, "-c", {FAMILY!r}, str(write)], grace=5.0, ready_fd=write)
print(os.read(read, 1000).decode(), flush=True)
if sys.argv[1] == "fork":
    if os.fork() == 0:  # a copy of the kernel that keeps its end of the lifeline open
        os.close(1)
        sys.stdin.read()
        os._exit(0)
sys.stdin.read()
"""


@contextmanager
def family() -> Iterator[tuple[SupervisedProcess, list[proc.Identity]]]:
    read_end, write_end = os.pipe()
    running = SupervisedProcess([sys.executable, "-c", FAMILY, str(write_end)], grace=5.0, ready_fd=write_end)
    try:
        parent, child, _ = os.read(read_end, 1000).decode().split()
        yield running, [identity(int(parent)), identity(int(child))]
    finally:
        running.close()
        os.close(read_end)


def identity(pid: int) -> proc.Identity:
    process = proc.read_process(pid)
    assert process is not None
    return process.identity


def await_end(identities: list[proc.Identity], seconds: float = 20) -> list[proc.Identity]:
    """Wait until each has ended; those that have not by then."""
    waiting = []
    for each in identities:
        try:
            waiting.append(os.pidfd_open(each.pid))
        except ProcessLookupError:
            continue
    for descriptor in waiting:
        select.select([descriptor], [], [], seconds)
        os.close(descriptor)
    return [each for each in identities if proc.is_running(each)]


@contextmanager
def reaping() -> Iterator[None]:
    """Orphans become this process's children meanwhile, so that they can be waited for wherever init is lazy."""
    prctl: Callable[..., int] = ctypes.CDLL(None).prctl
    prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    try:
        yield
    finally:
        prctl(36, 0, 0, 0, 0)
        while reaped_one():
            pass


def reaped_one() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


def test_stop_ends_the_whole_family_and_leaves_its_files_to_look_at():
    with family() as (running, members):
        assert all(proc.is_running(member) for member in members)
        assert running.stop() == 128 + signal.SIGTERM
        assert await_end(members) == []
        assert running.files_left() == ["left behind"]
        running.stop()
    assert not running.folder.exists()


def test_a_command_that_ignores_sigterm_is_killed_after_its_grace():
    command = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    running = SupervisedProcess([sys.executable, "-c", command], grace=0.1)
    while "1" not in running.output:
        assert not running.wait(0.01)
    assert running.stop() == 128 + signal.SIGKILL
    running.close()


def test_what_a_command_leaves_behind_ends_with_it():
    leaves = FAMILY.replace("signal.pause()\n", "", 2).replace("import signal; ", "import signal; signal.pause()")
    read_end, write_end = os.pipe()
    running = SupervisedProcess([sys.executable, "-c", leaves, str(write_end)], grace=5.0, ready_fd=write_end)
    _, child, _ = os.read(read_end, 1000).decode().split()
    os.close(read_end)
    assert running.wait(30)
    assert proc.read_process(int(child)) is None
    running.close()


def test_output_is_kept_apart_from_errors_and_can_be_read_while_it_runs():
    with SupervisedProcess([sys.executable, "-c", "print('out'); import sys; sys.exit('error')"], grace=1.0) as running:
        assert running.wait(30)
        assert (running.output, running.errors, running.stop()) == ("out\n", "error\n", 1)
    running.close()


@pytest.mark.parametrize("how", ["plain", "fork"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_kernel_is_killed_the_family_and_its_files_are_gone(how, number):
    """Also while a forked copy of the kernel holds the lifeline's other end: then the pidfd tells."""
    with reaping():
        kernel = subprocess.Popen([sys.executable, "-c", KERNEL, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with kernel:
            parent, child, folder = kernel.stdout.readline().decode().split()
            members = [identity(int(parent)), identity(int(child))]
            supervisor = identity(proc.read_process(int(parent)).parent_pid)
            guard = identity(proc.read_process(supervisor.pid).parent_pid)
            kernel.send_signal(number)
            kernel.wait()
            assert await_end([*members, supervisor, guard]) == []
            assert not Path(folder).exists()


@pytest.mark.parametrize("who", ["supervisor", "guard"])
def test_when_the_supervisor_or_its_guard_is_killed_the_other_ends_everything(who):
    with reaping(), family() as (_, members):
        supervisor = identity(proc.read_process(members[0].pid).parent_pid)
        guard = identity(proc.read_process(supervisor.pid).parent_pid)
        os.kill({"supervisor": supervisor, "guard": guard}[who].pid, signal.SIGKILL)
        assert await_end([*members, supervisor, guard]) == []


@pytest.mark.parametrize("who", ["supervisor", "guard"])
def test_a_supervisor_or_a_guard_that_was_stopped_does_not_outlive_the_kernel(who):
    with reaping():
        kernel = subprocess.Popen(
            [sys.executable, "-c", KERNEL, "plain"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with kernel:
            parent, child, folder = kernel.stdout.readline().decode().split()
            members = [identity(int(parent)), identity(int(child))]
            supervisor = identity(proc.read_process(int(parent)).parent_pid)
            guard = identity(proc.read_process(supervisor.pid).parent_pid)
            os.kill({"supervisor": supervisor, "guard": guard}[who].pid, signal.SIGSTOP)
            kernel.kill()
            kernel.wait()
            assert await_end([*members, supervisor, guard]) == []
            assert not Path(folder).exists()


def watchers_of(members: list[proc.Identity]) -> list[proc.Identity]:
    """The supervisor and its guard."""
    supervisor = identity(proc.read_process(members[0].pid).parent_pid)
    return [supervisor, identity(proc.read_process(supervisor.pid).parent_pid)]


@pytest.mark.parametrize("stopped", [(0,), (1,), (0, 1)], ids=["supervisor", "guard", "both"])
def test_supervisor_and_guard_that_were_stopped_end_all_the_same_when_they_are_told_to(stopped):
    with family() as (running, members):
        watchers = watchers_of(members)
        for index in stopped:
            os.kill(watchers[index].pid, signal.SIGSTOP)
        assert running.stop() == 128 + signal.SIGTERM
        assert await_end([*members, *watchers]) == []


def test_a_family_can_be_ended_from_outside_when_its_supervisor_does_nothing_any_more():
    with reaping(), family() as (running, members):
        watchers = watchers_of(members)
        os.kill(watchers[0].pid, signal.SIGSTOP)
        kill_family(watchers[1].pid)
        assert running.stop() == -signal.SIGKILL
        assert await_end([*members, *watchers]) == []


def test_an_interrupt_of_the_kernels_group_does_not_reach_the_command():
    with family() as (running, members):
        assert os.getpgid(members[0].pid) != os.getpgid(os.getpid())
        assert os.getsid(members[0].pid) != os.getsid(os.getpid())
        assert running.running

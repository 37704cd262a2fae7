"""No process of a cell is left, however hard to reach, when the cell, its kernel or its supervisor ends in any way."""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab_support.instruments import proc
from tests.notebook.cells.test_supervised import await_end, reaping
from tests.notebook.kernels import LOAD, Kernel, running_kernel

PROMISED, POLITELY = 1.0, 3.0  # seconds
FULL = bool(os.environ.get("LAB_PROVE"))
ROUNDS = 5 if FULL else 1

FAMILIES = {
    "fork tree": """
import os, signal
for child in range(2):
    if os.fork() == 0:
        if child:
            os.setsid()
        os.fork()
        ready()
""",
    "spawn tree": """
import multiprocessing
def grow(levels):
    if levels:
        multiprocessing.get_context("spawn").Process(target=grow, args=(levels - 1,)).start()
    ready()
if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=grow, args=(1,)).start()
""",
    "forkserver": """
import multiprocessing
if __name__ == "__main__":
    for child in range(2):
        multiprocessing.get_context("forkserver").Process(target=ready).start()
""",
    "daemonised grandchild": """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.chdir("/")
        ready()
    os._exit(0)
os.wait()
""",
    "stuck in C with the GIL": """
import ctypes, os
if os.fork() == 0:
    say()
    ctypes.PyDLL(None).pause()
""",
    "stopped": """
import os, signal
if os.fork() == 0:
    say()
    os.kill(os.getpid(), signal.SIGSTOP)
""",
}
MEMBERS = {"fork tree": 5, "spawn tree": 3, "forkserver": 3, "daemonised grandchild": 2}
PROGRAM = """%%python_process --timeout 60
import os, signal
def say():
    with open("{file}", "a") as file:
        file.write(f"{{os.getpid()}}\\n")
def ready():
    say()
    signal.pause()
{family}
if __name__ == "__main__":
    print("begun")
    ready()
"""


def start(kernel: Kernel, family: str, file: Path) -> list[proc.Identity]:
    """The processes of the family, the supervisor and its guard."""
    file.touch()
    kernel.run_until(PROGRAM.format(file=file, family=FAMILIES[family]), "begun")
    deadline = time.monotonic() + 30
    while len(pids := [int(line) for line in file.read_text().split()]) < MEMBERS.get(family, 2):
        assert time.monotonic() < deadline, pids
    guards = [each for each in proc.process_tree(kernel.pid) if "cell_supervisor.py" in each.title]
    assert len(guards) == 2
    tree = [process.identity for process in proc.process_tree(guards[0].pid)]
    assert set(pids) <= {identity.pid for identity in tree}
    return tree


@contextmanager
def seconds_until_gone(identities: list[proc.Identity]) -> Iterator[list[float]]:
    """A list that has, afterwards, the seconds from here until the last of them ended; watched while the body runs."""
    found: list[float] = []
    begun = time.monotonic()
    watched = [os.pidfd_open(identity.pid) for identity in identities]

    def watch() -> None:
        for pidfd in watched:
            select.select([pidfd], [], [], 20)
            os.close(pidfd)
        found.append(time.monotonic() - begun)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield found
    watcher.join()
    assert [identity for identity in identities if proc.is_running(identity)] == []


def interrupt(kernel: Kernel, tree: list[proc.Identity]) -> None:
    kernel.manager.interrupt_kernel()
    assert kernel.await_idle() == "KeyboardInterrupt"


def restart(kernel: Kernel, tree: list[proc.Identity]) -> None:
    kernel.manager.restart_kernel(now=False)


def restart_now(kernel: Kernel, tree: list[proc.Identity]) -> None:
    kernel.manager.restart_kernel(now=True)


def shut_down(kernel: Kernel, tree: list[proc.Identity]) -> None:
    kernel.manager.shutdown_kernel()


def kill_kernel(kernel: Kernel, tree: list[proc.Identity]) -> None:
    os.kill(kernel.pid, signal.SIGKILL)


def kill_supervisor(kernel: Kernel, tree: list[proc.Identity]) -> None:
    os.kill(tree[1].pid, signal.SIGKILL)


def kill_guard(kernel: Kernel, tree: list[proc.Identity]) -> None:
    os.kill(tree[0].pid, signal.SIGKILL)


def kill_both(kernel: Kernel, tree: list[proc.Identity]) -> None:
    """As `pkill -9 -f supervisor` would: then the kernel sweeps."""
    for identity in tree[:2]:
        os.kill(identity.pid, signal.SIGSTOP)
    for identity in tree[:2]:
        os.kill(identity.pid, signal.SIGKILL)


Action = Callable[[Kernel, list[proc.Identity]], None]
ACTIONS: dict[Action, float] = {
    interrupt: PROMISED,
    restart: POLITELY,
    restart_now: PROMISED,
    shut_down: POLITELY,
    kill_kernel: PROMISED,
    kill_supervisor: PROMISED,
    kill_guard: PROMISED,
    kill_both: PROMISED,
}


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_nothing_of_a_cell_is_left(action: Action, tmp_path: Path) -> None:
    """In `make test` with every third family, in turn; in `make prove` with all."""
    families = [*FAMILIES] if FULL else [*FAMILIES][[*ACTIONS].index(action) % 3 :: 3]
    with running_kernel() as kernel:
        for trial in range(ROUNDS):
            for family in families:
                tree = start(kernel, family, tmp_path / f"{family} {trial}")
                folder = folder_of(tree[0])
                with seconds_until_gone(tree) as found:
                    action(kernel, tree)
                (seconds,) = found
                print(f"{action.__name__} · {family}: {len(tree)} processes gone after {seconds:.2f} s")
                if FULL:
                    assert seconds < ACTIONS[action]
                recover(kernel, action)
                assert not folder.exists()


def folder_of(guard: proc.Identity) -> Path:
    """The cell's own, from the guard's command line."""
    process = proc.read_process(guard.pid)
    assert process is not None
    (folder,) = [Path(word) for word in process.title.split() if Path(word).name.startswith("lab-")]
    assert folder.is_dir()
    return folder


def recover(kernel: Kernel, action: Action) -> None:
    """The kernel runs again, and knows the magic."""
    if action in (kill_supervisor, kill_guard, kill_both):
        assert kernel.await_idle() == "CellFailed"
    if action is shut_down:
        kernel.close()
        kernel.start()
    if action is kill_kernel:
        kernel.manager.restart_kernel(now=True)
    if action in (restart, restart_now, kill_kernel):
        kernel.reconnect()
    kernel.run(LOAD)
    assert "42" in kernel.run("%%python_process\nprint(6 * 7)")[0]


DAEMON = "daemonised grandchild"


def left_alone(tree: list[proc.Identity], number: int, kernel: Kernel) -> list[proc.Identity]:
    """Kernel, guard and supervisor get the signal. Returns the script, the rest, and those that still run then."""
    watchers = [kernel.pid, *(identity.pid for identity in tree[:2])]
    for pid in watchers:
        os.kill(pid, signal.SIGSTOP)
    for pid in watchers:
        os.kill(pid, number)
    return tree[2:]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_what_lost_all_its_watchers_at_one_stroke_ends_with_the_next_notebooks_first_cell(number, tmp_path):
    """Stopped ones, whose kernel is killed then, are continued by it, and do their work."""
    with running_kernel() as kernel, running_kernel() as next_one, reaping():
        tree = start(kernel, DAEMON, tmp_path / "pids")
        family = left_alone(tree, number, kernel)
        os.kill(kernel.pid, signal.SIGKILL)
        assert any(proc.is_running(identity) for identity in family)
        assert "42" in next_one.run("%%python_process\nprint(6 * 7)")[0]
        assert await_end(tree) == []

"""One start of the reader's server: its processes, whether any of them still moves, and when it is ready or over.

Runs in the process of a check, which starts `my_server.py` as a user would. Nothing depends on luck: where the moment
matters, a process is held or stopped. Seconds are only limits, after which nobody waits any longer.
"""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab_support.instruments import proc
from lab_support.instruments.kernel import wait_until_asleep
from lab_support.notebook.stages.server_parts import HOLD, READY_FD, STEPS
from lab_support.notebook.stages.trial_client import LIMIT, Client

STILL, STILL_AT_THE_END = 1.0, 3.0
"""Seconds after which a server whose main threads all sleep is taken to be stuck."""
_TICK, _LOOK = 0.003, 0.1  # seconds between two questions, and between two looks at all threads


class TriedServer:
    """One start of the server in the file `path`. A context manager: at the end nothing of it runs.

    held: its engine core waits in `load_weights` until `release`. pids: by role, once it has said READY.
    """

    def __init__(self, path: str, *, held: bool = False) -> None:
        self.file, self.folder = Path(path), tempfile.TemporaryDirectory()
        self.steps_file, self.fifo = (Path(self.folder.name) / name for name in ("steps", "hold"))
        self._errors = (Path(self.folder.name) / "errors").open("w+b")
        self._told, telling = os.pipe()
        environment = os.environ | {READY_FD: str(telling), STEPS: str(self.steps_file)}
        if held:
            os.mkfifo(self.fifo)
            environment[HOLD] = str(self.fifo)
        self.launcher = subprocess.Popen(
            [sys.executable, path], env=environment, pass_fds=(telling,), stderr=self._errors
        )
        os.close(telling)
        self.pids: dict[str, int] = {}
        self.port = 0
        self._writer = 0
        self._known: dict[proc.Identity, str] = {}
        self._clients: list[Client] = []

    def __enter__(self) -> "TriedServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.meet()
        said = self.said  # before the kill, after which some complain that others are gone
        self.release()
        for client in self._clients:
            client.hang_up()
        while left := self.left():
            for identity in left:
                with suppress(ProcessLookupError):
                    os.kill(identity.pid, signal.SIGKILL)
            self.launcher.poll()
            time.sleep(0.001)
        self.launcher.wait()
        sys.stderr.write(said.replace(f"{self.file.parent}/", ""))
        self._errors.close()
        os.close(self._told)
        self.folder.cleanup()

    @property
    def said(self) -> str:
        """Its stderr so far."""
        return os.pread(self._errors.fileno(), 1_000_000, 0).decode("utf-8", "replace")

    @property
    def rows(self) -> list[int]:
        """The number of rows of each step so far."""
        return list(self.steps_file.read_bytes()) if self.steps_file.exists() else []

    def meet(self) -> list[proc.Process]:
        """Its processes now; those that it has had are remembered."""
        family = [process for process in proc.process_tree(self.launcher.pid) if not process.ended]
        names = {pid: name for name, pid in self.pids.items()}
        for process in family:
            tracker = "resource_tracker" in process.title
            self._known[process.identity] = names.get(process.pid, "resource-tracker" if tracker else "a child")
        return family

    def left(self) -> dict[proc.Identity, str]:
        """Its processes that still run, also those whose parent has ended."""
        return {identity: name for identity, name in self._known.items() if proc.is_running(identity)}

    def await_ready(self, seconds: float = LIMIT) -> bool:
        """Wait for its READY line; False if it ends, gets stuck or takes too long."""
        return self._await(lambda: self.has_said_ready() or self.launcher.poll() is not None, seconds) and bool(
            self.pids
        )

    def has_said_ready(self) -> bool:
        if not self.pids and select.select([self._told], [], [], 0)[0]:
            words = os.read(self._told, 65536).decode().split()
            if words[:1] == ["READY"]:
                self.port = int(words[1].rpartition(":")[2])
                self.pids = {name: int(pid) for name, _, pid in (word.partition("=") for word in words[2:])}
                self.meet()
        return bool(self.pids)

    def ask(self, count: int, tokens: int) -> list[Client]:
        """As many clients ask at once, each something else."""
        clients = [Client(f"client {number} says: ", tokens) for number in range(1, count + 1)]
        self._clients += clients
        for client in clients:
            with suppress(OSError):
                client.ask(self.port)
        return clients

    def await_answers(self, clients: list[Client]) -> None:
        """Until each has its answer, or the server is stuck."""
        self._await(lambda: not any(client.thread and client.thread.is_alive() for client in clients))

    def await_first_tokens(self, clients: list[Client]) -> None:
        self._await(lambda: all(client.first.is_set() for client in clients))

    def _await(self, reached: Callable[[], bool], seconds: float = LIMIT, still: float = STILL) -> bool:
        """Wait until `reached()`; give up after `seconds`, or once the server has not moved for `still` seconds."""
        deadline, moved_at, looked_at, before = time.monotonic() + seconds, time.monotonic(), 0.0, -1
        while not reached():
            now = time.monotonic()
            if now > looked_at + _LOOK:
                looked_at, moves = now, self._moves()
                moved_at, before = (now, moves) if moves != before else (moved_at, before)
            if now > deadline or now > moved_at + still:
                return reached()
            time.sleep(_TICK)
        return True

    def _moves(self) -> int:
        """A figure that changes whenever one of its threads runs. The end of a process is a move too."""
        self.meet()
        pids = [identity.pid for identity in self.left()]
        if any(state in "RD" for pid in pids for state in proc.read_thread_states(pid).values()):
            return time.monotonic_ns()
        # A ZeroMQ thread that has lost its peer wakes ten times a second to connect again, which is no move.
        return len(pids) + sum(_voluntary(pid, pid) for pid in pids)

    def await_idle(self, most_steps: int) -> None:
        """Wait until the engine core makes no more steps, or has made too many."""
        seen = [-1]

        def idle() -> bool:
            before, seen[0] = seen[0], len(self.rows)
            engine = [pid for name, pid in self.pids.items() if name == "engine-0"]
            return seen[0] > most_steps or (before == seen[0] and wait_until_asleep(engine, 0.0))

        self._await(idle)

    def await_end(self) -> bool:
        """Whether all its processes end by themselves."""
        self.meet()

        def ended() -> bool:
            self.launcher.poll()
            return not self.left()

        return self._await(ended, LIMIT, STILL_AT_THE_END)

    @contextmanager
    def stopped(self, role: str) -> Iterator[None]:
        """Meanwhile, the process of that role is stopped; the others have fallen asleep before it goes on."""
        if role not in self.pids:
            yield
            return
        with suppress(ProcessLookupError):
            os.kill(self.pids[role], signal.SIGSTOP)
        yield
        wait_until_asleep([pid for name, pid in self.pids.items() if name != role], LIMIT)
        with suppress(ProcessLookupError):
            os.kill(self.pids[role], signal.SIGCONT)

    # ---- while it is held

    def await_hold(self) -> int:
        """Wait until the engine core loads, and all others sleep. Returns its pid; 0 if it never loads."""
        self._await(lambda: self._has_opened_fifo() and len(self.acceptors()) == 2)
        wait_until_asleep([process.pid for process in self.meet()], LIMIT)
        return next((process.pid for process in self.meet() if self._has_open(process.pid)), 0)

    def _has_opened_fifo(self) -> bool:
        """Once a reader is there, its open(2) is over, and it reads until `release` closes this end."""
        with suppress(OSError):  # ENXIO: no reader yet
            self._writer = self._writer or os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK)
        return bool(self._writer)

    def _has_open(self, pid: int) -> bool:
        """Whether a process has the FIFO open."""
        return any(each.about == str(self.fifo) for each in proc.read_descriptors(pid))

    def acceptors(self) -> list[int]:
        """The children that hold a listening TCP socket."""
        pids = [process.pid for process in self.meet() if process.pid != self.launcher.pid]
        tcp = {inode for inode, each in proc.listening_sockets().items() if each.port}
        return [pid for pid in pids if any(each.inode in tcp for each in proc.read_descriptors(pid))]

    def await_acceptors(self) -> None:
        """Wait until both API servers hold a listening socket, or nothing moves any more."""
        self._await(lambda: len(self.acceptors()) == 2)

    def await_others(self, gone: int) -> None:
        """Wait until two API servers hold a listening socket, without the one that is gone, or nothing moves."""
        self._await(lambda: len(set(self.acceptors()) - {gone}) == 2, LIMIT, STILL_AT_THE_END)

    def release(self) -> None:
        if self._writer:
            os.close(self._writer)
            self._writer = 0


def _voluntary(pid: int, thread: int) -> int:
    """Voluntary context switches of one thread so far; 0 if it has ended."""
    found = proc.read_thread_switches(pid).get(thread)
    return found.voluntary if found else 0

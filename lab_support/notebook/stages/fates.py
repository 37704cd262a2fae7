"""What happens to a server when one of its processes is killed, or stopped: who notices, by what, and what clients get.

All of it is observed from outside. A pidfd of each process is readable when it has ended. This process is a subreaper,
so orphans become its children, and their exit status says what ended them: code 3 is ours for the pipe's end
(boundary/lifeline.py), SIGKILL was sent by the kernel because of the parent's death. When the launcher noticed an end
is in its trace, on the same clock. Runs in a cell's process, never in the kernel.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_support.api_key import VARIABLES
from lab_support.config import words_for
from lab_support.instruments import proc
from lab_support.instruments.trace.read import TraceError, read_run
from lab_support.notebook.stages.fate_clients import Clients
from lab_support.notebook.stages.unwatched import with_a_key
from lab_support.signal_names import signal_name

IDLE, STREAMING, STARTING = "idle", "streaming", "starting"
EOF, DEATH_SIGNAL, END = "EOF on the pipe", "parent-death signal", "the process's end"
ROLES = ("launcher", "coordinator", "api-0", "engine-0")
_GONE = 3  # the exit code of a child that has read EOF
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_PATIENCE = 30.0
_SETTINGS = {"device": "paced:8B", "api_server_count": 2, "data_parallel_size": 2, "shutdown_timeout": 0}


def fate(role: str, state: str, *, number: int = signal.SIGKILL, watch: float = 3.0, **settings: Any) -> dict[str, Any]:
    """Start a server, send the signal to one of its processes, and tell what came of it; for `emit`.

    role: a key of `ROLES`. state: streaming (four clients read), starting (before READY; a client is in the queue) or
    idle (four clients come afterwards). watch: seconds for which a stopped process stays stopped.

    Returns: `noticed`, for each process that reacted by itself, by what and after how many ms; `clients`, the number
    for each outcome; `server`, "ended" or "goes on"; `left`, the processes that still run. Raises `LookupError` if
    there is no such process.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with _started(_SETTINGS | settings) as server:
        pids = server.await_process(role) if state == STARTING else server.await_ready()
        clients = None
        if state != IDLE:
            clients = server.clients(1 if state == STARTING else 4)
        if clients and state == STREAMING:
            clients.await_flow()
        if role not in pids:
            raise LookupError(f"got {role!r}, expected one of {', '.join(pids)}")
        stopped = number == signal.SIGSTOP
        with _Ends(pids) as ends:
            at = time.monotonic()
            os.kill(pids[role], number)
            ends.watch(server.until_decided(role, state), watch if stopped else _PATIENCE)
            if clients is None:
                clients = server.clients(4)
            ended = server.process.poll() is not None
            outcomes = clients.outcomes(0.0 if stopped and not ended else _PATIENCE)
            if stopped and role not in ends.at:
                os.kill(pids[role], signal.SIGCONT)
            server.stop()
            ends.watch(ends.all_ended)
        noticed = _of_children(ends, at) if role == "launcher" else _of_launcher(server.folder, role, at)
        return {
            "role": role,
            "state": state,
            "signal": signal_name(number),
            "noticed": {} if stopped and not ended else noticed,
            "clients": outcomes,
            "server": "ended" if ended else "goes on",
            "left": len(ends.running),
        }


def _of_children(ends: "_Ends", at: float) -> dict[str, tuple[str, float]]:
    """The launcher was killed: each child by itself."""
    means = {_GONE: EOF, -signal.SIGKILL: DEATH_SIGNAL}
    return {
        name: (means.get(ends.codes.get(name, 0), f"exit code {ends.codes.get(name)}"), _ms(when - at))
        for name, when in ends.at.items()
        if name not in ("launcher", "resource-tracker")
    }


def _of_launcher(folder: Path, role: str, at: float) -> dict[str, tuple[str, float]]:
    """By its trace, in which the end of each child is a milestone."""
    with suppress(TraceError):
        for process in read_run(folder).processes:
            for each in process.milestones:
                if process.role == "launcher" and each.stage == "ended" and each.about == role and each.at >= at:
                    return {"launcher": (END, _ms(each.at - at))}
    return {}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


# ---- the server ------------------------------------------------------------------------------------------------------


@dataclass
class _Server:
    """A server that nobody but its own processes looks after. folder: of its trace."""

    process: "subprocess.Popen[bytes]"
    folder: Path
    ready: Any
    key: str

    def await_ready(self) -> dict[str, int]:
        """Its processes by role. Raises `RuntimeError` if it ends instead."""
        line = self.ready.readline()
        if not line:
            raise RuntimeError("got no ready line from the server, expected one before it ends")
        pids: dict[str, int] = json.loads(line)["pids"]
        return pids

    def await_process(self, role: str) -> dict[str, int]:
        """Those that are there once this one and an engine core are, and the port is open. Raises `LookupError`."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            pids = self._by_title()
            if {role, "engine-0"} <= pids.keys() and self.address():
                return pids
            time.sleep(0.002)
        raise LookupError(f"got no process {role!r} within {_PATIENCE:g} s")

    def _by_title(self) -> dict[str, int]:
        tree = proc.process_tree(self.process.pid)
        return {each.title.removeprefix("lab:"): each.pid for each in tree if each.title.startswith("lab:")}

    def address(self) -> tuple[str, int] | None:
        with suppress(TraceError):
            for process in read_run(self.folder).processes:
                for each in process.milestones:
                    if each.stage == "port open":
                        host, _, port = each.detail.removeprefix("http://").rpartition(":")
                        return host, int(port)
        return None

    def clients(self, count: int) -> Clients:
        address = self.address()
        assert address, "the port is open"
        return Clients(address, self.key, count, tokens=300)

    def until_decided(self, role: str, state: str) -> Callable[[], bool]:
        """A question: has the server ended, or has another process taken the place of the killed one?"""
        before = self._by_title().get(role)
        replaced = role.startswith("api-") and state != STARTING

        def decided() -> bool:
            if not replaced:
                return self.process.poll() is not None
            now = self._by_title().get(role)
            return self.process.poll() is not None or now not in (None, before)

        return decided

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@contextmanager
def _started(settings: Mapping[str, Any]) -> Iterator[_Server]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fate-")))
        reads, writes = os.pipe()
        ready = stack.enter_context(open(reads, encoding="utf-8"))
        environment = with_a_key()
        words = words_for({**settings, "port": 0, "ready_fd": writes, "trace_dir": folder, "log_level": "error"})
        process = subprocess.Popen(
            [sys.executable, "-m", "lab_support", "serve", *words],
            env=environment,
            pass_fds=[writes],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(writes)
        server = _Server(process, folder, ready, environment[VARIABLES[0]])
        stack.callback(server.stop)
        yield server


# ---- ends of processes -----------------------------------------------------------------------------------------------


class _Ends:
    """Watches processes for their ends. at: time.monotonic() of each end. codes: of those that this process reaps."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._names = {os.pidfd_open(pid): name for name, pid in pids.items()}
        self._poll = select.poll()
        for descriptor in self._names:
            self._poll.register(descriptor, select.POLLIN)
        self.at: dict[str, float] = {}
        self.codes: dict[str, int] = {}

    def __enter__(self) -> "_Ends":
        return self

    def __exit__(self, *exception: object) -> None:
        for descriptor in self._names:
            os.close(descriptor)

    @property
    def running(self) -> list[str]:
        return [name for name in self._names.values() if name not in self.at]

    def all_ended(self) -> bool:
        return not self.running

    def watch(self, until: Callable[[], bool], seconds: float = _PATIENCE) -> None:
        """Until a question is answered by yes, or so many seconds are over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not until():
            for descriptor, _ in self._poll.poll(5):
                self._note(descriptor)
        for descriptor, _ in self._poll.poll(0):
            self._note(descriptor)

    def _note(self, descriptor: int) -> None:
        name = self._names[descriptor]
        self.at[name] = time.monotonic()
        self._poll.unregister(descriptor)
        with suppress(ChildProcessError):  # its own parent waits for it
            if name != "launcher" and (found := os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)):
                by_signal = found.si_code != os.CLD_EXITED
                self.codes[name] = -found.si_status if by_signal else found.si_status

"""What the reader's server does, step by step: each trial starts it, asks it as eight clients, and looks at processes.

Runs in a process of a check's own, which starts `my_server.py` as a user would. Nothing depends on luck: where the
moment matters, a process is held or stopped. Seconds are only limits, after which nobody waits any longer. A trial
returns plain data for `emit`.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab_support.instruments import proc
from lab_support.instruments.kernel import wait_until_asleep
from lab_support.notebook.stages.server_parts import HOLD, READY_FD, STEPS, token_after

CLIENTS, TOKENS, MANY_TOKENS, LONG, ENDLESS = 8, 6, 64, 1500, 4000
FEW_STEPS = 1000
LIMIT, STILL, STILL_AT_THE_END = 20.0, 1.0, 3.0
"""Seconds: that anything may take, and after which a server whose main threads all sleep is taken to be stuck."""
_TICK, _LOOK = 0.003, 0.1  # seconds between two questions, and between two looks at all threads


# ---- clients ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Client:
    """A client that asks for a stream, in a thread.

    times: of each token. empty: how many tokens without a text it got besides. ended: it got [DONE] and the end.
    """

    prompt: str
    count: int
    tokens: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    empty: int = 0
    ended: bool = False
    first: threading.Event = field(default_factory=threading.Event)
    connection: socket.socket | None = None
    thread: threading.Thread | None = None

    @property
    def own(self) -> bool:
        """Whether it got its own tokens, all of them and no others."""
        return self.tokens == list(tokens_of(self.prompt, self.count))

    @property
    def repeats(self) -> bool:
        return len(self.tokens) > 1 and len(set(self.tokens)) == 1

    def ask(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        body = json.dumps({"prompt": self.prompt, "max_tokens": self.count, "stream": True}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: lab\r\nContent-Length: {len(body)}\r\n\r\n"
        self.connection.sendall(head.encode() + body)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def hang_up(self) -> None:
        if self.connection:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

    def _read(self) -> None:
        assert self.connection
        with suppress(OSError, ValueError):
            for line in self.connection.makefile("rb"):
                if line == b"data: [DONE]\n":
                    self.ended = True
                elif line.startswith(b"data: {"):
                    self._take(**json.loads(line[6:])["choices"][0])
        self.first.set()

    def _take(self, text: str, finish_reason: str | None, **_: Any) -> None:
        if not text:
            self.empty += finish_reason is None
            return
        self.tokens.append(text)
        self.times.append(time.monotonic())
        self.first.set()


def tokens_of(prompt: str, count: int) -> Iterator[str]:
    text = prompt.encode()
    for _ in range(count):
        token = token_after(text)
        text += token
        yield token.decode()


# ---- the server ------------------------------------------------------------------------------------------------------


class Trial:
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

    def __enter__(self) -> "Trial":
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

    def ask(self, count: int = CLIENTS, tokens: int = TOKENS) -> list[Client]:
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

    def release(self) -> None:
        if self._writer:
            os.close(self._writer)
            self._writer = 0


def _voluntary(pid: int, thread: int) -> int:
    """Voluntary context switches of one thread so far; 0 if it has ended."""
    found = proc.read_thread_switches(pid).get(thread)
    return found.voluntary if found else 0


# ---- the trials ------------------------------------------------------------------------------------------------------


def step_1(path: str) -> dict[str, Any]:
    """A blocking loop: does each client get its own tokens?"""
    with Trial(path) as trial:
        return {"ready": trial.await_ready(), **_asked(trial), "rows": max(trial.rows, default=0)}


def step_2(path: str) -> dict[str, Any]:
    """API servers and an engine core: also, who holds the listening socket?"""
    with Trial(path) as trial:
        ready = trial.await_ready()
        trial.await_acceptors()
        holders = {holder.process.pid for holder in proc.holders_of_listening_socket(trial.port, trial.pids.values())}
        children = {name: pid for name, pid in trial.pids.items() if name != "launcher"}
        elsewhere = set(trial.acceptors()) - holders
        return {
            "ready": ready,
            "processes": list(trial.pids),
            "holders": sorted(name for name, pid in children.items() if pid in holders),
            "elsewhere": sorted(name for name, pid in children.items() if pid in elsewhere),
            **_asked(trial),
        }


def step_3(path: str) -> dict[str, Any]:
    """READY: when, and what if a process dies first?"""
    with Trial(path, held=True) as trial:
        _tell("the engine core is held while it loads")
        held = bool(trial.await_hold())
        too_early = trial.has_said_ready()
        trial.release()
        first = {"held": held, "too_early": too_early, "ready": trial.await_ready(), "deaths": {}, **_asked(trial)}
    if too_early or not first["ready"]:
        return first
    return first | {"deaths": _until_one_is_missed(("engine-0", "api-"), lambda name: death_while_starting(path, name))}


def _until_one_is_missed(names: Iterable[str], trial: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """The trials by name; after one that has left processes, the others tell nothing new and take long."""
    found: dict[str, Any] = {}
    for name in names:
        found[name] = trial(name)
        if not found[name]["ended"]:
            break
    return found


def death_while_starting(path: str, name: str) -> dict[str, Any]:
    """The engine core loads; then it dies, or an API server does."""
    with Trial(path, held=True) as trial:
        engine = trial.await_hold()
        victim = engine if name == "engine-0" else next(iter(trial.acceptors()), 0)
        if victim:
            _tell(f"{name if name == 'engine-0' else 'an API server'} is killed while the engine core loads")
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        ended = trial.await_end()
        return {"ended": ended, "named": name in trial.said, "left": sorted(trial.left().values())}


def step_4(path: str) -> dict[str, Any]:
    """A batch: all ask while the engine core is stopped; then, whose first token waits for whose last?"""
    with Trial(path) as trial:
        ready = trial.await_ready()
        with trial.stopped("engine-0"):
            _tell(f"{CLIENTS} clients ask while the engine core is stopped, and then it goes on")
            clients = trial.ask(tokens=MANY_TOKENS)
        trial.await_answers(clients)
        firsts, lasts = ([client.times[at] for client in clients if client.times] for at in (0, -1))
        engine = [pid for name, pid in trial.pids.items() if name == "engine-0"]
        return {
            "ready": ready,
            **_summary(clients),
            "begun": sum(first < min(lasts) for first in firsts),
            "rows": max(trial.rows, default=0),
            "steps": len(trial.rows),
            "sleeps": wait_until_asleep(engine, STILL),
        }


def step_5(path: str) -> dict[str, Any]:
    """A client hangs up; then each role is killed while eight answers are under way."""
    with Trial(path) as trial:
        ready = trial.await_ready()
        steps = _steps_after_hang_up(trial)
        first = {"ready": ready, "steps_after_hang_up": steps, "deaths": {}}
        if steps > FEW_STEPS or not ready:
            return first
        first |= _asked(trial)
    return first | {"deaths": _until_one_is_missed(("launcher", "engine-0", "api-1"), lambda role: death(path, role))}


def _steps_after_hang_up(trial: Trial) -> int:
    """The steps that the row of a client goes on after it has hung up."""
    clients = trial.ask(1, ENDLESS)
    trial.await_first_tokens(clients)
    before = len(trial.rows)
    _tell("a client hangs up in the middle of its answer")
    clients[0].hang_up()
    trial.await_idle(before + FEW_STEPS)
    return len(trial.rows) - before


def death(path: str, role: str) -> dict[str, Any]:
    """SIGKILL to one process while eight answers are under way: does every other one end, and is the dead one named?"""
    with Trial(path) as trial:
        trial.await_ready()
        trial.await_first_tokens(trial.ask(tokens=LONG))
        trial.meet()
        if role in trial.pids:
            _tell(f"{role} is killed while {CLIENTS} answers are under way")
            with suppress(ProcessLookupError):  # a server that is wrong may have ended by itself
                os.kill(trial.pids[role], signal.SIGKILL)
        ended = trial.await_end()
        return {"ended": ended, "named": role in trial.said, "left": sorted(trial.left().values())}


def _tell(words: str) -> None:
    """A line for the reader, because a trial takes some seconds."""
    print(f"the check: {words}", flush=True)


def _asked(trial: Trial) -> dict[str, Any]:
    _tell(f"{CLIENTS} clients ask at once")
    clients = trial.ask() if trial.pids else []
    trial.await_answers(clients)
    return _summary(clients)


def _summary(clients: list[Client]) -> dict[str, Any]:
    return {
        "own": sum(client.own and client.ended for client in clients),
        "all_tokens": sum(client.own for client in clients),
        "ended": sum(client.ended for client in clients),
        "some": sum(bool(client.tokens) for client in clients),
        "repeats": sum(client.repeats for client in clients),
        "empty": sum(client.empty > 0 for client in clients),
        "alike": len(clients) > 1 and bool(clients[0].tokens) and len({tuple(each.tokens) for each in clients}) == 1,
    }

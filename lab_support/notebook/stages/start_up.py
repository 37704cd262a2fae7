"""Children in small that load for a while, die while they load, or never say anything, and parents that wait for them.

A child here is an API server without a model: it gets a bound socket and one end of a pipe, loads for a while, listens,
sends "READY", and answers every request. It imports nothing heavy, because each child imports this file.

Taught in: 07_how_do_strangers_find_each_other
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from traceback import walk_tb
from typing import Any

from lab_support.instruments.proc import read_descriptors

LOADS = 1.5  # seconds that a slow child loads
FATES = ("prompt", "slow", "killed", "raises", "stuck", "eager", "leaves")
"""prompt: ready at once. slow: ready after loading. killed: SIGKILL while it loads. raises: in its first import.
stuck: neither ready nor dead. eager: ready at once, and says so once more a little later. leaves: says READY, and is
killed a little later."""

_LOADING = {"prompt": 0.0, "killed": 0.3, "stuck": 60.0, "eager": 0.0, "leaves": 0.0}  # seconds
_LATER = 0.3  # seconds
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_PATIENCE = 1.0  # seconds for one answer
_MOST = 8.0  # seconds for a parent that never comes back


# ---- in the child ----------------------------------------------------------------------------------------------------


def api_server(fate: str, loads: float, pipe: Connection, log: Connection, sock: socket.socket) -> None:
    """Runs in a child, until the parent has closed its end of `pipe`, or is gone.

    log: it says when this child can begin to load, and is told to; then it gets the time of this child's event.
    """
    _await_begin(log)
    if fate == "raises":
        sys.tracebacklimit = 0  # one line on stderr is enough
        log.send(time.monotonic())
        import a_library_that_is_not_installed  # type: ignore[import-not-found] # noqa: F401
    _load(pipe, _LOADING.get(fate, loads))
    if fate == "killed":
        _die(log)
    sock.listen()
    log.send(time.monotonic())
    pipe.send("READY")
    if fate in ("eager", "leaves"):
        _load(pipe, _LATER)
    if fate == "leaves":
        _die(log)
    if fate == "eager":
        pipe.send("READY")
    _answer_all(sock, pipe)


def _await_begin(log: Connection) -> None:
    log.send("here")
    try:
        log.recv()
    except EOFError:  # the parent is gone
        os._exit(0)


def _load(pipe: Connection, seconds: float) -> None:
    """Wait, or end if the parent is gone: nothing is ever sent this way, so readable means an end."""
    if pipe.poll(seconds):
        os._exit(0)


def _die(log: Connection) -> None:
    log.send(time.monotonic())
    os.kill(os.getpid(), signal.SIGKILL)


def _answer_all(sock: socket.socket, pipe: Connection) -> None:
    while pipe not in connection.wait([sock, pipe]):
        client, _ = sock.accept()
        with client, suppress(OSError):
            client.recv(1000)
            client.sendall(_ANSWER)


# ---- in the parent ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Child:
    """A child as its parent sees it.

    pipe: the parent's end. theirs: the child's, which is open in the parent as well, under the inode `end`.
    """

    name: str
    process: Any
    pipe: Connection
    theirs: Connection
    end: int
    port: int
    log: Connection = field(repr=False)

    @property
    def sentinel(self) -> int:
        """Readable once the child has ended."""
        return int(self.process.sentinel)

    def is_alive(self) -> bool:
        return bool(self.process.is_alive())

    def answers_health(self) -> bool:
        """Whether GET /health gets an answer from it within a second."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE) as client:
                client.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                return client.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def event(self) -> float | None:
        """The time at which it was ready, or died; None if neither has happened yet."""
        times = []
        with suppress(EOFError, OSError):
            while self.log.poll():
                times.append(self.log.recv())
        return times[-1] if times else None

    def held_by(self) -> list[str]:
        """The processes that hold the child's end of the pipe, as the kernel lists them in /proc/PID/fd."""
        pids = {"the parent": os.getpid(), "the child": self.process.pid}
        return [who for who, pid in pids.items() if self.end in {each.inode for each in read_descriptors(pid)}]


@contextmanager
def started(
    fates: Mapping[str, str], loads: float = LOADS, all_here: Callable[[], None] = lambda: None
) -> Iterator[list[Child]]:
    """Children by spawn, in a list: for each name the child with this fate. They are killed at the end of the block.

    All begin to load at the same time, just now, so that no wait depends on how long the machine takes to start Python.
    all_here: called before that; see `at_the_same_time`.
    """
    with ExitStack() as stack:
        children = [stack.enter_context(_one(name, fate, loads)) for name, fate in fates.items()]
        for child in children:
            child.log.recv()
        all_here()
        for child in children:
            child.log.send("begin")
        yield children


@contextmanager
def _one(name: str, fate: str, loads: float) -> Iterator[Child]:
    if fate not in FATES:
        raise ValueError(f"got fate {fate!r}, expected one of {', '.join(FATES)}")
    ours, theirs = multiprocessing.Pipe()
    log, childs_log = multiprocessing.Pipe()
    with ours, theirs, log, socket.socket() as sock:
        end = os.fstat(theirs.fileno()).st_ino
        sock.bind(("127.0.0.1", 0))  # bound, as vLLM's launcher does; the child listens
        given = (fate, loads, theirs, childs_log, sock)
        process = multiprocessing.get_context("spawn").Process(target=api_server, args=given, name=name)
        process.start()
        childs_log.close()
        try:
            yield Child(name, process, ours, theirs, end, sock.getsockname()[1], log)
        finally:
            process.kill()
            process.join()


# ---- many parents at once --------------------------------------------------------------------------------------------

Parent = Callable[[Child], str]


def waiter(child: Child, limit: float = 3.0) -> str:
    """A parent that waits for a message of its child and for the end of its child, whichever comes first."""
    came = connection.wait([child.pipe, child.sentinel], limit)
    if child.pipe in came:
        return "ready"
    return "dead" if came else "late"


def each_with_each(parents: Sequence[Parent], fates: Sequence[str], loads: float = LOADS) -> list[dict[str, Any]]:
    """Let each parent wait for a child of each fate, every pair in a process of its own, and all at the same time.

    A row for each: `parent`, `child`, the parent's answer as `said` (or the text of its error, whose line in the parent
    is `line` then, or "no answer"), the seconds that it `waited`, the seconds `after` the child's event (None if that
    had not happened), whether a client was `served` after "ready", and the processes by which the child's end of the
    pipe was `held` then.
    """
    pairs = [(parent, fate) for parent in parents for fate in fates]
    jobs = {f"{parent.__name__} {fate}": partial(_watch, parent, fate, loads) for parent, fate in pairs}
    answers = at_the_same_time(jobs)
    return [
        {"parent": parent.__name__, "child": fate} | _row(answers[f"{parent.__name__} {fate}"])
        for parent, fate in pairs
    ]


def _row(answer: Any) -> dict[str, Any]:
    if isinstance(answer, dict):
        return answer
    return {"said": answer, "waited": None, "after": None, "served": None, "held": []}


def _watch(parent: Parent, fate: str, loads: float, all_here: Callable[[], None]) -> dict[str, Any]:
    with started({"api-0": fate}, loads, all_here) as (child,):
        begun = time.monotonic()
        try:
            said = parent(child)
        except Exception as error:
            return _row(f"{type(error).__name__}: {error}") | {"line": _line_in(parent, error)}
        heard = time.monotonic()
        served = child.answers_health() if said == "ready" else None
        event = child.event() or heard + 1.0
        after = round(heard - event, 2) if event <= heard else None
        return {
            "said": said,
            "waited": round(heard - begun, 2),
            "after": after,
            "served": served,
            "held": child.held_by(),
        }


def _line_in(function: Parent, error: Exception) -> int:
    """The line of `function` in which it raised the error; 0 if it could not be called."""
    frames = walk_tb(error.__traceback__)
    return next((line for frame, line in frames if frame.f_code.co_name == function.__name__), 0)


Job = Callable[[Callable[[], None]], Any]


def at_the_same_time(jobs: Mapping[str, Job], seconds: float = _MOST) -> dict[str, Any]:
    """Run each job in a forked process of its own. Returns what each returned, or the text of its error.

    A job calls its argument once it is prepared; this returns when all are. A job that has not come back `seconds`
    later is killed, and "no answer" is in its place. All processes have been waited for.
    """
    resource_tracker.ensure_running()  # else each of them starts its own
    with ExitStack() as stack:
        ends = {name: stack.enter_context(_forked(name, job)) for name, job in jobs.items()}
        early = {name: end.recv() for name, end in ends.items()}
        here = [name for name, message in early.items() if message == _HERE]
        for name in here:
            ends[name].send("begin")
        deadline = time.monotonic() + seconds
        return early | {name: _answer_of(ends[name], deadline) for name in here}


_HERE = "here"


def _answer_of(end: Connection, deadline: float) -> Any:
    with suppress(EOFError):
        if end.poll(max(0.0, deadline - time.monotonic())):
            return end.recv()
    return "no answer"


@contextmanager
def _forked(name: str, job: Job) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_report, args=(job, theirs), name=name)
    process.start()
    theirs.close()
    with ours:
        try:
            yield ours
        finally:
            process.kill()
            process.join()


def _report(job: Job, pipe: Connection) -> None:
    def all_here() -> None:
        pipe.send(_HERE)
        pipe.recv()

    try:
        answer = job(all_here)
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    pipe.send(answer)

"""A worker and its parent, and one event: does the worker end with its parent, outlive it, or die too early?

The worker takes a precaution, `arm(parent, pipe)`, before it works: parent is the pid of the process that made it, pipe
the read end of a pipe whose write end that process holds. All processes are small forks of the calling one, which is a
subreaper, so it inherits an orphan and waits for it. Call it in a cell's process, while that has one thread.

Taught in: 09_who_notices_a_death
"""

import ctypes
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from lab_support.instruments import fdinfo, proc
from lab_support.instruments.kernel import wait_until_asleep
from lab_support.signal_names import signal_name

Arm = Callable[[int, int], object]

KILLED = "the parent is killed"
KILLED_EARLY = "the parent is killed before the precaution is taken"
THREAD_ENDED = "the thread that made the worker ends"
SIBLING = "the parent has forked a sibling, and is killed"
STOPPED = "the worker is stopped, and the parent is killed"
HOLDS_THE_LOCK = "the worker is in C code that holds Python's lock, and the parent is killed"
EVENTS = (KILLED, KILLED_EARLY, THREAD_ENDED, SIBLING, STOPPED, HOLDS_THE_LOCK)
"""The events, in words: the parent is killed, killed early, and so on."""
ENDS, LIVES_ON, TOO_EARLY = "it ends", "it lives on", "it dies, and its parent lives"

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
_SECONDS = 0.7  # after which a worker counts as alive
_PATIENCE = 5.0  # seconds for a precaution to return


@dataclass(frozen=True, slots=True)
class _Family:
    """Pids, and the inode of the pipe."""

    parent: int
    pipe: int
    worker: int
    others: list[int]

    def writers(self) -> list[str]:
        """The processes that hold the pipe's write end, by role."""
        roles = [("the parent", self.parent), ("the worker", self.worker), *(("a sibling", pid) for pid in self.others)]
        return [role for role, pid in roles if _can_write(pid, self.pipe)]


class _Gates(NamedTuple):
    """Ends of three pipes. The worker takes its precaution once `may_arm` is at its end, and then writes to `tell`. The
    thread that made it ends once `may_end` is at its end."""

    told: int
    tell: int
    may_arm: int
    allow: int
    may_end: int
    let_end: int


def fate(arm: Arm, event: str, *, seconds: float = _SECONDS) -> dict[str, Any]:
    """Make a family, let the event happen, and tell the worker's fate after so many seconds; for `emit`.

    Returns `event`, `precaution` (the name of `arm`), `fate` (one of `ENDS`, `LIVES_ON`, `TOO_EARLY`), `how`, the
    worker's exit code or signal in words, "" as long as it lives, and `writers`, the processes that still hold the
    pipe's write end, by /proc. A precaution that raises ends its worker, as an exception ends any process. Raises
    `ValueError` for an unknown event, or for seconds below 0, and `TimeoutError` for a precaution that does not return.
    """
    if event not in EVENTS or seconds < 0:
        raise ValueError(f"got event {event!r} and {seconds} s, expected one of {', '.join(EVENTS)}, and 0 s or more")
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gates = _Gates(*os.pipe(), *os.pipe(), *os.pipe())
    family = _make(arm, event, gates)
    once = _Once()
    with ExitStack() as stack:
        # At the end in the opposite order: only the children of a parent that has ended are this process's to wait for.
        for pid in (family.worker, *family.others, family.parent):
            stack.callback(once.end, pid)
        for descriptor in (gates.told, gates.let_end, worker := os.pidfd_open(family.worker)):
            stack.callback(_close, descriptor)
        for descriptor in (gates.tell, gates.may_arm, gates.may_end):
            os.close(descriptor)
        if event == KILLED_EARLY:
            once.end(family.parent)
        os.close(gates.allow)
        armed = _has_armed(gates.told)
        if event == STOPPED:
            _stop(family.worker)
        if event == HOLDS_THE_LOCK:
            wait_until_asleep([family.worker], seconds)
        if event in (KILLED, SIBLING, STOPPED, HOLDS_THE_LOCK):
            once.end(family.parent)
        if event == THREAD_ENDED:
            os.close(gates.let_end)
        ended = _has_ended(worker, seconds)
        writers = family.writers()
        once.end(family.parent)  # now at the latest, so that this process is the one that waits for the worker
        how = _in_words(worker) if ended else None
    early = event == THREAD_ENDED or (not armed and event != KILLED_EARLY)
    found = LIVES_ON if how is None else TOO_EARLY if early else ENDS
    return {
        "event": event,
        "precaution": getattr(arm, "__name__", repr(arm)),
        "fate": found,
        "how": how or "",
        "writers": writers,
    }


def _make(arm: Arm, event: str, gates: _Gates) -> _Family:
    reads, writes = os.pipe()
    parent = os.fork()
    if parent == 0:
        with _ends_here():
            os.close(reads)
            _be_the_parent(arm, event, gates, writes)
    os.close(writes)
    with open(reads, encoding="ascii") as said:
        pipe, worker, *others = map(int, said.read().split())
    return _Family(parent, pipe, worker, others)


def _be_the_parent(arm: Arm, event: str, gates: _Gates, writes: int) -> NoReturn:
    for descriptor in (gates.allow, gates.let_end):  # otherwise these copies would keep the pipes from their end
        os.close(descriptor)
    pipe, write_end = os.pipe()
    me, work = os.getpid(), _hold_the_lock if event == HOLDS_THE_LOCK else _rest

    def make_worker() -> int:
        if (worker := os.fork()) == 0:
            with _ends_here():
                os.close(write_end)
                os.close(writes)
                _be_the_worker(arm, me, pipe, gates, work)
        return worker

    if event == THREAD_ENDED:
        _end_a_thread_that(make_worker, gates, pipe, writes)
    else:
        pids = [make_worker()]
        os.close(gates.tell)
        if event == SIBLING:
            pids.append(_fork_sibling(writes))
        _say(pids, pipe, writes)
    _rest()


def _end_a_thread_that(makes_the_worker: Callable[[], int], gates: _Gates, pipe: int, writes: int) -> None:
    """The thread lives until it may end, so that the worker can take its precaution before."""

    def work() -> None:
        worker = makes_the_worker()
        os.close(gates.tell)
        _say([worker], pipe, writes)
        os.read(gates.may_end, 1)

    maker = threading.Thread(target=work)
    maker.start()
    maker.join()


def _fork_sibling(writes: int) -> int:
    """A process with a copy of every descriptor of its parent."""
    if (sibling := os.fork()) == 0:
        with _ends_here():
            os.close(writes)
            _rest()
    return sibling


def _say(pids: list[int], pipe: int, writes: int) -> None:
    os.write(writes, " ".join(map(str, [os.fstat(pipe).st_ino, *pids])).encode())
    os.close(writes)


def _be_the_worker(arm: Arm, parent: int, pipe: int, gates: _Gates, work: Callable[[], NoReturn]) -> NoReturn:
    os.read(gates.may_arm, 1)  # returns at the pipe's end
    arm(parent, pipe)
    os.write(gates.tell, b"!")
    work()


def _hold_the_lock() -> NoReturn:
    while True:
        ctypes.PyDLL(None).sleep(1000)  # unlike CDLL, PyDLL keeps the lock during the call


def _rest() -> NoReturn:
    while True:
        signal.pause()


@contextmanager
def _ends_here() -> Iterator[None]:
    """The calling process is a fork: it must not go on in its caller's code, neither at an error nor at Ctrl-C."""
    try:
        yield
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1 if end.code else 0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


class _Once:
    """Kills each process once and waits for it: afterwards its pid may be another's."""

    def __init__(self) -> None:
        self._gone: set[int] = set()

    def end(self, pid: int) -> None:
        if pid in self._gone:
            return
        self._gone.add(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _stop(pid: int) -> None:
    """Returns once no thread runs: kill(2) returns before a thread on another core has stopped. Z: it has ended."""
    os.kill(pid, signal.SIGSTOP)
    while set(proc.read_thread_states(pid).values()) - {"T", "Z"}:
        time.sleep(0.0005)


def _can_write(pid: int, pipe: int) -> bool:
    ends = [each.number for each in proc.read_descriptors(pid) if each.kind == "pipe" and each.inode == pipe]
    infos = [fdinfo.read_fdinfo(pid, number) for number in ends]
    return any(info is not None and info.access != fdinfo.READ for info in infos)


def _close(descriptor: int) -> None:
    with suppress(OSError):  # it has been closed on the way
        os.close(descriptor)


def _has_armed(told: int) -> bool:
    """Whether the worker has taken its precaution; otherwise it has ended instead."""
    if not select.select([told], [], [], _PATIENCE)[0]:
        raise TimeoutError(f"got a precaution that still runs after {_PATIENCE:g} s, expected a function that returns")
    return os.read(told, 1) != b""


def _has_ended(worker: int, seconds: float) -> bool:
    waiting = select.poll()
    waiting.register(worker, select.POLLIN)
    return bool(waiting.poll(1000 * seconds))


def _in_words(worker: int) -> str:
    """How it ended. It stays to be waited for."""
    ended = os.waitid(os.P_PIDFD, worker, os.WEXITED | os.WNOWAIT)
    assert ended
    by_itself = ended.si_code == os.CLD_EXITED
    return f"exit code {ended.si_status}" if by_itself else f"killed by {signal_name(ended.si_status)}"

"""A launcher's children that end, and a rule by which the launcher waits for all of them.

The rule is a function `rule(children, asked, start)`, as vLLM's `wait_for_completion_or_failure`. Each ending is played
by a family of its own: a launcher and its children, all of them small forks of the calling process, and this process
sends the signals. A SIGTERM to the launcher asks all its children to end, as in a real server, and SIGUSR1 asks api-1
alone. Call it in a cell's process, while that has one thread.

Taught in: 09_who_notices_a_death
"""

import ctypes
import multiprocessing
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any, NoReturn

from lab_support.notebook.stages.start_up import at_the_same_time

CLEAN, KILLED, TWICE = "api-0 ends with exit code 0", "api-0 is killed", "api-0 is killed, and then its successor"
COORDINATOR, ASKED = "the coordinator ends with exit code 0", "all are asked to end, and do"
BREAKS = "api-0 is killed, and each successor breaks at once"
THEN_ANOTHER = "api-0 is killed, and then the coordinator"
ONE_ASKED = "api-1 is asked to end, and api-0 is killed"
ENDINGS = (CLEAN, KILLED, TWICE, THEN_ANOTHER, COORDINATOR, ONE_ASKED, ASKED, BREAKS)
"""The endings, in words: an API server or the coordinator ends, or all do."""
RAISES, RETURNS, WAITS, FAILS = "raises", "returns", "waits on", "fails"
MOST_STARTS, MOST_LIVING = 100, 5
"""The launcher stands still at this successor, where each of them breaks, and where they live."""

_ROLES = ("api-0", "api-1", "coordinator")
_SECONDS = 1.0  # that a rule has to react
_PATIENCE = 3.0  # seconds that it has where its reaction ends the wait
_LONGEST = 20.0  # seconds for all of it
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class Child(ForkProcess):
    """A child of the launcher. exitcode: as of any `Process`, but it waits for the end."""

    @property
    def exitcode(self) -> int | None:
        self.join()
        return super().exitcode


Rule = Callable[[Sequence[Child], set[str], Callable[[str], Child]], object]


def after(rule: Rule, endings: Sequence[str]) -> list[dict[str, Any]]:
    """Let each ending happen to a launcher that waits by `rule`; a row for each, for `emit`.

    `ending`; `did`: `RAISES` (a `RuntimeError`), `RETURNS`, `WAITS`, or `FAILS` with any other error; `said`, the
    error's text; `left`, the children that run then; `starts`, the number of successors; `stopped`, if it waited on:
    its reaction when all have ended because they were asked to. A family that could not be tried has the reason in
    `said`, and `did` is "".
    """
    for ending in endings:
        if ending not in ENDINGS:
            raise ValueError(f"got ending {ending!r}, expected one of {', '.join(ENDINGS)}")
    answers = at_the_same_time({ending: partial(_play, rule, ending) for ending in endings}, _LONGEST)
    nothing = {"did": "", "left": [], "starts": 0, "stopped": ""}
    return [
        {"ending": ending} | (answer if isinstance(answer, dict) else nothing | {"said": answer})
        for ending, answer in answers.items()
    ]


# ---- in the launcher -------------------------------------------------------------------------------------------------


@dataclass
class _Launcher:
    """tell: each child, and the end, are told to whoever sends the signals."""

    tell: Connection
    breaks: bool
    parent: int = field(default_factory=os.getpid)
    children: list[Child] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    starts: int = 0

    def run(self, rule: Rule) -> None:
        _die_with(self.parent)
        for name in _ROLES:
            self._make(name, breaks=False)
        signal.signal(signal.SIGTERM, lambda *_: self._ask(self.children))
        signal.signal(signal.SIGUSR1, lambda *_: self._ask(self.children[1:2]))
        self.tell.send(("here", os.getpid()))
        try:
            rule(list(self.children), self.asked, self.start)
            self.tell.send((RETURNS, ""))
        except RuntimeError as error:
            self.tell.send((RAISES, str(error)))
        except Exception as error:
            self.tell.send((FAILS, f"{type(error).__name__}: {error}"))
        signal.pause()

    def start(self, name: str) -> Child:
        """Given to the rule."""
        self.starts += 1
        child = self._make(name, self.breaks)
        if self.starts == (MOST_STARTS if self.breaks else MOST_LIVING):
            signal.pause()
        return child

    def _make(self, name: str, breaks: bool) -> Child:
        here, tells = multiprocessing.Pipe(duplex=False)
        child = Child(target=_live, args=(tells, breaks, os.getpid()), name=name)
        child.start()
        tells.close()
        with here, suppress(EOFError):  # it has broken
            here.recv()
        self.children.append(child)
        self.tell.send((name, child.pid))
        return child

    def _ask(self, children: Sequence[Child]) -> None:
        """Asked first, so that the rule knows it when the end comes."""
        self.asked |= {child.name for child in children}
        for child in children:
            child.terminate()


def _live(tells: Connection, breaks: bool, parent: int) -> NoReturn:
    _die_with(parent)
    if breaks:
        os._exit(1)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    tells.send("here")
    while True:
        signal.pause()


def _die_with(parent: int) -> None:
    """The main thread of each of them makes the next ones, and waits for them."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before the signal was asked for
        os._exit(1)


# ---- outside ---------------------------------------------------------------------------------------------------------


def _play(rule: Rule, ending: str, all_here: Callable[[], None]) -> dict[str, Any]:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    launcher = ForkProcess(target=_Launcher(theirs, ending == BREAKS).run, args=(rule,), name="launcher")
    launcher.start()
    theirs.close()
    family = _Family(ours)
    try:
        family.hear(lambda: bool(family.here), _PATIENCE)
        all_here()
        return family.play(ending)
    finally:
        launcher.kill()
        launcher.join()
        family.close()


@dataclass
class _Family:
    """Those whom the launcher has told of, as seen from outside. ends: the pidfd of each, by name, the newest last."""

    told: Connection
    here: int = 0
    did: str = ""
    said: str = ""
    made: list[str] = field(default_factory=list)
    ends: list[tuple[str, int]] = field(default_factory=list)

    def play(self, ending: str) -> dict[str, Any]:
        self._let_happen(ending)
        breaks = ending == BREAKS
        self.hear(lambda: bool(self.did) or (breaks and self.starts == MOST_STARTS), _PATIENCE if breaks else _SECONDS)
        found = {"did": self.did or WAITS, "said": self.said, "left": self.running(), "starts": self.starts}
        return found | {"stopped": "" if self.did else self._stop()}

    @property
    def starts(self) -> int:
        return len(self.made) - len(_ROLES)

    def running(self) -> list[str]:
        return sorted(name for name, end in self.ends if not select.select([end], [], [], 0)[0])

    def hear(self, until: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not until() and self.told.poll(max(0.0, deadline - time.monotonic())):
            self._take(*self.told.recv())

    def close(self) -> None:
        """Once all of them have ended."""
        for _, end in self.ends:
            select.select([end], [], [])
            os.close(end)

    def _let_happen(self, ending: str) -> None:
        if ending in (CLEAN, COORDINATOR):
            self._signal("coordinator" if ending == COORDINATOR else "api-0", signal.SIGTERM)
        elif ending == ASKED:
            self._stop()
        else:
            if ending == ONE_ASKED:
                os.kill(self.here, signal.SIGUSR1)
                select.select([dict(self.ends)["api-1"]], [], [], _PATIENCE)
            self._signal("api-0", signal.SIGKILL)
        if ending in (TWICE, THEN_ANOTHER):
            self.hear(lambda: bool(self.starts or self.did), _PATIENCE)
            self._signal("api-0" if ending == TWICE else "coordinator", signal.SIGKILL)

    def _stop(self) -> str:
        os.kill(self.here, signal.SIGTERM)
        self.hear(lambda: bool(self.did), _PATIENCE)
        return self.did or WAITS

    def _signal(self, name: str, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(dict(self.ends)[name], number)

    def _take(self, what: str, about: Any) -> None:
        if what == "here":
            self.here = about
        elif what in (RAISES, RETURNS, FAILS):
            self.did, self.said = what, about
        else:
            self.made.append(what)
            with suppress(ProcessLookupError):  # it has ended, and been waited for
                self.ends.append((what, os.pidfd_open(about)))

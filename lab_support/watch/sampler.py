"""The one thread that looks at the server, for all tabs: figures four times a second, X-rays when the tree changes.

While no tab is open it sleeps. Without a change there is an X-ray every two seconds, or so seldom that X-rays take a
fiftieth of a core: on a large tree one takes a tenth of a second. It ends when the tree has, or when it is closed.
Runs in the process that watches.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from lab_support.instruments.proc import Identity
from lab_support.instruments.xray.graph import Graph
from lab_support.instruments.xray.read import NoSuchProcess, take_xray
from lab_support.instruments.xray.svg import svg
from lab_support.instruments.xray.text import text
from lab_support.watch.ends import Ends
from lab_support.watch.events import Chronicle, Event
from lab_support.watch.hub import FIGURES, XRAY, Hub, clock
from lab_support.watch.looks import Look, Looker

EVERY, XRAY_EVERY = 0.25, 2.0
_AT_LEAST = 0.05  # seconds between two looks, and ten times that between X-rays, when many processes end or are born
_XRAY_SHARE = 0.02  # of a core
_COST_LOOKS = 40  # over which the watcher's own cost is averaged
_STARRED = 10.0  # seconds for which a new process or object has its star
_FULL_SEARCH = 10.0  # seconds between two searches of all processes for holders outside the tree
ENDED = "All processes of this server have ended. This is the last picture of them."


class Sampler:
    """Looks at the tree below `root` and tells `hub`. more: further figures for each message, such as the engines'."""

    def __init__(self, root: Identity, hub: Hub, more: Callable[[], dict[str, Any]]) -> None:
        self.look: Look | None = None
        self._root, self._hub, self._more = root, hub, more
        self._looker, self._chronicle = Looker(root), Chronicle()
        self._xrays = _XRays(root.pid)
        self._ended: set[Identity] = set()
        self._spent: deque[tuple[float, float]] = deque(maxlen=_COST_LOOKS)
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, events: list[Event]) -> None:
        """Give all tabs these events."""
        self._hub.happened([asdict(event) for event in events])

    def _cost(self) -> float | None:
        """This process's share of a core in the last seconds."""
        self._spent.append((time.monotonic(), time.process_time()))
        (then, before), (now, after) = self._spent[0], self._spent[-1]
        return round((after - before) / (now - then), 4) if now > then else None

    def _run(self) -> None:
        with Ends() as ends:
            while self._hub.await_tabs():
                self._look(ends)
                if self.look is not None and not self.look.running:
                    self._hub.close(ENDED)
                    return
                time.sleep(_AT_LEAST)
                ends.wait(EVERY - _AT_LEAST)

    def _look(self, ends: Ends) -> None:
        look = self._looker.look()
        running = {member.identity for member in look.running}
        self._ended |= set(ends.ended())
        statuses = {identity: how for identity in self._ended if (how := ends.status(identity)) is not None}
        events = self._chronicle.update(look, statuses, clock())
        for identity in self._ended - running:
            ends.forget(identity)
        self._ended &= running
        ends.watch(running - self._ended)
        self.look = look
        self._hub.publish(FIGURES, {"at": clock(), "cost": self._cost(), **look.as_data(), **self._more()})
        self.tell(events)
        if (picture := self._xrays.next(look, again=not self._hub.has(XRAY))) is not None:
            self._hub.publish(XRAY, picture)


class _XRays:
    """The X-rays, as messages: each when it is due."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._taken: deque[tuple[float, Graph]] = deque()
        self._people: frozenset[Identity] = frozenset()
        self._at = self._searched = float("-inf")
        self._cost = 0.0
        self._shown: tuple[Graph, Graph] | None = None

    def next(self, look: Look, *, again: bool) -> dict[str, Any] | None:
        """An X-ray if one is due and differs from the last; None otherwise. again: in any case."""
        if again:
            self._at, self._shown = float("-inf"), None
        people = frozenset(member.identity for member in look.running)
        wait = 10 * _AT_LEAST if people != self._people else max(XRAY_EVERY, self._cost / _XRAY_SHARE)
        if look.at < self._at + wait:
            return None
        began = time.thread_time()
        try:
            message = self._take(look.at)
        except NoSuchProcess:
            return None  # the root has ended; the last picture stays
        self._at, self._people, self._cost = look.at, people, time.thread_time() - began
        return message

    def _take(self, now: float) -> dict[str, Any] | None:
        search = now > self._searched + _FULL_SEARCH
        known = [one.pid for one in self._taken[-1][1].processes if one.outside] if self._taken else []
        graph = take_xray(self._pid, outside=True if search else known)
        self._searched = now if search else self._searched
        self._taken.append((now, graph))
        while len(self._taken) > 1 and self._taken[0][0] < now - _STARRED:
            self._taken.popleft()
        shown = self._taken[0][1], graph
        if shown == self._shown:
            return None
        self._shown = shown
        before = shown[0] if shown[0] is not graph else None
        return {"svg": svg(graph, before), "text": text(graph)}

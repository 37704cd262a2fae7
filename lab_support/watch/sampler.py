"""The one thread that looks at the server, for all tabs. While no tab is open it sleeps.

It ends when all processes of the tree have, or when the hub is closed. Runs in the process that watches.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from lab_support.instruments.proc import Identity
from lab_support.instruments.xray.svg import svg
from lab_support.instruments.xray.text import text
from lab_support.watch.events import Event
from lab_support.watch.hub import FIGURES, XRAY, Hub, clock
from lab_support.watch.looks import Look
from lab_support.watch.observer import Observer

ENDED = "All processes of this server have ended. This is the last picture of them."
_COST_LOOKS = 40  # over which the watcher's own cost is averaged


class Sampler:
    """Looks at the tree below `root` and tells `hub`.

    more: further figures for each message, such as the engines'. ours: as in `Observer`.
    """

    def __init__(
        self, root: Identity, hub: Hub, more: Callable[[], dict[str, Any]], ours: Callable[[], Collection[str]]
    ) -> None:
        self.look: Look | None = None
        self._root, self._hub, self._more, self._ours = root, hub, more, ours
        self._spent: deque[tuple[float, float]] = deque(maxlen=_COST_LOOKS)
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, events: list[Event]) -> None:
        """Give all tabs these events."""
        self._hub.happened([asdict(event) for event in events])

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # otherwise the tabs would stay open on an old picture
            self._hub.close(f"The watcher failed: {type(error).__name__}: {error}. This is its last picture.")
            raise

    def _watch(self) -> None:
        with Observer(self._root, self._ours) as observer:
            while self._hub.await_tabs():
                self._look(observer)
                if self.look is not None and not self.look.running:
                    self._hub.close(ENDED)
                    return
                observer.wait()

    def _look(self, observer: Observer) -> None:
        seen = observer.observe(again=not self._hub.has(XRAY))
        self.look = seen.look
        self._hub.publish(FIGURES, {"at": clock(), "cost": self._cost(), **seen.look.as_data(), **self._more()})
        self.tell(seen.events)
        if seen.xray is not None:
            graph = seen.xray.graph
            self._hub.publish(XRAY, {"svg": svg(graph, seen.xray.before), "text": text(graph)})

    def _cost(self) -> float | None:
        """This process's share of a core in the last seconds."""
        self._spent.append((time.monotonic(), time.process_time()))
        (then, before), (now, after) = self._spent[0], self._spent[-1]
        return round((after - before) / (now - then), 4) if now > then else None

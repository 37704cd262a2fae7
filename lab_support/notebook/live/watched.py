"""`lab.watch`: a live picture of a server in the cell, updated in place while other cells run; the last one stays.

The picture is that of `lab watch`: figures of each process, engine cores, events, and the X-ray. A thread of the kernel
draws it twice a second, and reads /proc and the server's /metrics. It ends with the server, after some time, at `stop`,
and with the kernel. Batch runs show only the last picture.
"""

import os
import re
import threading
import time
from typing import Any, Self

from IPython import get_ipython
from IPython.display import DisplayHandle, display

from lab_support.instruments import proc
from lab_support.instruments.process_name import short_name
from lab_support.instruments.xray.read import NoSuchProcess
from lab_support.notebook.figures.xray import XRay, without_onlookers
from lab_support.notebook.page.record import STABLE, in_batch
from lab_support.notebook.servers.live_server import Server
from lab_support.watch.engine_figures import EngineFigures, EngineWatch
from lab_support.watch.events import Event
from lab_support.watch.observer import Observation, Observer
from lab_support.watch.still import above, finding, still

_FRAME = 0.5  # seconds between two pictures, at least
_NO_URL = "only a server that `lab.live_server` has started is asked"

_running: list["LivePicture"] = []
"""The one mutable state here: a new watch ends the one before, whose variable a cell may have overwritten."""


class LivePicture:
    """A watch of one process tree, from `lab.watch`. A context manager: leaving it stops the watch.

    events: everything that happened so far, one sentence each.
    """

    def __init__(self, root: proc.Process, server: Server | None, seconds: float) -> None:
        self._name, self._until = short_name(root), time.monotonic() + seconds
        self._over = threading.Event()
        self._engines = EngineWatch(server.url, server.api_key, self._goes_on) if server else None
        self._observer = Observer(root.identity, self._engines.ours if self._engines else tuple)
        self._events: list[Event] = []
        self._news = threading.Condition()
        self._labels: dict[int, str] = {}
        self._began = time.time()
        self._place: DisplayHandle | None = None
        self._xray: XRay | None = None
        self._seen = self._observe()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"{'watching' if self._thread.is_alive() else 'watched'}: {finding(self._seen.look, self._name)}"

    @property
    def events(self) -> list[str]:
        return [self._in_words(event) for event in self._events]

    def await_event(self, words: str, seconds: float = 30.0) -> bool:
        """Wait for an event with these words in its sentence. False: none came in time, or the watch ended before."""
        deadline = time.monotonic() + seconds
        with self._news:
            while not any(words in event for event in self.events):
                left = deadline - time.monotonic()
                if left <= 0 or self._over.is_set():
                    return False
                self._news.wait(left)
        return True

    def _start(self) -> None:
        """Show the first picture in the current cell, and go on in a thread."""
        if get_ipython() is not None:
            data, metadata = self._repr_mimebundle_()
            self._place = display(data, metadata=metadata, raw=True, display_id=True)
        if self._engines:
            self._engines.start()
        self._thread.start()

    def stop(self) -> None:
        """When it returns, the last picture is in its cell and the thread has ended. Again is harmless."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self in _running:
            _running.remove(self)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        words = "\n".join([finding(self._seen.look, self._name), *self.events[-6:]])
        figures = self._engines.figures if self._engines else EngineFigures(reason=_NO_URL)
        lines = [(f"+{event.at - self._began:.1f} s:", self._relabelled(event)) for event in self._events]
        picture = still(self._seen.look, figures, lines, self._name, self._label)
        if self._xray is not None:
            data, _ = self._xray._repr_mimebundle_()
            picture = above(picture, data["image/svg+xml"])
        return {"image/svg+xml": picture, "text/plain": words}, {"image/svg+xml": {"alt": words}}

    def _goes_on(self) -> bool:
        return not self._over.is_set()

    def _run(self) -> None:
        with self._observer:
            drawn = time.monotonic()
            while self._seen.look.running and not self._over.is_set() and time.monotonic() < self._until:
                self._observer.wait()
                self._seen = self._observe()
                if time.monotonic() > drawn + _FRAME and not in_batch():
                    drawn = time.monotonic()
                    self._draw()
            self._seen = self._observe(again=True)
            self._draw()
        self._over.set()
        with self._news:
            self._news.notify_all()

    def _observe(self, *, again: bool = False) -> Observation:
        seen = self._observer.observe(again=again)
        with self._news:
            self._events += seen.events
            self._news.notify_all()
        for member in seen.look.members:
            self._labels.setdefault(member.pid, f"P{len(self._labels)}")
        if seen.xray is not None:
            self._xray = XRay(without_onlookers(seen.xray.graph), met=tuple(self._labels))
        return seen

    def _draw(self) -> None:
        if self._place is not None:
            data, metadata = self._repr_mimebundle_()
            self._place.update(data, metadata=metadata, raw=True)

    def _label(self, pid: int) -> str:
        """The pid; in published notebooks a label that the next run has, too."""
        return self._labels.get(pid, str(pid)) if os.environ.get(STABLE) else str(pid)

    def _in_words(self, event: Event) -> str:
        return re.sub(r"\b\d+\b", lambda found: self._label(int(found[0])), event.words)

    def _relabelled(self, event: Event) -> Event:
        return Event(event.at, event.kind, event.pid, self._in_words(event))


def watch(what: Server | int, seconds: float = 120.0) -> LivePicture:
    """Show a server, or a process by its pid with all descendants, while it works; other cells can run meanwhile.

    The picture is updated in place for so many `seconds`, until the server ends or until `stop`; then the last one
    stays. Another watch ends this one. Raises `NoSuchProcess` if the process has ended.
    """
    pid = what if isinstance(what, int) else what.pids["launcher"]
    root = proc.read_process(pid)
    if root is None or root.ended:
        raise NoSuchProcess(f"got pid {pid}, expected a running process")
    for earlier in list(_running):
        earlier.stop()
    watched = LivePicture(root, None if isinstance(what, int) else what, seconds)
    _running.append(watched)
    watched._start()
    return watched

"""Messages from the one sampler to all tabs: the latest figures, the latest X-ray, and the events of the last minutes.

A tab that is slow misses figures, and never makes a queue grow: it takes the latest of each kind when it is ready for
more. Runs in the process that watches, between its threads.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FIGURES, XRAY, HAPPENED, OVER = "figures", "xray", "happened", "over"
_ORDER = (FIGURES, XRAY, HAPPENED, OVER)
_KEPT_EVENTS = 500


class Hub:
    """The place where the sampler puts messages and tabs wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._latest: dict[str, tuple[int, bytes]] = {}
        self._events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_KEPT_EVENTS)
        self._number = self._event_number = 0
        self._tabs = 0
        self.over = False

    # ---- the sampler's side ------------------------------------------------------------------------------------------

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Give all tabs this in the place of the last message of its kind."""
        message = frame(kind, data)
        with self._changed:
            self._number += 1
            self._latest[kind] = self._number, message
            self._changed.notify_all()

    def happened(self, events: list[dict[str, Any]]) -> None:
        """Give all tabs these events, once each."""
        with self._changed:
            for event in events:
                self._event_number += 1
                self._events.append((self._event_number, {"number": self._event_number, **event}))
            self._changed.notify_all()

    def await_tabs(self) -> bool:
        """Wait until a tab is open. Returns False once the hub is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._tabs or self.over)
            return not self.over

    def has(self, kind: str) -> bool:
        """Whether there is a message of that kind for a tab that opens now."""
        return kind in self._latest

    def close(self, words: str) -> None:
        """Tell all tabs that nothing more will come, and why; their streams end. Again is harmless."""
        if not self.over:
            self.publish(OVER, {"words": words})
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def await_no_tabs(self, seconds: float | None = None) -> bool:
        """Wait until no tab is open. Returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._tabs, seconds)

    # ---- a tab's side ------------------------------------------------------------------------------------------------

    @contextmanager
    def tab(self) -> Iterator[None]:
        """A tab is open while the body runs."""
        with self._changed:
            if not self._tabs and not self.over:
                self._latest.clear()  # from the last time that somebody looked
            self._tabs += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._tabs -= 1
                self._changed.notify_all()

    def stream(self, last_event: int, silence: float) -> Iterator[bytes]:
        """Frames for one tab until the hub is closed. An empty one comes after `silence` seconds without any other.

        last_event: number of the last event that the tab has.
        """
        seen = 0
        while True:
            self._await_news(seen, last_event, silence)
            with self._changed:
                new = {kind: message for kind, (number, message) in self._latest.items() if number > seen}
                events = [(number, event) for number, event in self._events if number > last_event]
                seen, over = self._number, self.over
            if events:
                last_event = events[-1][0]
                new[HAPPENED] = frame(HAPPENED, {"events": [event for _, event in events]}, last_event)
            yield b"".join(new[kind] for kind in _ORDER if kind in new) or b":\n\n"
            if over:
                return

    def _await_news(self, seen: int, last_event: int, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._number > seen or self._event_number > last_event, seconds)


def frame(kind: str, data: dict[str, Any], number: int | None = None) -> bytes:
    """One server-sent event."""
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def clock() -> float:
    """Seconds, for people's clocks; the figures carry it so that the page needs no clock of its own."""
    return round(time.time(), 3)

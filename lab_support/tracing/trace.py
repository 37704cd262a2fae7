"""The writing end of a trace, in each process: events wait in memory and go to the file in batches.

A thread writes them four times a second, so the loops of API servers and engine cores never wait for the disk. A
process that SIGKILL ends loses the events of its last quarter of a second, at most `MOST_PENDING`; one that ends in any
other way writes them. A milestone is written at once: by its caller, or, once there is the thread, by the thread, which
it wakes. If writing fails, events are dropped and counted, and the server goes on.
"""

import logging
import os
import threading
import time
import zlib
from collections.abc import Sequence
from typing import Protocol

import msgspec

from lab_support.tracing.events import Event, Lost, Milestone, Process, shortened
from lab_support.tracing.files import TraceFiles

log = logging.getLogger("lab.trace")

WRITE_EVERY = 0.25  # seconds
MOST_PENDING = 65536  # events; more are dropped, and only come if the disk hangs
MOST_KEPT = 64  # milestones repeated in each part
LONGEST_WAIT = 1.0  # seconds that the end of a process waits for a write that hangs


class Trace(Protocol):
    """`on`: is anything written?"""

    on: bool

    def add(self, event: Event) -> None:
        """Write this event soon. Safe in every thread."""

    def milestone(self, stage: str, about: str = "", detail: str = "", at: float | None = None) -> None:
        """Write at once that this process has reached `stage`. at: when, if not now."""

    def first(self, stage: str, detail: str = "") -> None:
        """The same, but only the first time for this stage."""

    def write_in_background(self) -> None:
        """Start the thread. Until then, only milestones go to the file by themselves."""

    def close(self) -> None:
        """Write what is left. Takes at most LONGEST_WAIT. May be called again."""


class NoTrace:
    """Without --trace-dir: does nothing."""

    on = False

    def add(self, event: Event) -> None: ...

    def milestone(self, stage: str, about: str = "", detail: str = "", at: float | None = None) -> None: ...

    def first(self, stage: str, detail: str = "") -> None: ...

    def write_in_background(self) -> None: ...

    def close(self) -> None: ...


def make_trace(files: TraceFiles | None, role: str, slot: int = -1) -> Trace:
    """The trace of this process. role: `launcher`, `api-0`, … No file is made before the first event."""
    return NoTrace() if files is None else FileTrace(files, role, slot)


class FileTrace:
    """Writes to `files`, one part after another."""

    on = True

    def __init__(self, files: TraceFiles, role: str, slot: int) -> None:
        self._files = files
        self._role = role
        self._process = Process(time.monotonic(), time.time(), files.run, role, os.getpid(), slot)
        self._pending: list[Event] = []
        self._kept: list[Event] = [self._process]
        self._seen: set[str] = set()
        self._lost = 0
        self._part = -1
        self._descriptor = -1
        self._size = 0
        self._torn = self._warned = False
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._in_background = False
        self._encode = msgspec.json.Encoder().encode_lines

    def add(self, event: Event) -> None:
        if len(self._pending) < MOST_PENDING:
            self._pending.append(event)
        else:
            self._lost += 1

    def milestone(self, stage: str, about: str = "", detail: str = "", at: float | None = None) -> None:
        reached = Milestone(time.monotonic() if at is None else at, stage, shortened(about), shortened(detail))
        self.add(reached)
        if self._in_background:
            self._wake.set()
        else:
            self.write()
        if len(self._kept) <= MOST_KEPT:
            self._kept.append(reached)

    def first(self, stage: str, detail: str = "") -> None:
        if stage not in self._seen:
            self._seen.add(stage)
            self.milestone(stage, detail=detail)

    def write_in_background(self) -> None:
        self._in_background = True
        threading.Thread(target=self._write_for_ever, name="trace", daemon=True).start()

    def _write_for_ever(self) -> None:
        while True:
            self._wake.wait(WRITE_EVERY)
            self._wake.clear()
            self.write()

    def close(self) -> None:
        self.write(LONGEST_WAIT)

    def write(self, patience: float = LONGEST_WAIT) -> None:
        """Write what is pending, unless another thread's write takes longer than `patience` seconds."""
        if not self._pending or not self._writing.acquire(timeout=patience):
            return
        try:
            events = self._pending[:]
            del self._pending[: len(events)]  # others may have been added meanwhile, at the end
            self._write_or_lose(events)
        finally:
            self._writing.release()

    def _write_or_lose(self, events: Sequence[Event]) -> None:
        try:
            if self._lost:
                events = [*events, Lost(time.monotonic(), self._lost)]
            self._write(self._encode(events))
            self._lost = 0
        except OSError as error:
            self._lost += len(events)
            if not self._warned:
                log.warning("the trace can't be written (%s), so events are dropped; the server goes on", error)
            self._warned = True

    def _write(self, lines: bytes) -> None:
        if self._descriptor < 0 or self._size + len(lines) > self._files.part_bytes:
            self._begin_part()
        self._push(lines)

    def _begin_part(self) -> None:
        descriptor = self._files.open_part(self._role, self._part + 1)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._size, self._torn, self._part = descriptor, 0, False, self._part + 1
        self._push(self._encode(self._kept))

    def _push(self, lines: bytes) -> None:
        """Write whole lines and their checksum. If an error cuts them, the next ones begin on a line of their own."""
        block = b"\n" * self._torn + lines + b"#%08x\n" % zlib.crc32(lines)
        self._torn = True
        while block:
            written = os.write(self._descriptor, block)
            block = block[written:]
            self._size += written
        self._torn = False

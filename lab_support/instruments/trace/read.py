"""Reads the files of a trace. Damaged, cut and lost parts are told in words; the rest is read.

A line is an event (`tracing/events.py`) or, after `#`, the checksum of the lines since the one before it.
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from lab_support.plural import counted
from lab_support.tracing.events import ANY, Event, Lost, Milestone, Process
from lab_support.tracing.files import NAME


class TraceError(Exception):
    """There is nothing to show. The text says what was got, what was expected and what to do."""


@dataclass(slots=True)
class ProcessTrace:
    """One process, and its events in the order in which it wrote them: the milestones of its life, and those of
    requests. slot: of an API server, otherwise -1."""

    role: str
    pid: int
    slot: int = -1
    wall: float = 0.0
    milestones: list[Milestone] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def begun_at(self) -> float:
        """Of its first milestone that is left."""
        return min((milestone.at for milestone in self.milestones), default=0.0)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a server. begun_at: of its first milestone. others: further runs in the directory. notes: faults of
    the files, in words."""

    id: str
    processes: list[ProcessTrace]
    begun_at: float
    notes: list[str]
    others: list[str]


def read_run(directory: Path, run: str | None = None) -> Run:
    """The latest run in `directory`, or the given one. Raises `TraceError`."""
    runs = _files_by_run(directory)
    chosen = run or max(runs, key=lambda each: max(_modified(path) for path in runs[each]))
    if chosen not in runs:
        raise TraceError(f"got run {run!r}, expected one of {', '.join(sorted(runs))}")
    processes, notes = [], []
    for key, paths in sorted(_by_process(runs[chosen]).items()):
        process = ProcessTrace(*key)
        notes += _read_process(process, paths)
        if process.events or process.milestones:
            processes.append(process)
    if not processes:
        raise TraceError(f"{directory}: got no event of run {chosen}. {' '.join(notes)}")
    processes.sort(key=lambda each: each.begun_at)
    begun_at = min((process.begun_at for process in processes if process.milestones), default=0.0)
    return Run(chosen, processes, begun_at, notes, sorted(set(runs) - {chosen}))


def _files_by_run(directory: Path) -> dict[str, list[Path]]:
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        why = f"{directory}: {error.strerror}; expected a folder that `lab serve --trace-dir` has written to"
        raise TraceError(why) from error
    runs: dict[str, list[Path]] = {}
    for name in names:
        if found := NAME.fullmatch(name):
            runs.setdefault(found["run"], []).append(directory / name)
    if not runs:
        got = counted(len(names), "other file") if names else "no file"
        raise TraceError(
            f"{directory}: got {got}, expected traces; write some with `lab serve --trace-dir {directory}`"
        )
    return runs


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # just removed, to make room
        return 0.0


def _by_process(paths: Iterable[Path]) -> dict[tuple[str, int], list[Path]]:
    """The parts of each process, by (role, pid), the oldest first."""
    parts: dict[tuple[str, int], list[tuple[int, Path]]] = {}
    for path in paths:
        found = NAME.fullmatch(path.name)
        assert found
        parts.setdefault((found["role"], int(found["pid"])), []).append((int(found["part"]), path))
    return {key: [path for _, path in sorted(found)] for key, found in parts.items()}


def _read_process(process: ProcessTrace, paths: Sequence[Path]) -> list[str]:
    """Read the parts of one process into it; returns notes."""
    notes, repeated = [], set[Milestone]()
    for path in paths:
        part = _Part(path)
        for event in part.events():
            if isinstance(event, Process):
                process.slot, process.wall = event.slot, event.wall
            elif isinstance(event, Lost):
                notes.append(f"{path.name}: {counted(event.events, 'event')} could not be written.")
            elif not isinstance(event, Milestone):
                process.events.append(event)
            elif event not in repeated:
                repeated.add(event)
                process.milestones.append(event)
        notes += part.notes()
    first = NAME.fullmatch(paths[0].name)
    if first and first["part"] != "0":
        notes.append(f"{process.role}: its older events have been removed, to stay within --trace-dir-mib.")
    return notes


class _Part:
    """One file. `notes` is complete once `events` has been read to the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._damaged: list[int] = []  # numbers of lines that are no event
        self._wrong: list[int] = []  # numbers of checksums that are not those of the lines before them
        self._cut = False
        self._error = ""

    def events(self) -> Iterator[Event]:
        decode = msgspec.json.Decoder(ANY).decode
        block: list[bytes] = []
        for number, line in enumerate(self._lines(), 1):
            if line.startswith(b"#"):
                self._check(number, line, block)
                block = []
                continue
            block.append(line)
            try:
                yield decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self._damaged.append(number)
        self._cut = self._cut or bool(block)

    def _check(self, number: int, line: bytes, block: list[bytes]) -> None:
        lines = b"".join(each + b"\n" for each in block)
        if line != b"#%08x" % zlib.crc32(lines):
            self._wrong.append(number)

    def _lines(self) -> Iterator[bytes]:
        if not self._path.is_file():  # opening a FIFO would wait for a writer
            self._error = "not a regular file, or just removed"
            return
        try:
            with self._path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield line[:-1]
                    else:
                        self._cut = True
        except OSError as error:
            self._error = error.strerror or str(error)

    def notes(self) -> list[str]:
        name, notes = self._path.name, []
        if self._error:
            notes.append(f"{name}: {self._error}; the rest is shown.")
        if self._damaged:
            count = counted(len(self._damaged), "line")
            notes.append(f"{name}: {count} can't be read (the first is line {self._damaged[0]}); the rest is shown.")
        elif self._wrong:
            where = f"up to line {self._wrong[0]}"
            notes.append(f"{name}: the lines {where} are not as they were written; they are shown all the same.")
        if self._cut:
            notes.append(f"{name}: its end is cut; the rest is shown.")
        return notes

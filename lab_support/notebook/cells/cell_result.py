"""What is known of a cell's processes when they have ended: plain data, and the report from which it is read."""

from dataclasses import dataclass, field
from typing import Any

from lab_support.instruments.proc import Identity
from lab_support.instruments.strace import Trace
from lab_support.notebook.page.tables import Table


@dataclass(frozen=True, slots=True)
class Wait:
    """What a process was waiting for when it was ended, in the kernel's words.

    state: the kernel's letter. call: the system call, "running" outside the kernel, "" where it can't be told.
    within: the kernel function. object: of `descriptor`, such as "pipe:[4711]". holders: who holds the pipe's
    other end. awaited: the child that it waits for.
    """

    state: str
    call: str
    within: str
    threads: int
    descriptor: int | None = None
    object: str = ""
    holders: tuple[str, ...] = ()
    awaited: str = ""


@dataclass(frozen=True, slots=True)
class Exec:
    """A process became another program. at: seconds since the cell began."""

    at: float
    command: str


@dataclass(frozen=True, slots=True)
class CellProcess:
    """One process of a cell. Times are seconds since the cell began.

    name: P0, P1, …, or what it announced. parent: a name, "" where it is not known. exit_code: negative for a
    signal; None where nobody could know it. killed: it was still running when the cell was ended. stack: what
    faulthandler said of it at the deadline.
    """

    name: str
    identity: Identity
    parent: str
    made: float
    command: str
    execs: tuple[Exec, ...]
    ended: float | None
    exit_code: int | None
    killed: bool
    wait: Wait | None
    stack: str


@dataclass(frozen=True, slots=True)
class Text:
    """Whole lines that one process wrote; its last one may lack its end. stream: "out" or "err"."""

    process: str
    stream: str
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """What a process sent by `script.emit`."""

    process: str
    at: float
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """One run of a cell.

    ended: "finished", or what ended it: "timeout", "interrupt", "leftover" (processes that outlived the script),
    "processes" or "output" (a limit was passed), "supervisor" (somebody killed it). exit_code: the script's.
    trace: the system calls, with --strace. source: the program, from which `lab.check` can run it again.
    """

    name: str
    ended: str
    seconds: float
    processes: tuple[CellProcess, ...]
    texts: tuple[Text, ...]
    events: tuple[Event, ...]
    trace: Trace | None = None
    source: str = field(default="", repr=False)

    def __repr__(self) -> str:
        count = len(self.processes)
        return f"{self.name}: {self.outcome_in_words} · {count} process{'es' if count != 1 else ''}"

    @property
    def exit_code(self) -> int | None:
        return self.processes[0].exit_code if self.processes else None

    @property
    def outcome(self) -> str:
        """What `--expect` is compared with: the exit code, or the word for what ended the cell."""
        return str(self.exit_code) if self.ended == "finished" else self.ended

    @property
    def outcome_in_words(self) -> str:
        return f"exit code {self.exit_code}" if self.ended == "finished" else f"ended by {self.ended}"

    @property
    def exit_codes(self) -> dict[str, int | None]:
        """By name of the process."""
        return {process.name: process.exit_code for process in self.processes}

    @property
    def spawned(self) -> tuple[CellProcess, ...]:
        """The processes that `multiprocessing` started by spawn, as the kernel's command lines say; in order."""
        return tuple(one for one in self.processes if any("spawn_main" in each.command for each in one.execs))

    @property
    def output(self) -> str:
        """All that was written, in the order in which it was read."""
        return "".join(text.text for text in self.texts)

    def output_of(self, process: str, stream: str = "") -> str:
        """What one process wrote; both streams, or "out" or "err" alone."""
        mine = (text for text in self.texts if text.process == process)
        return "".join(text.text for text in mine if stream in ("", text.stream))

    def process(self, name: str) -> CellProcess:
        """Raises `KeyError` with the names that there are."""
        for process in self.processes:
            if process.name == name:
                return process
        raise KeyError(f"got {name!r}, expected one of {', '.join(each.name for each in self.processes)}")

    @property
    def told(self) -> dict[str, Any]:
        """The fields of all events together; the last event's of a field that several have."""
        return {name: value for event in self.events for name, value in event.fields.items()}

    def by(self, field: str) -> dict[Any, dict[str, Any]]:
        """The fields of each event that has `field`, by the value of that; the last one's of equal values."""
        return {event.fields[field]: event.fields for event in self.events if field in event.fields}

    # ---- what `listeners` measured

    @property
    def measured(self) -> dict[str, Any]:
        """The fields of the last event that tells of each process. Raises `LookupError` if none did."""
        for event in reversed(self.events):
            if isinstance(event.fields.get("processes"), list):
                return event.fields
        raise LookupError("got no event with a list `processes`, expected one: emit(listeners(…)) sends it")

    @property
    def wakeups_per_connection(self) -> float:
        return self.measured["wakeups_per_connection"]

    @property
    def shares(self) -> tuple[float, ...]:
        """Which part of the connections each process took, in their order."""
        taken = [row["accepted"] for row in self.measured["processes"]]
        return tuple(count / max(1, sum(taken)) for count in taken)

    def table(self, *columns: str) -> Table:
        """What was measured of each process, one row each. "process" is its name; the others are as emitted."""
        rows = self.measured["processes"]
        names = {process.identity.pid: process.name for process in self.processes}
        columns = columns or ("process", *(key for key in rows[0] if key != "pid"))
        known = {key for row in rows for key in row} | {"process"}
        if unknown := set(columns) - known:
            raise KeyError(f"got {', '.join(sorted(unknown))}, expected columns of {', '.join(sorted(known))}")
        cells = [row | {"process": names.get(row["pid"], "?")} for row in rows]
        return Table(columns, tuple(tuple(_figure(row.get(column)) for column in columns) for row in cells))


def _figure(value: object) -> str:
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)

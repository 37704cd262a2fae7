"""The result of a cell: plain data about its processes after they have ended."""

from dataclasses import dataclass, field
from typing import Any

from lab_support.instruments.proc import Identity
from lab_support.instruments.strace import Trace
from lab_support.notebook.page.tables import Table


@dataclass(frozen=True, slots=True)
class Wait:
    """The wait of a process at the moment when it was ended, in the Linux kernel's words.

    state: the kernel's letter. call: the system call, "running" outside the kernel, "" if it can't be told. within: the
    kernel function. threads: their count. descriptor: the number that the call waits on. object: the one behind
    `descriptor`, such as "pipe:[4711]". holders: the processes that hold the pipe's other end. awaited: the child that
    it waits for.
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
    """A process became another program. at: seconds since the cell began. command: its command line."""

    at: float
    command: str


@dataclass(frozen=True, slots=True)
class CellProcess:
    """One process of a cell. Times are seconds since the cell began.

    name: P0, P1, …, or the name that it announced. identity: its pid and start time. parent: a name, "" if unknown.
    made, ended: when; None if it had not ended. command: its command line. execs: the programs that it became, in
    order. exit_code: negative for a signal; None if it could not be known. killed: it was still running when the cell
    was ended. wait: its wait at that moment, or None. stack: its stacks at the deadline, as faulthandler wrote them.
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
    """Whole lines that one process wrote; its last one may lack its end.

    process: its name. stream: "out" or "err". at: seconds since the cell began. text: the lines.
    """

    process: str
    stream: str
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """One message that a process sent by `script.emit`.

    process: its name. at: seconds since the cell began. fields: by name.
    """

    process: str
    at: float
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """One run of a cell.

    name: of the cell. seconds: from its start to its end. processes: in the order in which they were made. texts: its
    output. events: those that its processes sent, in order.
    ended: "finished", or the cause of its end: "timeout", "interrupt", "leftover" (processes outlived the script),
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
        """The text that `--expect` is compared with: the exit code, or the word for the cause of the cell's end."""
        return str(self.exit_code) if self.ended == "finished" else self.ended

    @property
    def outcome_in_words(self) -> str:
        """Such as "exit code 0" or "ended by timeout"."""
        return f"exit code {self.exit_code}" if self.ended == "finished" else f"ended by {self.ended}"

    @property
    def exit_codes(self) -> dict[str, int | None]:
        """The exit codes by name of the process."""
        return {process.name: process.exit_code for process in self.processes}

    @property
    def spawned(self) -> tuple[CellProcess, ...]:
        """The processes that `multiprocessing` started by spawn, recognised by their command lines; in order."""
        return tuple(one for one in self.processes if any("spawn_main" in each.command for each in one.execs))

    @property
    def output(self) -> str:
        """All output, in the order in which it was read."""
        return "".join(text.text for text in self.texts)

    def output_of(self, process: str, stream: str = "") -> str:
        """The output of one process: both streams, or only "out" or "err"."""
        mine = (text for text in self.texts if text.process == process)
        return "".join(text.text for text in mine if stream in ("", text.stream))

    def process(self, name: str) -> CellProcess:
        """The process of that name. Raises `KeyError` that lists the names."""
        for process in self.processes:
            if process.name == name:
                return process
        raise KeyError(f"got {name!r}, expected one of {', '.join(each.name for each in self.processes)}")

    @property
    def told(self) -> dict[str, Any]:
        """The fields of all events together; if several events have a field, the last one's value."""
        return {name: value for event in self.events for name, value in event.fields.items()}

    def by(self, field: str) -> dict[Any, dict[str, Any]]:
        """The fields of each event that has `field`, by its value; if several have the same value, the last event's."""
        return {event.fields[field]: event.fields for event in self.events if field in event.fields}

    # ---- what `listeners` measured

    @property
    def measured(self) -> dict[str, Any]:
        """The fields of the last event that has a list of processes. Raises `LookupError` if none has."""
        for event in reversed(self.events):
            if isinstance(event.fields.get("processes"), list):
                return event.fields
        raise LookupError("got no event with a list `processes`, expected one: emit(listeners(…)) sends it")

    @property
    def wakeups_per_connection(self) -> float:
        """The wake-ups of all listeners together, for each connection."""
        return self.measured["wakeups_per_connection"]

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the connections that each process took, in their order."""
        taken = [row["accepted"] for row in self.measured["processes"]]
        return tuple(count / max(1, sum(taken)) for count in taken)

    def table(self, *columns: str) -> Table:
        """The measurements, one row for each process. "process" is its name; the other columns are as emitted."""
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

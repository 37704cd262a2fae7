"""What is known of a cell's processes when they have ended: plain data, and the report from which it is read."""

import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab_support.instruments.proc import Identity
from lab_support.instruments.strace import Trace
from lab_support.notebook.record import STABLE
from lab_support.notebook.tables import Table

_OWN_NAMES = {"multiprocessing.resource_tracker": "resource tracker", "multiprocessing.forkserver": "fork server"}


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


# ---- reading the report ----------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Growing:
    """A process as it is told of, bit by bit."""

    identity: Identity
    parent: int
    made: float
    command: list[str]
    execs: list[Exec] = field(default_factory=list)
    ended: float | None = None
    exit_code: int | None = None
    killed: bool = False
    wait: dict[str, Any] = field(default_factory=dict)
    stack: str = ""
    name: str = ""
    announced: str = ""


class Reading:
    """The supervisor's messages, turned into a result.

    clean: applied to every text before it is kept. write: called with process number, name, stream and text, which
    may be a piece of a line; the result has that line whole, where it ended. odd: messages that were none.
    """

    def __init__(self, clean: Callable[[str], str], write: Callable[[int, str, str, str], None]) -> None:
        self._clean, self._write = clean, write
        self._processes: list[_Growing] = []
        self._texts: list[tuple[int, str, float, str]] = []
        self._begun: dict[tuple[int, str], list[str]] = {}
        self._events: list[tuple[int, float, dict[str, Any]]] = []
        self._plain_names = 0
        self.odd = 0
        self.ended = ""
        self.seconds = 0.0

    @property
    def identities(self) -> list[Identity]:
        """Of the processes that are not known to have ended."""
        return [process.identity for process in self._processes if process.ended is None]

    def take(self, message: dict[str, Any]) -> None:
        """Understand one message. Some later kind may be unknown here, and is an error of ours."""
        getattr(self, f"_on_{message.pop('kind')}")(**message)

    def _on_began(self, supervisor: int) -> None:
        """The first word; its pid is for those who read the report."""

    def _on_process(self, number: int, pid: int, start: int, parent: int, at: float, command: list[str]) -> None:
        assert number == len(self._processes), "told in order"
        self._processes.append(_Growing(Identity(pid, start), parent, at, command))

    def _on_exec(self, number: int, at: float, command: list[str], again: bool) -> None:
        process = self._processes[number]
        text = self._clean(" ".join(command))
        if again:
            process.execs[-1] = Exec(process.execs[-1].at, text)
        else:
            process.execs.append(Exec(at, text))

    def _on_exit(self, number: int, code: int | None, at: float) -> None:
        self._processes[number].ended, self._processes[number].exit_code = at, code
        for stream in ("out", "err"):
            self._keep(number, stream, at)

    def _on_name(self, number: int, name: str) -> None:
        taken = {process.announced for process in self._processes if process is not self._processes[number]}
        self._processes[number].announced = name if name not in taken else f"{name} ({self._name(number)})"

    def _on_text(self, number: int, stream: str, at: float, text: str) -> None:
        self._write(number, self.name_of(number), stream, self._clean(text))
        self._begun.setdefault((number, stream), []).append(text)
        if text.endswith("\n"):
            self._keep(number, stream, at)

    def _keep(self, number: int, stream: str, at: float) -> None:
        if pieces := self._begun.pop((number, stream), None):
            self._texts.append((number, stream, at, self._clean("".join(pieces))))

    def _on_event(self, number: int, at: float, fields: dict[str, Any]) -> None:
        self._events.append((number, at, fields))

    def _on_odd(self, count: int) -> None:
        self.odd = count

    def _on_killed(self, numbers: list[int], waits: list[dict[str, Any]]) -> None:
        for number in numbers:
            self._processes[number].killed = True
        for wait in waits:
            self._processes[wait.pop("number")].wait = wait

    def _on_stack(self, number: int, text: str) -> None:
        """What it wrote before its stacks belongs to its output."""
        before, found, stack = text.partition("Fatal Python error: Aborted")
        if before:
            self._on_text(number, "err", self.seconds, before if before.endswith("\n") else before + "\n")
        self._processes[number].stack = self._clean(stack) if found else ""

    def _on_end(self, why: str, at: float) -> None:
        self.ended, self.seconds = why, at

    def name_of(self, number: int) -> str:
        return self._processes[number].announced or self._name(number)

    def _name(self, number: int) -> str:
        """P0, P1, … in the order in which they were made; Python's own helpers by what they are."""
        for process in self._processes[: number + 1]:
            if not process.name:
                process.name = _own_name(process) or f"P{self._plain_names}"
                self._plain_names += process.name.startswith("P")
        return self._processes[number].name

    def result(self, name: str, trace: Trace | None) -> ProcessResult:
        for number, stream in list(self._begun):  # of those whose end nobody told
            self._keep(number, stream, self.seconds)
        return ProcessResult(
            name,
            "supervisor" if self.ended in ("", "guard", "kernel") else self.ended,
            self.seconds,
            tuple(self._process(number) for number in range(len(self._processes))),
            tuple(Text(self.name_of(number), stream, at, text) for number, stream, at, text in self._texts),
            tuple(Event(self.name_of(number), at, fields) for number, at, fields in self._events),
            trace,
        )

    def _process(self, number: int) -> CellProcess:
        told = self._processes[number]
        return CellProcess(
            self.name_of(number),
            told.identity,
            self.name_of(told.parent) if told.parent >= 0 else "",
            told.made,
            self._clean(" ".join(told.command)),
            tuple(told.execs),
            told.ended,
            told.exit_code,
            told.killed,
            self._wait(told.wait) if told.wait else None,
            told.stack,
        )

    def _wait(self, told: dict[str, Any]) -> Wait:
        holders = told.get("writers", told.get("readers", ()))
        awaited = told.get("awaited", -1)
        return Wait(
            told["state"],
            told["call"],
            told["in"],
            told["threads"],
            told.get("descriptor"),
            told.get("object", ""),
            tuple(self.name_of(number) for number in holders if number >= 0),
            self.name_of(awaited) if awaited >= 0 else "",
        )


def _own_name(process: _Growing) -> str:
    command = process.execs[-1].command if process.execs else ""  # what they fork has the same command line
    return next((name for module, name in _OWN_NAMES.items() if module in command), "")


# ---- stacks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    file: str
    line: int
    function: str


_THREAD = re.compile(r"(?<=hread) 0x[0-9a-f]+( )")
"""As faulthandler names threads; left out of published notebooks, where it would change with each run."""
_MORE_THREADS = "..."
_FRAME = re.compile(r'^  File "([^"]+)", line (\d+) in (.+)$')


def stacks(text: str) -> list[list[Frame]]:
    """What faulthandler wrote, one list for each thread, innermost frame first: the main thread, then the others.

    The main thread is the one of which `Wait` tells. Its list is empty where there are more threads than are written.
    """
    threads: list[list[Frame]] = []
    for line in text.splitlines():
        if "(most recent call first)" in line or line == _MORE_THREADS:
            threads.append([])
        elif (found := _FRAME.match(line)) and threads:
            threads[-1].append(Frame(found[1], int(found[2]), found[3]))
    return [*threads[-1:], *threads[:-1]]  # CPython goes from the newest thread to the main one


def cleaner(folder: str, script: str, places: Sequence[tuple[str, str]]) -> Callable[[str], str]:
    """A function that takes this machine's paths out of a text. folder: the cell's own; script: the file in it."""
    replaced = deque(sorted(places, key=lambda place: -len(place[0])))
    replaced.extendleft([(folder, "tmp"), (script, os.path.basename(script))])

    def clean(text: str) -> str:
        for place, name in replaced:
            text = text.replace(place, name)
        return _THREAD.sub(r"\1", text) if os.environ.get(STABLE) else text

    return clean

"""The supervisor's report, read message by message into a `ProcessResult`. Runs in the kernel."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lab_support.instruments.proc import Identity
from lab_support.instruments.strace import Trace
from lab_support.notebook.cells.cell_result import CellProcess, Event, Exec, ProcessResult, Text, Wait

_OWN_NAMES = {"multiprocessing.resource_tracker": "resource tracker", "multiprocessing.forkserver": "fork server"}


@dataclass(slots=True, eq=False)
class _Growing:
    """A process while its messages arrive."""

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
    may be a piece of a line; the result has that line whole, at the place of its end. odd: the count of invalid
    messages.
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
        """The identities of the processes that are not known to have ended."""
        return [process.identity for process in self._processes if process.ended is None]

    def take(self, message: dict[str, Any]) -> None:
        """Handle one message. An unknown kind is an error of ours."""
        getattr(self, f"_on_{message.pop('kind')}")(**message)

    def _on_began(self, supervisor: int) -> None:
        """The first message; its pid is for people who read the report."""

    def _on_process(self, number: int, pid: int, start: int, parent: int, at: float, command: list[str]) -> None:
        assert number == len(self._processes), "reported in order"
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
        """Text that it wrote before its stacks belongs to its output."""
        before, found, stack = text.partition("Fatal Python error: Aborted")
        if before:
            self._on_text(number, "err", self.seconds, before if before.endswith("\n") else before + "\n")
        self._processes[number].stack = self._clean(stack) if found else ""

    def _on_end(self, why: str, at: float) -> None:
        self.ended, self.seconds = why, at

    def name_of(self, number: int) -> str:
        return self._processes[number].announced or self._name(number)

    def _name(self, number: int) -> str:
        """P0, P1, … in the order in which they were made; Python's own helpers by their roles."""
        for process in self._processes[: number + 1]:
            if not process.name:
                process.name = _own_name(process) or f"P{self._plain_names}"
                self._plain_names += process.name.startswith("P")
        return self._processes[number].name

    def result(self, name: str, trace: Trace | None) -> ProcessResult:
        for number, stream in list(self._begun):  # lines of processes without a reported end
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
    command = process.execs[-1].command if process.execs else ""  # without exec it has its parent's command
    return next((name for module, name in _OWN_NAMES.items() if module in command), "")

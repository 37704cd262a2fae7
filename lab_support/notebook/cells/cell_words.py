"""A cell's processes in the notebook's words: the writer of each line, and the explanation of a deadlock."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab_support.notebook.cells.cell_result import CellProcess, ProcessResult, Wait
from lab_support.notebook.cells.stacks import Frame, stacks
from lab_support.signal_names import signal_name

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, safe for colour-blind readers. Names stand beside them, so no reader needs the colours."""

_MOST_FRAMES = 5
_SIGNS = {"out": "│", "err": "!"}


def colour_of(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a cell: seconds (leftover_grace counts from the script's end), processes at once, bytes."""

    timeout: float
    leftover_grace: float
    most_processes: int
    most_output: int


Key = tuple[int, str]
"""The key of a line that is being written: the number of its process, and the stream."""


@dataclass(slots=True, eq=False)
class Page:
    """Writes lines into the notebook as they come, each with the name of its process; runs in the kernel.

    Pieces of a line follow one another, unless another process has written meanwhile: then the rest has a line of its
    own, after "…". After `most_lines` or `most_letters` it shows no more but counts on, because a page that takes a
    minute to draw teaches nothing; `finish` prints the counts. A quiet one shows nothing.
    """

    most_lines: int
    most_letters: int
    quiet: bool = False
    written: int = 0
    letters: int = 0
    width: int = 2
    untold: int = 0
    untold_letters: int = 0
    open: Key | None = None
    hidden: bool = False
    begun: set[Key] = field(default_factory=set)
    returned: set[Key] = field(default_factory=set)

    def write(self, number: int, name: str, stream: str, text: str) -> None:
        if self.quiet:
            return
        self.width = max(self.width, len(name))
        key, label = (number, stream), f"{_bold(name.ljust(self.width), colour_of(number))} {_SIGNS[stream]} "
        ends = text.endswith("\n")
        *whole, last = self._with_returns(key, text.rstrip("\n"), ends).split("\n")
        shown = [self._piece(key, label, line) + self._end(key) for line in whole]
        shown.append(self._piece(key, label, last))
        if ends:
            shown.append(self._end(key))
        sys.stdout.write("".join(shown))
        sys.stdout.flush()

    def _with_returns(self, key: Key, text: str, ends: bool) -> str:
        """Move a carriage return at the end of a piece to the next one, which then starts again with the name."""
        if key in self.returned:
            self.returned.discard(key)
            text = "\r" + text
        if text.endswith("\r") and not ends:
            self.returned.add(key)
            text = text[:-1]
        return text

    def _piece(self, key: Key, label: str, line: str) -> str:
        beginning = "" if self.open == key else self._begin(key, label)
        if self.hidden:
            return beginning
        fitting = line[: max(0, self.most_letters - self.letters)]
        self.letters += len(fitting)
        self.untold_letters += len(line) - len(fitting)
        return beginning + re.sub(r"\r(?=.)", lambda _: "\r" + label, fitting)

    def _begin(self, key: Key, label: str) -> str:
        before = "\n" if self.open and not self.hidden else ""
        self.open, self.hidden = key, self.written >= self.most_lines
        if self.hidden:
            self.untold += 1
            return before
        self.written += 1
        rest = "… " if key in self.begun else ""
        self.begun.add(key)
        return before + label + rest

    def _end(self, key: Key) -> str:
        hidden, self.open, self.hidden = self.hidden, None, False
        self.begun.discard(key)
        return "" if hidden else "\n"

    def finish(self) -> None:
        if self.open and not self.hidden:
            print()
        if self.untold:
            print(f"… and {self.untold} more lines, which are in the result (`.output`)")
        if self.untold_letters:
            print(f"… and {self.untold_letters:,} more characters, which are in the result (`.output`)")


def _bold(text: str, colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"\x1b[1;38;2;{red};{green};{blue}m{text}\x1b[0m"


# ---- what ended a cell -----------------------------------------------------------------------------------------------


def ending(result: ProcessResult, limits: Limits) -> str:
    """A sentence that says what ended the cell."""
    running = [process.name for process in result.processes if process.killed]
    who = ", ".join(running) or "nothing"
    sentences = {
        "timeout": f"the deadline of {limits.timeout:g} s passed while {who} still ran",
        "leftover": f"{who} still ran {limits.leftover_grace:g} s after the script had ended",
        "processes": f"it made more than {limits.most_processes} processes at once",
        "output": f"it wrote more than {limits.most_output:,} bytes",
        "supervisor": "its supervisor was killed",
        "interrupt": f"it was interrupted while {who} still ran",
    }
    if result.ended == "finished":
        return f"the script ended with {_code_in_words(result.exit_code)}"
    return f"{sentences[result.ended]}; all its processes were ended"


def _code_in_words(code: int | None) -> str:
    return f"exit code {code}" if code is None or code >= 0 else f"signal {signal_name(code)} (exit code {code})"


def explanation(result: ProcessResult, sources: Mapping[str, str] | None = None) -> str:
    """For each process that had to be ended: what it was waiting for, and at which line of its program.

    sources: the texts of files whose lines are quoted, by name; by default the script's own.
    """
    sources = sources or {f"{result.name}.py": result.source}
    parts = [_explain(number, process, sources) for number, process in enumerate(result.processes) if process.killed]
    return "\n".join(parts)


def _explain(number: int, process: CellProcess, sources: Mapping[str, str]) -> str:
    words = in_words(process.wait, process.name) if process.wait else "had just ended"
    lines = [f"{_bold(process.name, colour_of(number))} {words}"]
    threads = stacks(process.stack)
    for index, frames in enumerate(threads):
        if index:
            lines.append("   another thread:")
        lines += [f"      {_place(frame, sources)}" for frame in _telling(frames)]
    if not threads:
        program = process.execs[-1].command if process.execs else process.command
        lines.append(f"      it gave no Python stack; its command is {program!r}")
    return "\n".join(lines)


def _telling(frames: list[Frame]) -> list[Frame]:
    """The innermost frame, and those of the reader's own files; all if there are few."""
    if len(frames) <= _MOST_FRAMES:
        return frames
    own = [frame for frame in frames[1:] if not frame.file.startswith(("python/", "…/", "<"))]
    return [frames[0], *own[: _MOST_FRAMES - 1]]


def _place(frame: Frame, sources: Mapping[str, str]) -> str:
    quoted = line_of(sources.get(frame.file.removeprefix("tmp/"), ""), frame.line)
    return f"{frame.file}, line {frame.line}, in {frame.function}" + (f": {quoted}" if quoted else "")


def line_of(source: str, number: int) -> str:
    """The text of a line, without its indentation; "" if `source` has no such line."""
    lines = source.splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""


_ON_DESCRIPTOR = {
    "read": "waits to read from",
    "recvfrom": "waits to receive from",
    "recvmsg": "waits to receive from",
    "write": "waits to write to",
    "writev": "waits to write to",
    "sendto": "waits to send to",
    "sendmsg": "waits to send to",
    "accept": "waits for a connection on",
    "accept4": "waits for a connection on",
    "connect": "waits to be connected by",
    "epoll_wait": "waits for events on",
    "epoll_pwait": "waits for events on",
    "flock": "waits for the lock of",
    "fcntl": "waits for the lock of",
}
_OTHERS = {
    "futex": "waits for a lock or condition in memory",
    "poll": "waits for one of its descriptors",
    "ppoll": "waits for one of its descriptors",
    "select": "waits for one of its descriptors, or sleeps",
    "pselect6": "waits for one of its descriptors, or sleeps",
    "nanosleep": "sleeps for a set time",
    "clock_nanosleep": "sleeps for a set time",
    "pause": "waits for a signal",
    "rt_sigsuspend": "waits for a signal",
    "rt_sigtimedwait": "waits for a signal",
    "semtimedop": "waits for a semaphore",
    "running": "is computing, and waits for nothing",
}


def in_words(wait: Wait, name: str) -> str:
    """The meaning of `wait` for the process `name`, followed by the system call that shows it."""
    if wait.state in "Tt":
        return "is stopped (SIGSTOP), and does nothing until SIGCONT"
    if wait.state == "Z":
        return "has ended, and waits for its parent to take its exit code (a zombie)"
    if wait.state == "R":
        return _OTHERS["running"]
    if wait.call in ("wait4", "waitid"):
        return f"waits for its child {wait.awaited} to end ({wait.call})" if wait.awaited else (
            f"waits for a child to end ({wait.call})"
        )  # fmt: skip
    if wait.call in _ON_DESCRIPTOR:
        return f"{_ON_DESCRIPTOR[wait.call]} {_object(wait)} ({wait.call}){_other_end(wait, name)}"
    words = _OTHERS.get(wait.call, f"sleeps in the kernel's {wait.within or 'unknown place'}")
    return f"{words} ({wait.call})" if wait.call and wait.call != "running" else words


def _object(wait: Wait) -> str:
    kind = wait.object.partition(":")[0] if not wait.object.startswith("/") else wait.object
    article = {"pipe": "a pipe", "socket": "a socket", "anon_inode": "an epoll set"}.get(kind, kind or "something")
    return f"{article}, its descriptor {wait.descriptor}"


def _other_end(wait: Wait, name: str) -> str:
    """The holders of the pipe's other end, who could end the wait. The classic mistake: the process itself holds it."""
    if not wait.object.startswith("pipe:"):
        return ""
    end = "write end" if wait.call == "read" else "read end"
    if not wait.holders:
        return f"; no process of this cell holds the {end}"
    holders = ["itself" if holder == name else holder for holder in wait.holders]
    return f"; the {end} is held by {' and '.join(holders)}"

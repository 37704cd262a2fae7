"""`lab.run_process(source)`: a program as a fresh Python process, from a real file; `%%python_process` is its magic.

fork, spawn, forkserver, `__main__` guards, deadlocks and crashes are real there, and safe: nothing of the cell
survives its deadline, an interrupt, or the kernel. `cell_supervisor.py` does the work; this file writes the script,
reads the report, and shows the output to the reader. Runs in the kernel.

It passes data in (`--inputs`) and out (`script.emit`), not objects: objects of the kernel stay there.
"""

import json
import os
import re
import shutil
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lab_support.instruments import proc, strace
from lab_support.instruments.strace import Trace
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.cell_words import Limits, Page, ending, explanation
from lab_support.notebook.cells.left_over import end_what_nobody_watches, marked
from lab_support.notebook.cells.named_memory import NamedMemory
from lab_support.notebook.cells.path_cleaner import cleaner
from lab_support.notebook.cells.report_reader import Reading
from lab_support.notebook.cells.supervised import SupervisedProcess, temporary_folder

TIMEOUT = 30.0
LEFTOVER_GRACE = 1.0
"""Seconds for which processes that the script started may outlive it."""
MOST_PROCESSES, MOST_OUTPUT, MOST_LINES_SHOWN, MOST_LETTERS_SHOWN = 64, 16_000_000, 1000, 200_000
_SLOW, _STUCK, _HOPELESS = 3.0, 5.0, 10.0
"""Seconds beyond the deadline, or an interrupt, after which the supervisor is continued, because somebody may have
stopped it; the cell is killed, because it may stop the supervisor again and again; a silent supervisor is killed."""
_TICK = 1.0  # seconds between two looks at the clock
_HERE = Path(__file__).parent
_WORDS = ("timeout", "leftover", "processes", "output", "any")


class CellFailed(RuntimeError):
    """The process did not end as expected. `result` says what is known."""

    def __init__(self, message: str, result: ProcessResult) -> None:
        super().__init__(message)
        self.result = result

    def _render_traceback_(self) -> list[str]:
        """IPython shows this in place of a traceback through our own files, which tells the reader nothing."""
        return [f"CellFailed: {self}"]


def run_process(
    source: str,
    *,
    name: str = "cell",
    timeout: float = TIMEOUT,
    expect: int | str = 0,
    inputs: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    python: str = "",
    merge: bool = False,
    buffered: bool = False,
    strace: bool = False,
    most_processes: int = MOST_PROCESSES,
    most_output: int = MOST_OUTPUT,
    quiet: bool = False,
    files: Mapping[str, str] | None = None,
) -> ProcessResult:
    """Run `source` as a Python process of its own, show its output, and return the result.

    expect: exit code, -N for signal N, "timeout", "leftover", "processes", "output", or "any". inputs: JSON-able
    values for `script.inputs()`. python: another interpreter. merge: stderr and stdout keep their order.
    buffered: Python's own output buffers stay, as they would without us. quiet: show nothing. files: the texts of
    files to put beside the script, by name; the script can import them.
    Raises `CellFailed` if it ends otherwise than expected, and `KeyboardInterrupt` after an interrupt. When this
    returns or raises, nothing of the cell runs, and its files are gone: `supervisor.py` says how far that goes.
    """
    wanted = _outcome(expect)
    limits = Limits(timeout, LEFTOVER_GRACE, most_processes, most_output)
    order = _Order(
        name,
        source,
        _as_json(inputs or {}),
        _interpreter(python),
        _tracer() if strace else "",
        _environment(env, buffered),
        json.dumps({**asdict(limits), "merge": merge}),
        timeout,
        {_plain(name): text for name, text in (files or {}).items()},
    )
    end_what_nobody_watches()
    result, besides, interrupted = _run(order, Page(MOST_LINES_SHOWN, MOST_LETTERS_SHOWN, quiet))
    if not quiet:
        print("".join(f"── {line}\n" for line in besides), end="")
        _show_end(result, limits, wanted, {f"{name}.py": source, **order.files})
    if interrupted:
        raise _interruption(ending(result, limits))
    if wanted not in ("any", result.outcome):
        raise CellFailed(_unexpected(result, limits, wanted), result)
    return result


@dataclass(frozen=True, slots=True)
class _Order:
    """The program to run, and its options.

    inputs, plan: as JSON. tracer: the path of strace, or "". timeout: seconds.
    files: texts of files to put beside the script, by name.
    """

    name: str
    source: str
    inputs: str
    interpreter: str
    tracer: str
    environment: dict[str, str]
    plan: str
    timeout: float
    files: dict[str, str]


def _run(order: _Order, page: Page) -> tuple[ProcessResult, list[str], bool]:
    """The result, further lines to show, and whether an interrupt came. When this returns, nothing of it runs."""
    with _folder_with(_file_name(order.name), order) as script, _interrupts() as interrupts:
        reading = Reading(cleaner(str(script.parent), str(script), _places()), page.write)
        named = NamedMemory()
        read_end, write_end = os.pipe()
        with open(read_end, "rb", buffering=0):
            running = _start(order, script, write_end)
            try:
                interrupts.pass_on_to(running)
                _follow(read_end, reading, running, _Patience(order.timeout, interrupts))
                trace = _trace(script.parent) if order.tracer and not interrupts.came else None
                running.stop()
                _sweep(reading, script.parent, named)
                said = running.errors
            finally:
                running.close()
    page.finish()
    result = replace(reading.result(order.name, trace), source=order.source)
    return result, _besides(result, said, reading.odd), interrupts.came


def _besides(result: ProcessResult, said: str, odd: int) -> list[str]:
    """Lines on the supervisor's own stderr, such as the loader's about LD_PRELOAD, and a count of invalid messages."""
    if result.ended == "supervisor" and "Traceback" in said:
        what = f"the supervisor of this cell failed ({said.splitlines()[-1]}), which is a fault of the lab"
        raise CellFailed(f"{what}; everything was ended. Run the cell again, and report it if it happens again", result)
    ours = [line for line in said.splitlines() if line not in result.output]  # the loader says the same of the script
    lines = [f"printed by this cell's supervisor, not by the cell: {line}" for line in ours]
    if odd:
        lines.append(f"{odd:,} message{'s' * (odd != 1)} to LAB_CELL/events that `emit` did not send: left out")
    return lines


def _interruption(said: str) -> KeyboardInterrupt:
    """IPython shows `said` in place of a traceback through our own files, which tells the reader nothing."""
    interruption = KeyboardInterrupt(said)
    setattr(interruption, "_render_traceback_", lambda: [f"KeyboardInterrupt: {said}"])  # noqa: B010
    return interruption


def _start(order: _Order, script: Path, report: int) -> SupervisedProcess:
    traced = [order.tracer, *_STRACE, "-o", f"{script.parent}/strace"] if order.tracer else []
    return SupervisedProcess(
        [order.plan, *traced, order.interpreter, str(script)],
        grace=0.0,
        ready_fd=report,
        environment=order.environment | {"LAB_CELL": str(script.parent)},
        program="cell_supervisor.py",
        folder=script.parent,
    )


@contextmanager
def _folder_with(file_name: str, order: _Order) -> Iterator[Path]:
    """A new folder with the script and the files that it reads; yields the script's path."""
    folder = temporary_folder()
    try:
        for name, text in (order.files | {file_name: order.source, "inputs.json": order.inputs}).items():
            (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        yield folder / file_name
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # usually gone: the process's guard or supervisor removes it


def _as_json(inputs: Mapping[str, Any]) -> str:
    for name, value in inputs.items():
        try:
            json.dumps(value)
        except TypeError as error:
            expected = "numbers, text, lists and dicts, which cross into another process as JSON"
            raise TypeError(f"inputs: got {type(value).__name__} in {name!r}, expected {expected}") from error
    return json.dumps(dict(inputs))


# ---- following the report --------------------------------------------------------------------------------------------


class _Interrupts:
    """Interrupts of the kernel while a cell runs: they are recorded, and passed on to the cell."""

    def __init__(self) -> None:
        self.came = False
        self._running: SupervisedProcess | None = None

    def on_signal(self, _number: int, _frame: object) -> None:
        self.came = True
        if self._running:
            self._running.interrupt()

    def pass_on_to(self, running: SupervisedProcess) -> None:
        self._running = running
        if self.came:
            running.interrupt()


@contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    """Meanwhile, an interrupt raises no KeyboardInterrupt here, because a started process must not be forgotten."""
    interrupts = _Interrupts()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield interrupts
        return
    before = signal.signal(signal.SIGINT, interrupts.on_signal)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


class _Patience:
    """The time that the kernel waits for its supervisor: some seconds beyond the deadline, or beyond an interrupt."""

    def __init__(self, timeout: float, interrupts: _Interrupts) -> None:
        self._interrupts = interrupts
        self._end = time.monotonic() + timeout
        self._interrupted = False
        self._looked = 0.0

    def look_due(self) -> bool:
        """Whether the supervisor is late, and `_TICK` has passed since this was last true."""
        due = self.beyond() > _SLOW and time.monotonic() > self._looked + _TICK
        if due:
            self._looked = time.monotonic()
        return due

    def beyond(self) -> float:
        """Seconds since the supervisor should have ended everything; negative before that."""
        if self._interrupts.came and not self._interrupted:
            self._interrupted, self._end = True, min(self._end, time.monotonic())
        return time.monotonic() - self._end


def _follow(read_end: int, reading: Reading, running: SupervisedProcess, patience: _Patience) -> None:
    """Read the report until it ends, which is when the supervisor does.

    A supervisor that is late is continued, in case somebody has stopped it; one that stays silent is killed.
    """
    pending = b""
    while True:
        something = running.readable(read_end, _TICK)
        if patience.look_due():
            _help(running, patience.beyond())
        if not something and patience.beyond() > _HOPELESS:
            running.kill()
            return
        if not something:
            continue
        data = os.read(read_end, 1 << 20)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            reading.take(json.loads(line))


def _help(running: SupervisedProcess, beyond: float) -> None:
    if beyond > _STUCK:
        running.end_command()
    else:
        running.proceed()


def _sweep(reading: Reading, folder: Path, named: NamedMemory) -> None:
    """If both supervisor and guard were killed: end all processes that they had reported or that bear the cell's mark.

    A process that the Linux kernel does not let end yet is left alone after some seconds.
    """
    deadline = time.monotonic() + _SLOW
    while not reading.ended and time.monotonic() < deadline:
        left = [*filter(proc.is_running, reading.identities), *marked(folder)]
        named.look(identity.pid for identity in left)
        for identity in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(identity.pid, signal.SIGKILL)
        if not left:
            break
    named.remove()


def _trace(folder: Path) -> Trace:
    calls = [
        call
        for path in folder.glob("strace.*")
        for call in strace.parse(path.read_text("utf-8", "replace"), int(path.suffix.removeprefix(".")))
    ]
    return Trace(tuple(sorted(calls, key=lambda call: call.at)))


# ---- the start -------------------------------------------------------------------------------------------------------


# -D: strace becomes the grandchild, so that the script stays the supervisor's own child.
_STRACE = ["-D", "-ff", "-ttt", "-qq", "-s", "48", "-e", "trace=" + ",".join(f"?{name}" for name in strace.OF_INTEREST)]


def _interpreter(python: str) -> str:
    found = shutil.which(python) if python else sys.executable
    if found is None:
        raise FileNotFoundError(f"python: got {python!r}, expected a Python interpreter: a path, or a name in PATH")
    return found


def _tracer() -> str:
    found = shutil.which("strace")
    if found is None:
        print("strace: not found (Debian, Ubuntu: apt install strace); the cell runs without it")
    return found or ""


def _environment(env: Mapping[str, str] | None, buffered: bool) -> dict[str, str]:
    root = str(_HERE.parents[2])
    path = [str(_HERE / "inside_cells"), os.environ.get("PYTHONPATH", ""), root]
    chosen = {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "LAB_CELL_NEIGHBOURS": _working_folder(),
        "PYTHONFAULTHANDLER": "1",
        "PYTHONUNBUFFERED": "" if buffered else "1",
        "PYTHON_COLORS": "0",  # ipykernel sets FORCE_COLOR, and tracebacks would follow
        "MPLBACKEND": "agg",  # the kernel's own backend draws into the notebook
    }
    return chosen | dict(env or {})


def _working_folder() -> str:
    """The notebook's folder, from which a cell may import; "" if it is gone, and then a line says so."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        gone = os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
        print(f"── the folder of this notebook is gone, {gone}: the cell can import nothing from there")
        return ""


def _places() -> list[tuple[str, str]]:
    root = str(_HERE.parents[2])
    return [(sysconfig.get_path("stdlib"), "python"), (sys.prefix, "python"), (sys.base_prefix, "python"), (root, "…")]


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        raise ValueError(f"name: got {name!r}, expected a letter, then letters, digits, _ and -: it names the file too")
    return f"{name}.py"


def _plain(name: str) -> str:
    if Path(name).name != name:
        raise ValueError(f"files: got {name!r}, expected a file's name without a folder")
    return name


# ---- the end ---------------------------------------------------------------------------------------------------------


def _outcome(expect: int | str) -> str:
    text = str(expect)
    if text.startswith("SIG"):
        text = str(-signal.Signals[text])
    if text in _WORDS or re.fullmatch(r"-?\d+", text):
        return text
    raise ValueError(f"expect: got {expect!r}, expected an exit code, -N or SIGNAME, or one of {', '.join(_WORDS)}")


def _show_end(result: ProcessResult, limits: Limits, wanted: str, sources: Mapping[str, str]) -> None:
    if result.ended in ("timeout", "leftover", "interrupt"):
        print(f"── {ending(result, limits)}")
        print(explanation(result, sources))
    elif wanted == result.outcome != "0":
        print(f"── {ending(result, limits)}, as expected")


def _unexpected(result: ProcessResult, limits: Limits, wanted: str) -> str:
    found = result.outcome
    expected = f"exit code {wanted}" if wanted.lstrip("-").isdigit() else wanted
    return f"{ending(result, limits)}; expected {expected}. If that is the lesson, say so: --expect {found}"

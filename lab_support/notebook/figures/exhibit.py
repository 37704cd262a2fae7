"""`lab.exhibit`: strace's view of a cell's processes, live if strace is installed, else as recorded elsewhere.

An exhibit proves nothing by itself, because strace slows down the processes that it watches. The recorded ones are in
`data/exhibits/`; `save` makes them from a live trace and names the machine. Runs in the kernel.

Taught in: 03_how_does_a_descriptor_travel
"""

import json
import platform
import re
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lab_support.instruments.strace import MAKE_PROCESSES, Call
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.page.committed import NOTEBOOKS
from lab_support.notebook.page.gate import takes_prediction
from lab_support.notebook.page.tables import Table

FOLDER = NOTEBOOKS.parent / "data" / "exhibits"
_PROGRAM = re.compile(r"from (multiprocessing\.\w+) import")
_LINE = ("process", "system call", "what")


@dataclass(frozen=True, slots=True)
class Line:
    """One system call in words."""

    process: str
    call: str
    what: str


@takes_prediction
def exhibit(name: str, run: ProcessResult) -> Table:
    """The calls of `run` that made processes, started programs, or carried descriptors.

    If strace did not run: the calls recorded as `name`, and a line says where and when. Raises `LookupError` that
    lists the known names.
    """
    if run.trace is not None and run.trace.calls:
        return _table(
            _lines(run), "Seen by strace, just now. It slows down the processes: read the calls, not the clock."
        )
    recorded = _read(name)
    why = f"strace saw nothing here ({run.outcome_in_words})" if run.trace is not None else "strace is not installed"
    return _table([Line(*line) for line in recorded["lines"]], f"RECORDED, because {why}: {recorded['from']}.")


def save(name: str, run: ProcessResult) -> Path:
    """Save strace's calls of `run` as the recorded exhibit `name`. Raises `ValueError` if it saw nothing."""
    if run.trace is None or not run.trace.calls:
        raise ValueError(
            "exhibit: got a run without a trace, expected one under strace (--strace), which must be installed"
        )
    version = subprocess.run(["strace", "--version"], capture_output=True, text=True).stdout.split()[3]
    told = {
        "from": f"{platform.system()} {platform.release().rpartition('.')[0]}, Python {platform.python_version()}, "
        f"strace {version}, {time.strftime('%Y-%m-%d', time.gmtime())}",
        "source": run.source,
        "lines": [tuple(asdict(line).values()) for line in _lines(run)],
    }
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _read(name: str) -> dict[str, str]:
    path = FOLDER / f"{name}.json"
    if not path.exists():
        there = ", ".join(sorted(each.stem for each in FOLDER.glob("*.json"))) or "none"
        raise LookupError(f"got exhibit {name!r}, expected one of: {there}")
    recorded: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return recorded


def _table(lines: list[Line], note: str) -> Table:
    return Table(_LINE, tuple((line.process, line.call, line.what) for line in lines), note)


# ---- a trace in words ------------------------------------------------------------------------------------------------


def _lines(run: ProcessResult) -> list[Line]:
    assert run.trace is not None
    names = {process.identity.pid: process.name for process in run.processes}
    words = ((call, _what(call, names)) for call in run.trace.calls)
    return [Line(_name(call.pid, run, names), call.name, what) for call, what in words if what]


def _name(task: int, run: ProcessResult, names: dict[int, str]) -> str:
    """The process's name; strace reports threads by their own number."""
    return names.get(task) or f"thread of {_maker(task, run, names)}"


def _maker(thread: int, run: ProcessResult, names: dict[int, str]) -> str:
    assert run.trace is not None
    return next((names.get(call.pid, "?") for call in run.trace.calls if call.result == thread), "?")


def _what(call: Call, names: dict[int, str]) -> str:
    """The call in words; "" if it is not part of the exhibit."""
    if call.name in MAKE_PROCESSES and (call.result or 0) > 0:
        return f"makes {names.get(call.result or 0, 'a thread')}"
    if call.name == "execve" and not call.error:
        return f"becomes {_program(call.arguments)}"
    if call.descriptors:
        return f"SCM_RIGHTS, descriptors {', '.join(map(str, call.descriptors))}"
    return ""


def _program(arguments: str) -> str:
    found = _PROGRAM.search(arguments)
    return f"Python with {found[1]}" if found else "Python"

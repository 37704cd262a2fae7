"""`%%python_process`: the cell magic, whose options are those of `run_process`. Runs in the kernel."""

import argparse
import io
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

from IPython import get_ipython
from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser
from IPython.display import display

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.python_process import MOST_OUTPUT, MOST_PROCESSES, TIMEOUT, CellFailed, run_process
from lab_support.notebook.page.gate import bundle_of, show_once_settled, waits_for

Fill = Callable[[str, str, dict[str, Any]], tuple[ProcessResult, Any, bool]]
"""Runs a cell with blanks: its name, its source and the options of `run_process`. Returns the result with which the
notebook goes on, a view that says how it went, and whether that view may be seen before a prediction."""


def python_process(line: str, cell: str, fill: Fill | None = None) -> ProcessResult | None:
    """`%%python_process [options]`: run the cell as a process of its own. `%%python_process --help` names the options.

    Returns the result, or assigns it to the name given by --into. With --blank, `fill` runs the cell.
    """
    if line.split() in (["--help"], ["-h"]):
        print(_parser().format_help())
        return None
    shell = get_ipython()  # type: ignore[no-untyped-call]
    options = vars(_parser().parse_args(_split(line)))
    into, after, blank = (options.pop(name) for name in ("into", "after", "blank"))
    options["inputs"] = _values(options.pop("inputs"), shell.user_ns)
    options["env"] = _variables(options.pop("env"))
    # The magic's own line stays the first, so that line numbers are the cell's.
    source = f"# %%python_process {line}".rstrip() + "\n" + cell
    try:
        with _held_back(after, _NOTHING if blank else _run_and_kept(after)):
            if blank:
                result, view, may_be_seen = _fill_of(fill)(blank, source, options)
            else:
                result = run_process(source, **options)
    except CellFailed as failed:
        if into:
            shell.user_ns[into] = failed.result
        raise
    if blank:
        _display(view, "" if may_be_seen else after)
    if not into:
        return result
    shell.user_ns[into] = result
    return None


def _fill_of(fill: Fill | None) -> Fill:
    if fill is None:
        raise UsageError('--blank: got a cell before lab.start, expected `lab.start("01")` to have run')
    return fill


def _display(view: Any, after: str) -> None:
    if after:
        show_once_settled(after, lambda: bundle_of(view), _run_and_judged(after))
    else:
        display(view)


@contextmanager
def _held_back(after: str, instead: dict[str, str]) -> Iterator[None]:
    """Meanwhile, what is printed is kept until prediction `after` is settled. After an error it is shown.

    instead: stands in its place until then.
    """
    if not after or not waits_for(after):
        yield
        return
    kept = io.StringIO()
    try:
        with redirect_stdout(kept):
            yield
    except BaseException:
        print(kept.getvalue(), end="")
        raise
    if kept.getvalue().strip():
        show_once_settled(after, lambda: ({"text/plain": kept.getvalue()}, {}), instead)


_NOTHING = {"text/plain": ""}


def _run_and_kept(after: str) -> dict[str, str]:
    return _in_place(f"It has run, and its output is shown after your prediction {after}.")


def _run_and_judged(after: str) -> dict[str, str]:
    """For a cell with blanks, whose one line stands for its output and for the verdict on the filling."""
    return _in_place(
        f"Your program has run. What it found, and whether your blank is right, appears when you have answered {after}."
    )


def _in_place(words: str) -> dict[str, str]:
    return {"text/plain": words, "text/html": f'<div style="opacity:.75">{words}</div>'}


def _split(line: str) -> list[str]:
    """The line's words, with quotes as in a shell; in `--expect -11`, -11 is not an option."""
    return shlex.split(re.sub(r"--expect\s+(-\w+)", r"--expect=\1", line))


def _values(names: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if missing := [name for name in wanted if name not in namespace]:
        raise NameError(f"--inputs: got {', '.join(missing)}, expected names of variables of this notebook")
    return {name: namespace[name] for name in wanted}


def _variables(pairs: list[str]) -> dict[str, str]:
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise ValueError(f"--env: got {wrong[0]!r}, expected NAME=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def _parser() -> argparse.ArgumentParser:
    parser = MagicArgumentParser("%%python_process", add_help=False)
    add = parser.add_argument
    add("--timeout", type=float, default=TIMEOUT, help=f"deadline in seconds (default: {TIMEOUT:g})")
    add("--expect", default="0", help="exit code, -N or SIGNAME, timeout, leftover, processes, output, any")
    add("--name", default="cell", help="name of the file, as tracebacks show it")
    add("--inputs", default="", help="a,b: variables of the notebook, as JSON, for script.inputs()")
    add("--into", default="", help="name of a variable for the result")
    add("--after", default="", metavar="NUMBER", help="show its output once this prediction is answered or skipped")
    add("--blank", default="", metavar="NAME", help="the cell has blanks, `____`, for the reader to fill")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="an environment variable; may be repeated")
    add("--python", default="", help="another interpreter")
    add("--merge", action="store_true", help="stderr and stdout in one stream, so that their order is kept")
    add("--buffered", action="store_true", help="leave Python's own output buffers as they would be")
    add("--quiet", action="store_true", help="do not show its output; the result has it")
    add("--strace", action="store_true", help="record system calls, into result.trace")
    add("--most-processes", type=int, default=MOST_PROCESSES, help="living at once (default: %(default)s)")
    add("--most-output", type=int, default=MOST_OUTPUT, help="bytes (default: %(default)s)")
    return parser


def options() -> dict[str, str]:
    """Each option as it is written, such as "--timeout TIMEOUT", and its help."""
    return {_as_written(action): (action.help or "") % vars(action) for action in _parser()._actions}


def _as_written(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return action.option_strings[0] + value


_NEED_A_NOTEBOOK = ("into", "inputs", "after", "blank")


def options_of(cell: str) -> dict[str, Any]:
    """The options in the first line of a `%%python_process` cell, as arguments of `run_process`.

    Options that need a notebook are left out: --into, --inputs, --after, --blank. Raises `ValueError` for another cell.
    """
    line = cell.partition("\n")[0]
    if not line.startswith("%%python_process"):
        raise ValueError(f"got {line!r}, expected a cell that begins with %%python_process")
    options = vars(_parser().parse_args(_split(line.removeprefix("%%python_process"))))
    options["env"] = _variables(options["env"])
    return {name: value for name, value in options.items() if name not in _NEED_A_NOTEBOOK}


def load(shell: Any, fill: Fill | None = None) -> None:
    """Make `%%python_process` known to an IPython shell. A second call is harmless. fill: runs cells with --blank."""

    def magic(line: str, cell: str) -> ProcessResult | None:
        return python_process(line, cell, fill)

    magic.__doc__ = python_process.__doc__
    shell.register_magic_function(magic, magic_kind="cell", magic_name="python_process")

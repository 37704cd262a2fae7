"""Makes the published notebooks: executes each from a clean kernel, tidies its outputs, and checks committed ones.

`python -m lab_support.notebook.publishing.build [NN …]` executes and writes; with `--check` it only reads the
notebooks and says what is wrong with them, and with `--try` it executes and writes nothing. Outputs are never made by
hand.
"""

import argparse
import hashlib
import os
import re
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from lab_support.notebook.page.committed import NOTEBOOKS, find
from lab_support.notebook.page.record import STABLE
from lab_support.notebook.page.views import WIDGET_VIEW
from lab_support.notebook.publishing import run_times

CELL_SECONDS = 300
"""More than the longest deadline that a cell gives its own program, because that one names what hung."""
MACHINE_PATH = re.compile(r"(?<![\w.~/…])/(?:home|root|Users|tmp|var|private|mnt|media|opt|srv|work|workspace|builds)/")
"""Absolute paths of one machine. System paths such as /proc and /dev are on every machine, so they are not here."""


# ---- making ----------------------------------------------------------------------------------------------------------


def build(path: Path, *, write: bool = True) -> None:
    """Execute the notebook at `path` from a clean kernel and write it back. Raises `CellExecutionError`."""
    notebook = nbformat.read(path, as_version=4)
    before = notebook.metadata.get("course", {}).get("seconds", {})
    execute(notebook, path.parent)
    seconds = run_times.kept(before, run_times.measured(notebook))
    tidy(notebook)
    notebook.metadata["course"] = {"source_hash": source_hash(notebook)} | ({"seconds": seconds} if seconds else {})
    if write:
        nbformat.write(notebook, path)


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run all cells in a fresh kernel, started in `folder`; old outputs are dropped first.

    Raises `CellExecutionError` at the first cell that fails and does not carry the tag `raises-exception`.
    """
    clear(notebook)
    with tempfile.TemporaryDirectory(prefix="lab-build-") as own:
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            coalesce_streams=True,
            record_timing=True,
            resources={"metadata": {"path": str(folder)}},
        )
        # A reader's IPython settings and history must not show in published notebooks.
        client.execute(env={**os.environ, "IPYTHONDIR": own, STABLE: "1"})


def clear(notebook: NotebookNode) -> None:
    """Drop every output, execution count and widget state."""
    for cell in code_cells(notebook):
        cell.outputs = []
        cell.execution_count = None
    notebook.metadata.pop("widgets", None)


def tidy(notebook: NotebookNode) -> None:
    """Drop everything that differs between machines or needs a running kernel."""
    notebook.metadata.pop("widgets", None)
    run_times.forget_timing(notebook)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in code_cells(notebook):
        cell.outputs = [_tidy_output(output) for output in cell.outputs]


def _tidy_output(output: NotebookNode) -> NotebookNode:
    if "text" in output:
        output.text = without_machine_paths(output.text)
    for kind, value in output.get("data", {}).items():
        if _is_text(kind) and isinstance(value, str):
            output.data[kind] = without_machine_paths(value)
    output.get("data", {}).pop(WIDGET_VIEW, None)  # its content lives in a kernel; its plain twin stays
    if "traceback" in output:
        output.traceback = [without_machine_paths(line) for line in output.traceback]
    return output


def without_machine_paths(text: str) -> str:
    """`text` with this machine's folders replaced by names for them: …, python, tmp, ~."""
    for place, name in _places():
        text = text.replace(place, name)
    return text


def _places() -> Iterator[tuple[str, str]]:
    """This machine's folders and their names; longest first, so that an inner folder gets its own name."""
    root = str(NOTEBOOKS.parent)
    places = {root: "…", sys.prefix: "python", tempfile.gettempdir(): "tmp", str(Path.home()): "~"}
    places |= {sys.base_prefix: "python", sysconfig.get_path("stdlib"): "python/lib"}
    yield from sorted(places.items(), key=lambda place: -len(place[0]))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def source_hash(notebook: NotebookNode) -> str:
    """The hash of all code cells, in order: the source of the outputs."""
    joined = "\0".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(joined.encode()).hexdigest()


# ---- guarding --------------------------------------------------------------------------------------------------------


def problems(path: Path) -> list[str]:
    """The problems of the committed notebook at `path`, as sentences; it is not executed."""
    notebook = nbformat.read(path, as_version=4)
    found = []
    if notebook.metadata.get("course", {}).get("source_hash") != source_hash(notebook):
        found.append("its outputs are older than its source")
    counts = [cell.execution_count for cell in code_cells(notebook) if cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"its cells were not executed once each and in order: {counts}")
    if "widgets" in notebook.metadata:
        found.append("it keeps widget state")
    for number, cell in enumerate(code_cells(notebook), 1):
        found += [f"code cell {number}: {problem}" for problem in _cell_problems(cell)]
    return [f"{path.name}: {problem}" for problem in found]


def _cell_problems(cell: NotebookNode) -> Iterator[str]:
    expected_error = "raises-exception" in cell.metadata.get("tags", [])
    for output in cell.outputs:
        if output.output_type == "error" and not expected_error:
            yield f"an unexpected error: {output.ename}"
        for kind in ("image/png", "image/svg+xml"):
            if kind in output.get("data", {}) and not output.get("metadata", {}).get(kind, {}).get("alt"):
                yield "a figure without alt text"
        for text in _texts(output):
            if "✘" in text and not expected_error:
                yield f"something that did not hold: {_line_with('✘', text)}"
                break
        for text in _texts(output):
            if place := MACHINE_PATH.search(text):
                yield f"a path of one machine: {text[place.start() :][:60].splitlines()[0]}"


def _line_with(sign: str, text: str) -> str:
    return next(line for line in text.splitlines() if sign in line)[:80].strip()


def _texts(output: NotebookNode) -> Iterator[str]:
    yield output.get("text", "")
    yield from output.get("traceback", [])
    data: dict[str, Any] = output.get("data", {})
    yield from (value for kind, value in data.items() if _is_text(kind) and isinstance(value, str))


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind == "image/svg+xml"


# ---- the command -----------------------------------------------------------------------------------------------------


def main(words: list[str]) -> int:
    """0 if all is well, else 1."""
    parser = argparse.ArgumentParser(prog="python -m lab_support.notebook.publishing.build", description=__doc__)
    parser.add_argument("numbers", nargs="*", help="notebooks by number, such as 00; all by default")
    parser.add_argument("--check", action="store_true", help="execute nothing, and say what is wrong")
    parser.add_argument("--try", action="store_true", dest="only_try", help="execute, and write nothing")
    arguments = parser.parse_args(words)
    paths = find(arguments.numbers)
    if not paths:
        print(f"got {arguments.numbers}, expected numbers of notebooks in {NOTEBOOKS.name}/", file=sys.stderr)
        return 1
    found = []
    for path in paths:
        found += problems(path) if arguments.check else _build_and_check(path, write=not arguments.only_try)
    print("\n".join(found) or f"{len(paths)} well")
    return 1 if found else 0


def _build_and_check(path: Path, *, write: bool) -> list[str]:
    print(f"{path.name} …", flush=True)
    try:
        build(path, write=write)
    except CellExecutionError as error:
        return [f"{path.name}: not written, because a cell failed: {error}"]
    return problems(path) if write else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

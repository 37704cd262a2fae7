"""The reader's own copies of the notebooks, in workspace/: `lab open` makes them and opens JupyterLab there.

Copies have no outputs, so that predictions come first, and the cells that ask for one are folded, because their output
shows the question and its options. An edited copy is never overwritten; an unedited one follows its original.
`lab reset NN` makes a fresh copy and keeps the old one beside it. Many users can share one clone of the repository,
each with a workspace of their own (`--workspace`).
"""

import argparse
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode, ValidationError
from nbformat.reader import NotJSONError

from lab_support.notebook.moves.asked import number_of
from lab_support.notebook.page.committed import find
from lab_support.notebook.publishing import answers
from lab_support.notebook.publishing.build import clear
from lab_support.notebook.publishing.workspace import WORKSPACE, add_workspace_flag, in_a_sentence, no_such_notebook

_SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},  # otherwise widgets are "not found" the next day
    "@jupyterlab/filebrowser-extension:browser": {"showLastModifiedColumn": False},  # room for the notebooks' names
}
# Figures are made for a page of about 840 pixels. In a narrow window they would become too small to read.
_STYLE = ".jp-RenderedImage img { min-width: 560px; }\n"


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of one notebook. state: "new", "same", "updated", "yours" (edited, and kept), "unreadable" (kept)."""

    path: Path
    state: str
    original_changed: bool = False


def copy_all(workspace: Path = WORKSPACE) -> list[Copy]:
    """Bring every notebook into `workspace`; edited ones stay as they are."""
    workspace.mkdir(parents=True, exist_ok=True)
    return [_bring(original, workspace / original.name) for original in find([])]


def _bring(original: Path, path: Path) -> Copy:
    fresh = _fresh(original)
    if not path.exists():
        nbformat.write(fresh, path)
        return Copy(path, "new")
    copied_from = _copied_from(fresh)
    try:
        mine = nbformat.read(path, as_version=4)
    except (NotJSONError, ValidationError, UnicodeDecodeError):  # cut off while it was saved, or not a notebook
        return Copy(path, "unreadable")
    if _text_hash(mine) != _copied_from(mine):
        return Copy(path, "yours", original_changed=_copied_from(mine) != copied_from)
    if _copied_from(mine) == copied_from:
        return Copy(path, "same")
    nbformat.write(fresh, path)
    return Copy(path, "updated")


def reset(number: str, workspace: Path = WORKSPACE) -> list[tuple[Path, Path | None]]:
    """Make a fresh copy of each notebook that begins with `number`; return it and the old copy's new path, if any."""
    done = []
    for original in find([number]):
        workspace.mkdir(parents=True, exist_ok=True)
        path = workspace / original.name
        kept = _set_aside(path) if path.exists() else None
        nbformat.write(_fresh(original), path)
        done.append((path, kept))
    return done


def _set_aside(path: Path) -> Path:
    index = 1
    while (aside := path.with_name(f"{path.stem}.before-reset-{index}.ipynb")).exists():
        index += 1
    return path.rename(aside)


def _fresh(original: Path) -> NotebookNode:
    notebook = nbformat.read(original, as_version=4)
    clear(notebook)
    for cell in notebook.cells:
        if cell.source.startswith("lab.predict("):
            cell.metadata["jupyter"] = {"source_hidden": True}
    notebook.metadata["course"] = {"copied_from": _text_hash(notebook)}
    return notebook


def _copied_from(notebook: NotebookNode) -> str:
    return notebook.metadata.get("course", {}).get("copied_from", "")


def _text_hash(notebook: NotebookNode) -> str:
    """The hash of all that a reader can edit: the cells' kinds and sources, not their outputs."""
    joined = "\0".join(f"{cell.cell_type}\0{cell.source}" for cell in notebook.cells)
    return hashlib.sha256(joined.encode()).hexdigest()


# ---- the commands ----------------------------------------------------------------------------------------------------


def add_open_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", nargs="?", default="00", help="the notebook to open at (default: 00)")
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    parser.add_argument("--port", type=int, default=8888, help="JupyterLab's port; if it is taken, the next free one")
    parser.add_argument("--copy-only", action="store_true", help="make the copies and do not start JupyterLab")
    add_workspace_flag(parser)


def add_reset_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `lab reset`."""
    parser.description = "A fresh copy of a notebook; the old one is kept beside it."
    parser.add_argument("number", help="number of the notebook: 00, 01, 01a, …; 01 includes its appendix 01a")
    parser.add_argument("--answers", action="store_true", help="forget your answers in it too, so that it asks again")
    add_workspace_flag(parser)


def run_open_command(arguments: argparse.Namespace) -> int:
    """`lab open`: make the copies, then become JupyterLab. Returns 2 if there is no such notebook, else never."""
    chosen = find([arguments.number])
    if not chosen:
        return no_such_notebook("open", arguments.number)
    workspace = arguments.workspace.resolve()
    try:
        for copy in copy_all(workspace):
            print(_in_words(copy))
        settings = _write_settings(workspace)
    except OSError as error:
        print(f"lab open: {in_a_sentence(error)}", file=sys.stderr)
        return 2
    if arguments.copy_only:
        return 0
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(settings)}
    command = jupyter_command(workspace, chosen[0].name, arguments.port, browser=not arguments.no_browser)
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)


def _in_words(copy: Copy) -> str:
    text = {
        "new": "your copy is new",
        "same": "your copy is as you left it",
        "updated": "was updated; you had not changed it",
        "yours": "your edited copy is kept",
        "unreadable": "your copy cannot be read as a notebook, and is kept; "
        f"`lab reset {copy.path.name[:2]}` puts it aside and gives a fresh one",
    }[copy.state]
    if copy.original_changed:
        text += f"; the original has changed since: `lab reset {copy.path.name[:2]}` gives a fresh copy"
    return f"{copy.path.stem}: {text}"


def _write_settings(workspace: Path) -> Path:
    """JupyterLab's own folder for this workspace: the reader's other settings don't leak in, and no news pops up."""
    folder = workspace / ".jupyter"
    place = folder / "labconfig" / "default_setting_overrides.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(_SETTINGS, indent=2) + "\n", encoding="utf-8")
    style = folder / "custom" / "custom.css"
    style.parent.mkdir(exist_ok=True)
    style.write_text(_STYLE, encoding="utf-8")
    return folder


def jupyter_command(workspace: Path, notebook: str, port: int, *, browser: bool) -> list[str]:
    """The command line of JupyterLab on the loopback, at `notebook`."""
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={workspace}",
        f"--LabApp.default_url=/lab/tree/{notebook}",
        "--LabApp.custom_css=True",
    ]
    if not browser:
        command.append("--no-browser")
    if os.geteuid() == 0:  # as in a container; Jupyter refuses root otherwise
        command.append("--allow-root")
    return command


def run_reset_command(arguments: argparse.Namespace) -> int:
    """`lab reset NN`: a fresh copy; the old one is kept. 2 if there is no such notebook, or it can't be written."""
    try:
        done = reset(arguments.number, arguments.workspace)
        asides = _forget(done, arguments.workspace) if arguments.answers else []
    except OSError as error:
        print(f"lab reset: {in_a_sentence(error)}", file=sys.stderr)
        return 2
    if not done:
        return no_such_notebook("reset", arguments.number)
    for path, kept in done:
        print(f"{path.stem}: a fresh copy" + (f"; the old one is {kept.name}" if kept else ""))
    if arguments.answers:
        kept_in = " and ".join(aside.name for aside in asides)
        print(
            f"Your answers are forgotten; they are kept in {kept_in}" if asides else "There were no answers to forget"
        )
    return 0


def _forget(done: list[tuple[Path, Path | None]], workspace: Path) -> list[Path]:
    answers.use_record_of(workspace)
    return answers.forget(number_of(path) for path, _ in done)

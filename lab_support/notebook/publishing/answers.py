"""Skips (`lab skip`, before a demo) and forgets (`lab reset --answers`) the reader's answers from outside a notebook.

Both work on the record of one workspace. Forgotten entries are kept in a file beside it, and so are the steps of the
reader's own server.
"""

import argparse
import json
import os
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from lab_support.notebook.moves.asked import asked_in, number_of
from lab_support.notebook.moves.blanks import blanks
from lab_support.notebook.moves.steps import Step
from lab_support.notebook.page import own_server, predictions, record
from lab_support.notebook.page.committed import find
from lab_support.notebook.publishing.workspace import add_workspace_flag, in_a_sentence, no_such_notebook


def use_record_of(workspace: Path) -> None:
    """From now on this process uses the record of kernels in `workspace`, unless LAB_RECORD names another."""
    if not os.environ.get("LAB_RECORD"):
        os.environ["LAB_RECORD"] = str(workspace / ".lab" / "record.jsonl")


def forget(numbers: Iterable[str]) -> list[Path]:
    """Forget all answers in these notebooks: entries of the record, and steps of the reader's server.

    Returns the files and folders that keep them, none if there were no answers. An entry that a kernel writes at the
    same moment may be lost. Raises `OSError`.
    """
    numbers = set(numbers)
    steps = [each.number for number in sorted(numbers) for each in blanks(number) if isinstance(each, Step)]
    return [aside for aside in (_forget_entries(numbers), own_server.set_steps_aside(steps)) if aside]


def _forget_entries(numbers: Collection[str]) -> Path | None:
    file = record.path()
    lines = file.read_bytes().split(b"\n") if file.is_file() else []
    kept = [line for line in lines if _notebook(line) not in numbers]
    if len(kept) == len(lines):
        return None
    aside = _free_name(file)
    aside.write_bytes(b"\n".join(lines))
    fresh = file.with_suffix(".new")
    fresh.write_bytes(b"\n".join(kept))
    fresh.replace(file)
    return aside


def _notebook(line: bytes) -> str:
    """The number of the notebook that wrote a line; "" if the line has none."""
    try:
        fields = json.loads(line)
        return fields.get("notebook") or str(fields["name"]).partition(".")[0]
    except (ValueError, KeyError, AttributeError):
        return ""


def _free_name(file: Path) -> Path:
    index = 1
    while (aside := file.with_name(f"{file.name}.before-reset-{index}")).exists():  # `lab class` skips it
        index += 1
    return aside


def skip(numbers: Iterable[str]) -> list[str]:
    """Settle every prediction of these notebooks without an answer; return the numbers of newly settled ones."""
    asked = [name for number in numbers for name in asked_in(number).prediction]
    open_ones = [name for name in asked if not predictions.standing(name).settled]
    for name in open_ones:
        predictions.skip(name)
    return open_ones


# ---- the command -----------------------------------------------------------------------------------------------------


def add_skip_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `lab skip`."""
    parser.description = "For a demo: no result waits for a prediction any more. Run it before the notebook is opened."
    parser.add_argument("number", nargs="?", default="", help="number of a notebook, such as 04; by default, all")
    add_workspace_flag(parser)


def run_skip_command(arguments: argparse.Namespace) -> int:
    """`lab skip [NN]`: 0; 2 if there is no such notebook, or the record can't be written."""
    chosen = find([arguments.number] if arguments.number else [])
    if not chosen:
        return no_such_notebook("skip", arguments.number)
    use_record_of(arguments.workspace)
    try:
        record.path().parent.mkdir(parents=True, exist_ok=True)
        record.path().open("ab").close()
        skipped = skip(number_of(path) for path in chosen)
    except OSError as error:
        print(f"lab skip: {in_a_sentence(error)}", file=sys.stderr)
        return 2
    names = ", ".join(skipped) or "nothing, because all were settled before"
    print(f"Skipped: {names}. To be asked again: `lab reset {arguments.number or '00'} --answers`.")
    return 0

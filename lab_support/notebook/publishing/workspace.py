"""The folder of a reader's own files, as the commands name it, and what they say when it is of no use."""

import argparse
import sys
from pathlib import Path

from lab_support.notebook.page.committed import NOTEBOOKS, find

WORKSPACE = NOTEBOOKS.parent / "workspace"


def add_workspace_flag(parser: argparse.ArgumentParser) -> None:
    """Of every command that works on the reader's own files."""
    parser.add_argument(
        "--workspace", type=_folder, default=WORKSPACE, help="folder of your copies (default: workspace)"
    )


def _folder(text: str) -> Path:
    """Not every shell expands the ~ of WORKSPACE=~/lab."""
    return Path(text).expanduser()


def in_a_sentence(error: OSError) -> str:
    """Why a workspace is of no use, and what helps. Many share a clone, and few may write into it."""
    return f"{error.filename}: {error.strerror}; give a folder of your own: --workspace ~/lab"


def no_such_notebook(command: str, number: str) -> int:
    """Say which there are; the exit code."""
    print(f"lab {command}: got {number!r}, expected the number of a notebook:", file=sys.stderr)
    for path in find([]):
        print(f"  {path.stem.partition('_')[0]:4} {path.stem}", file=sys.stderr)
    return 2

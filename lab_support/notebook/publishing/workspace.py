"""The flag for the folder of a reader's own files, and the commands' messages if it is unusable."""

import argparse
import sys
from pathlib import Path

from lab_support.notebook.page.committed import NOTEBOOKS, find

WORKSPACE = NOTEBOOKS.parent / "workspace"


def add_workspace_flag(parser: argparse.ArgumentParser) -> None:
    """Add --workspace, the flag of every command that works on the reader's own files."""
    parser.add_argument(
        "--workspace", type=_folder, default=WORKSPACE, help="folder of your copies (default: workspace)"
    )


def _folder(text: str) -> Path:
    """The folder, with ~ expanded, because not every shell expands the ~ of WORKSPACE=~/lab."""
    return Path(text).expanduser()


def in_a_sentence(error: OSError) -> str:
    """Say why a workspace is unusable, and what helps. Many readers share a clone, and few may write into it."""
    return f"{error.filename}: {error.strerror}; give a folder of your own: --workspace ~/lab"


def no_such_notebook(command: str, number: str) -> int:
    """Print the known numbers; return the exit code."""
    print(f"lab {command}: got {number!r}, expected the number of a notebook:", file=sys.stderr)
    for path in find([]):
        print(f"  {path.stem.partition('_')[0]:4} {path.stem}", file=sys.stderr)
    return 2

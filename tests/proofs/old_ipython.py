"""Cells and live pictures in the oldest IPython that is supported, that of Colab: `python -m tests.proofs.old_ipython`.

It makes a virtual environment of its own for it, so it needs a package index; without one it says so.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.notebook.kernels import KERNEL
from tests.proofs import Row, pytests

OLDEST = ("ipython==7.34.0", "ipykernel==6.17.1")
TESTS = ("cells/test_python_process.py", "cells/test_cell_kills.py", "servers/test_looking.py")
IN_A_KERNEL = (
    "kernel or magic or line_numbers or without_into or options or streams_in or runs_in_a_thread or replaced_in_place "
    "or nothing_of_a_cell"
)
_ROOT = Path(__file__).parents[2]


def prove() -> list[Row]:
    asked = f"cells, the kill matrix and live pictures on {' and '.join(OLDEST)}"
    with tempfile.TemporaryDirectory(prefix="lab-old-") as folder:
        if why := _install(Path(folder)):
            return [Row(asked, f"not tested: {why}", False)]
        with _kernel_named_old(Path(folder)):
            files = [f"tests/notebook/{name}" for name in TESTS]
            return pytests.run(asked, *files, "-k", IN_A_KERNEL)


def _install(folder: Path) -> str:
    """Why it can't be had, or ""."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    wanted = [*OLDEST, *_as_pinned("matplotlib", "tqdm")]
    command = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip()[-300:] if done.returncode else ""


def _as_pinned(*names: str) -> list[str]:
    lines = (_ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line.partition("==")[0] in names]


@contextmanager
def _kernel_named_old(folder: Path) -> Iterator[None]:
    place = folder / "kernels/old"
    place.mkdir(parents=True)
    command = [str(folder / "venv/bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    described = {"argv": command, "display_name": "old", "language": "python", "env": {"PYTHONPATH": str(_ROOT)}}
    (place / "kernel.json").write_text(json.dumps(described))
    before = dict(os.environ)
    os.environ |= {"JUPYTER_PATH": str(folder), KERNEL: "old"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


if __name__ == "__main__":
    print(*prove(), sep="\n")

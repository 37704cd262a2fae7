"""The other Pythons of this machine, for a program to run under each."""

import shutil
import subprocess
import sys

_MINORS = range(11, 20)


def pythons() -> list[str]:
    """The path of each other Python from 3.11 on that `PATH` has as python3.N and that runs; the list may be empty.

    A version manager's name for a version that it lacks does not run, and is left out.
    """
    found = (shutil.which(f"python3.{minor}") for minor in _MINORS if minor != sys.version_info.minor)
    return [path for path in found if path and _runs(path)]


def _runs(path: str) -> bool:
    return subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0

"""`python -m tests.as_ordinary_user -m MODULE …`: Python as a user without privileges, who has no strace.

Started by root, it becomes a user of its own; anyone else stays the same user. Home, and the folders of Jupyter and
IPython, are in the temporary folder (TMPDIR), which becomes the user's.
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

from tests.as_other_user import OTHER_USER
from tests.instruments.as_nobody import open_the_way_to

_OF_THE_OLD_HOME = ("JUPYTER_", "IPYTHON", "XDG_", "MPL")


def main(words: list[str]) -> NoReturn:
    home = Path(os.environ["TMPDIR"])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_OLD_HOME)}
    environment = kept | {"HOME": str(home), "PATH": str(_programs(home / "bin", without="strace"))}
    if os.geteuid() == 0:
        _become_an_ordinary_user(home)
    os.execve(sys.executable, [sys.executable, *words], environment)


def _programs(folder: Path, *, without: str) -> Path:
    """A folder with links to all programs of the PATH but one."""
    folder.mkdir()
    for place in map(Path, os.get_exec_path()):
        for program in place.iterdir() if place.is_dir() else ():
            if program.name != without and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    return folder


def _become_an_ordinary_user(home: Path) -> None:
    os.chown(home, OTHER_USER, OTHER_USER)
    open_the_way_to(Path(sys.executable).resolve().parents[1])
    os.setgroups([])
    os.setgid(OTHER_USER)
    os.setuid(OTHER_USER)


if __name__ == "__main__":
    main(sys.argv[1:])

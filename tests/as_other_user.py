"""Runs a program of ours as an ordinary user of its own, for `running_server(program=AS_OTHER_USER)`.

Root may make as many processes as it likes, whatever RLIMIT_NPROC says: so for a shortage of processes one needs
another user, and one of its own, as the kernel counts all processes of a user together (getrlimit(2)).
"""

import os
import sys
from pathlib import Path
from typing import NoReturn

from tests.instruments.as_nobody import open_the_way_to

OTHER_USER = 54322
ROOT = Path(__file__).parents[1]
AS_OTHER_USER = ("-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import tests.as_other_user as a; a.become()")


def become() -> NoReturn:
    """In the new process, in its own temporary folder: from now on it is `lab`, and an ordinary user's."""
    os.chown(".", OTHER_USER, OTHER_USER)
    Path("..").chmod(0o711)
    open_the_way_to(Path(sys.executable).resolve().parents[1])
    os.setgroups([])
    os.setgid(OTHER_USER)
    os.setuid(OTHER_USER)
    os.execv(sys.executable, [sys.executable, "-m", "lab_support", *sys.argv[1:]])

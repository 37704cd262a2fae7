"""A launcher that adopts orphans: `python -m tests.boundary.adopter_under_test`, as PID 1 or as a subreaper.

Orphans come to it and end, after a child of its own that it has not heard of yet. It says what became of all.
"""

import ctypes
import os
import tempfile
import time
from pathlib import Path

from lab_support.supervision.children import Exited
from tests.boundary.conftest import CHILDREN_UNDER_TEST, family_of

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
ORPHANS = 5


def main() -> None:
    if os.getpid() != 1:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    hold, let_go = os.pipe()
    with family_of(tempfile.gettempdir() + "/never-made") as (children, signals):
        children.start("spawn", "child", CHILDREN_UNDER_TEST, "wait_for_ever")
        next(children.events(signals))  # it has started
        orphans = [make_orphan(hold, let_go) for _ in range(ORPHANS)]
        came = sum(parent_of(pid) == os.getpid() for pid in orphans)
        children.kill()
        os.waitid(os.P_PID, children.pids["child"], os.WEXITED | os.WNOWAIT)  # it is a zombie now, the first of all
        os.close(let_go)
        ends = []
        deadline = time.monotonic() + 20
        while any(map(exists, orphans)) and time.monotonic() < deadline:
            ends += list(children.events(signals, time.monotonic() + 0.1))
        left = sum(map(exists, orphans))
    print(f"{came} orphans came, {left} are left; own: {ends == [Exited('child', -9)]}")


def make_orphan(hold: int, let_go: int) -> int:
    """Its pid. It ends once no process holds `let_go` any more."""
    read, write = os.pipe()
    if (middle := os.fork()) == 0:
        if (orphan := os.fork()) == 0:
            os.close(let_go)
            os.read(hold, 1)
            os._exit(0)
        os.write(write, orphan.to_bytes(4, "little"))
        os._exit(0)
    os.waitpid(middle, 0)
    pid = int.from_bytes(os.read(read, 4), "little")
    os.close(read)
    os.close(write)
    return pid


def exists(pid: int) -> bool:
    """A zombie does too."""
    return Path(f"/proc/{pid}").exists()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


if __name__ == "__main__":
    main()

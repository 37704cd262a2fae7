"""Was a process forked from another, or did it start with execve? Its memory addresses tell.

The kernel lays out each new program at random addresses (address space layout randomisation). A fork keeps them;
execve(2) draws new ones. So a child with its parent's addresses is a copy that never called exec.
"""

import re
from pathlib import Path

from lab_support.instruments.foreign_text import read_text

_STACK = re.compile(r"-([0-9a-f]+) .*\[stack\]$", re.MULTILINE)


def stack_top(pid: int) -> int | None:
    """The highest address of the main stack, which stays fixed; None if the kernel does not tell."""
    try:
        found = _STACK.search(read_text(Path(f"/proc/{pid}/maps")))
    except OSError:
        return None
    return int(found[1], 16) if found else None


def is_copy(pid: int, of: int) -> bool | None:
    """Whether `pid` has the addresses of `of`; None where they are not readable or the kernel does not randomise."""
    one, other = stack_top(pid), stack_top(of)
    if one is None or other is None or not _randomised():
        return None
    return one == other


def _randomised() -> bool:
    try:
        return Path("/proc/sys/kernel/randomize_va_space").read_text().strip() != "0"
    except OSError:
        return False

"""The mounts of this process, from /proc/self/mountinfo: proc_pid_mountinfo(5)."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """place: mount point; root: its folder in the file system. kind: such as ext4. options: of the file system."""

    place: str
    root: str
    kind: str
    options: tuple[str, ...]


def read_mounts(proc: Path = Path("/proc/self")) -> list[Mount]:
    """In the order of mounting; [] if the kernel does not tell."""
    try:
        lines = (proc / "mountinfo").read_bytes().split(b"\n")
    except OSError:
        return []
    return [_mount(line) for line in lines if b" - " in line]


def _mount(line: bytes) -> Mount:
    before, _, after = line.partition(b" - ")
    root, place = before.split(b" ")[3:5]
    kind, _, options = after.split(b" ")[:3]
    return Mount(_name(place), _name(root), _name(kind), tuple(_name(options).split(",")))


def _name(field: bytes) -> str:
    """A path of any bytes; the kernel writes space, tab, line feed and backslash as three octal digits."""
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), field))


def mount_of(path: str) -> Mount | None:
    """The mount that `path` is on: the deepest one above it, and of several there the last, which hides the others."""
    inside = [mount for mount in read_mounts() if Path(os.path.realpath(path)).is_relative_to(mount.place)]
    return max(reversed(inside), key=lambda mount: len(mount.place), default=None)

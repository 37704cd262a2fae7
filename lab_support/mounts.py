"""What is mounted where, from /proc/self/mountinfo: proc_pid_mountinfo(5)."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """place: where it is; root: what of the file system is there. kind: such as ext4. options: the file system's."""

    place: str
    root: str
    kind: str
    options: tuple[str, ...]


def read_mounts(proc: Path = Path("/proc/self")) -> list[Mount]:
    """In the order in which they were mounted; [] where the kernel does not say."""
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
    """Any bytes, with spaces, tabs, line feeds and backslashes as three octal digits."""
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), field))


def mount_of(path: str) -> Mount | None:
    """The mount that `path` is on: of those that lead there the deepest, of these the last, which covers the others."""
    inside = [mount for mount in read_mounts() if Path(os.path.realpath(path)).is_relative_to(mount.place)]
    return max(reversed(inside), key=lambda mount: len(mount.place), default=None)

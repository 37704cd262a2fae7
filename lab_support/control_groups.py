"""The limits that control groups set for this process: cores, memory, processes. Versions 1 and 2, or both at once.

A group's limit also holds for the groups below it, so the tightest on the way up counts. /proc/self/mountinfo says
where each hierarchy is mounted and which group is the mount's root: in a container that is often the process's own
group, and the groups above it are not visible. None: there is no limit, or it can't be read.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab_support.mounts import Mount, read_mounts

_PROC = Path("/proc/self")

Limit = Callable[[Path], int | None]
"""Reads a limit from one group's own files."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """cores: rounded up. memory: bytes. processes: threads count too."""

    cores: int | None
    memory: int | None
    processes: int | None


def group_limits(proc: Path = _PROC) -> GroupLimits:
    """The limits of the process whose folder in /proc is `proc`. Changes nothing."""
    return GroupLimits(
        cores=_tightest(proc, "cpu", {"cgroup": _quota_1, "cgroup2": _quota_2}),
        memory=_tightest(proc, "memory", {"cgroup": _in("memory.limit_in_bytes"), "cgroup2": _in("memory.max")}),
        processes=_tightest(proc, "pids", {"cgroup": _in("pids.max"), "cgroup2": _in("pids.max")}),
    )


def memory_left(proc: Path = _PROC) -> int | None:
    """Bytes that the process may still allocate before one of its groups is full and its OOM killer acts.

    As in MemAvailable of /proc/meminfo, inactive file pages count as free.
    """
    of_kind = {
        "cgroup": _left("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        "cgroup2": _left("memory.max", "memory.current", "inactive_file"),
    }
    return _tightest(proc, "memory", of_kind)


def _tightest(proc: Path, controller: str, limits: dict[str, Limit]) -> int | None:
    found = [limits[mount.kind](group) for mount, group in _groups(proc, controller)]
    return min((limit for limit in found if limit is not None), default=None)


def _groups(proc: Path, controller: str) -> Iterator[tuple[Mount, Path]]:
    """All groups of this process, from its own to the top: those of version 2, and the controller's of version 1."""
    paths = _paths(proc)
    for mount in read_mounts(proc):
        if mount.kind == "cgroup2":
            path = paths.get("")
        elif mount.kind == "cgroup" and controller in mount.options:
            path = paths.get(controller)
        else:
            continue
        for group in _upwards(path, mount) if path is not None else ():
            yield mount, group


def _upwards(path: str, mount: Mount) -> Iterator[Path]:
    top = Path(mount.place)
    below = Path(path).relative_to(mount.root) if Path(path).is_relative_to(mount.root) else Path()
    group = top if ".." in below.parts else top / below
    yield group
    while group != top:
        group = group.parent
        yield group


def _paths(proc: Path) -> dict[str, str]:
    """Paths by controller; "" stands for version 2: cgroups(7)."""
    paths: dict[str, str] = {}
    for line in _text(proc / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    return paths


def _in(name: str) -> Limit:
    def limit(group: Path) -> int | None:
        text = _text(group / name).strip()
        return int(text) if text.isdecimal() else None

    return limit


def _left(limit: str, usage: str, inactive: str) -> Limit:
    def left(group: Path) -> int | None:
        most, used = _in(limit)(group), _in(usage)(group)
        if most is None or used is None:
            return None
        counts = dict(line.split() for line in _text(group / "memory.stat").splitlines())
        return max(0, most - max(0, used - int(counts.get(inactive, 0))))

    return left


def _quota_2(group: Path) -> int | None:
    """cpu.max: so many microseconds in each period, or "max"."""
    quota, _, period = _text(group / "cpu.max").strip().partition(" ")
    return _cores(quota, period)


def _quota_1(group: Path) -> int | None:
    """The quota is -1 if there is none."""
    return _cores(_text(group / "cpu.cfs_quota_us").strip(), _text(group / "cpu.cfs_period_us").strip())


def _cores(quota: str, period: str) -> int | None:
    if not (quota.isdecimal() and period.isdecimal() and int(period)):
        return None
    return max(1, -(-int(quota) // int(period)))


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_bytes().decode(errors="surrogateescape")
    return ""

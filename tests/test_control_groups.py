"""Limits of control groups, as both versions of their files have them, in trees as hosts and containers show them."""

from pathlib import Path

import pytest

from lab_support.control_groups import GroupLimits, group_limits, memory_left

HUGE = "9223372036854771712"  # what version 1 writes where memory has no limit


def tree(folder: Path, *, groups: str, mounts: dict[str, tuple[str, str]], files: dict[str, str]) -> Path:
    """A folder as /proc/PID is, and groups below a place with a space in its name.

    groups: as in /proc/PID/cgroup. mounts: by the mount's folder, its root and its kind with options.
    """
    proc, place = folder / "proc", folder / "a place"
    proc.mkdir()
    (proc / "cgroup").write_text(groups)
    written = str(place).replace(" ", "\\040")
    lines = [
        f"30 23 0:28 {root} {written}/{name} rw,relatime - {kind}\n".replace("//", "/")
        for name, (root, kind) in mounts.items()
    ]
    (proc / "mountinfo").write_bytes(
        b"29 23 0:27 / /\xe9\\012x rw - tmpfs none rw\nnonsense\n" + "".join(lines).encode()
    )
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text + "\n")
    return proc


def test_version_2_the_tightest_on_the_way_up_counts(tmp_path):
    proc = tree(
        tmp_path,
        groups="0::/user/shell\n",
        mounts={"": ("/", "cgroup2 none rw")},
        files={
            "user/shell/memory.max": "max",
            "user/shell/cpu.max": "150000 100000",
            "user/memory.max": "1000000",
            "user/cpu.max": "max 100000",
            "user/pids.max": "40",
            "user/shell/pids.max": "50",
        },
    )
    assert group_limits(proc) == GroupLimits(cores=2, memory=1_000_000, processes=40)


def test_version_1_each_controller_has_a_hierarchy_of_its_own(tmp_path):
    proc = tree(
        tmp_path,
        groups="4:memory:/box\n3:pids:/\n2:cpu,cpuacct:/box/in\n1:name=systemd:/\n0::/\n",
        mounts={
            "memory": ("/", "cgroup none rw,memory"),
            "cpu,cpuacct": ("/", "cgroup none rw,cpu,cpuacct"),
            "pids": ("/", "cgroup none rw,pids"),
            "unified": ("/", "cgroup2 none rw"),
        },
        files={
            "memory/box/memory.limit_in_bytes": "700000000",
            "memory/memory.limit_in_bytes": HUGE,
            "cpu,cpuacct/box/in/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/box/in/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/box/cpu.cfs_quota_us": "50000",
            "cpu,cpuacct/box/cpu.cfs_period_us": "100000",
            "pids/pids.max": "max",
        },
    )
    assert group_limits(proc) == GroupLimits(cores=1, memory=700_000_000, processes=None)


@pytest.mark.parametrize(("path", "root"), [("/docker/abc", "/docker/abc"), ("/../..", "/"), ("/other", "/docker/abc")])
def test_in_a_container_the_mounts_root_is_its_own_group(tmp_path, path, root):
    proc = tree(
        tmp_path,
        groups=f"1:memory:{path}\n",
        mounts={"memory": (root, "cgroup none rw,memory")},
        files={"memory/memory.limit_in_bytes": "5000000"},
    )
    assert group_limits(proc).memory == 5_000_000


def test_a_group_within_a_container_is_looked_for_below_the_mount(tmp_path):
    proc = tree(
        tmp_path,
        groups="0::/docker/abc/in/it\n",
        mounts={"": ("/docker/abc", "cgroup2 none rw")},
        files={"memory.max": "9000000", "in/it/memory.max": "5000000"},
    )
    assert group_limits(proc).memory == 5_000_000


def test_where_nothing_can_be_read_nothing_limits(tmp_path):
    assert group_limits(tmp_path / "nowhere") == GroupLimits(None, None, None)


def test_what_is_left_of_memory_is_the_least_of_all_groups(tmp_path):
    """Version 2: the group above is fuller. Memory of files that no process uses can be reclaimed."""
    proc = tree(
        tmp_path,
        groups="0::/user/shell\n",
        mounts={"": ("/", "cgroup2 none rw")},
        files={
            "user/shell/memory.max": "1000",
            "user/shell/memory.current": "400",
            "user/shell/memory.stat": "anon 300\ninactive_file 90",
            "user/memory.max": "5000",
            "user/memory.current": "4800",
            "user/memory.stat": "anon 4000\ninactive_file 100",
        },
    )
    assert memory_left(proc) == 300


def test_what_is_left_of_memory_in_version_1(tmp_path):
    proc = tree(
        tmp_path,
        groups="4:memory:/box\n",
        mounts={"memory": ("/", "cgroup none rw,memory")},
        files={
            "memory/box/memory.limit_in_bytes": "700",
            "memory/box/memory.usage_in_bytes": "900",
            "memory/box/memory.stat": "inactive_file 1\ntotal_inactive_file 300",
            "memory/memory.limit_in_bytes": HUGE,
            "memory/memory.usage_in_bytes": "1",
        },
    )
    assert memory_left(proc) == 100


def test_nothing_is_known_of_what_is_left_where_nothing_limits(tmp_path):
    files = {"user/memory.max": "max", "user/memory.current": "4800"}
    assert memory_left(tree(tmp_path, groups="0::/user\n", mounts={"": ("/", "cgroup2 none rw")}, files=files)) is None
    assert memory_left(tmp_path / "nowhere") is None

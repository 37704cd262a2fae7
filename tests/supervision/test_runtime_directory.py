"""A running server's directory is private; a dead one's is swept by the next start, and nothing else is touched."""

import os
import random
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab_support.config import ConfigError
from lab_support.supervision.runtime_directory import RuntimeDirectory, remove, sweep

MAKE_AND_DIE = """
import os
from lab_support.supervision.runtime_directory import RuntimeDirectory

RuntimeDirectory.make("dead")
os._exit(9)
"""
# Starts one server after another, and says of each whether its directory was whole to the end.
START_AND_STOP = """
import sys
from lab_support.supervision.runtime_directory import RuntimeDirectory, sweep

for _ in range(int(sys.argv[1])):
    with RuntimeDirectory.make("many", {"a_page": 4096}) as directory:
        sweep(directory.path.parent)
        whole = directory.path.is_dir() and (directory.metrics / "a_page").stat().st_size == 4096
        print("whole" if whole else f"lost {directory.path}", flush=True)
    if directory.path.exists():
        print(f"left {directory.path}", flush=True)
"""
OTHER_USER = 54321  # a uid that nobody has


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_it_is_private_and_goes(tmp_path) -> None:
    with RuntimeDirectory.make("id") as directory:
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
        assert directory.metrics.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_server_is_swept_and_a_living_one_is_not(tmp_path) -> None:
    subprocess.run([sys.executable, "-c", MAKE_AND_DIE], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    (dead,) = tmp_path.iterdir()
    with RuntimeDirectory.make("living") as living:
        assert not dead.exists()
        assert sweep(tmp_path) == []
        assert living.path.exists()


def test_a_temporary_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    with pytest.raises(ConfigError, match=r"temporary folder /proc/nowhere: .*TMPDIR"):
        RuntimeDirectory.make("id")


def test_a_path_too_long_for_a_socket(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with RuntimeDirectory.make("id") as directory, pytest.raises(ConfigError, match="too long for a socket"):
        directory.socket_path("api-0-in")


def many_starts(folder: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START_AND_STOP, str(count)],
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_servers_that_start_at_once_leave_each_other_alone(tmp_path) -> None:
    """Each start sweeps, and finds directories that the others have made and not locked yet."""
    starting = [many_starts(tmp_path, 150) for _ in range(4)]
    said = [process.communicate()[0].split("\n") for process in starting]
    assert said == [["whole"] * 150 + [""]] * 4
    assert list(tmp_path.iterdir()) == []


def test_a_kill_at_any_moment_leaves_nothing_after_the_next_start(tmp_path) -> None:
    chance = random.Random(14)
    for _ in range(12):
        with many_starts(tmp_path, 1_000_000) as process:
            assert process.stdout
            assert process.stdout.readline() == "whole\n"
            time.sleep(chance.uniform(0, 0.005))  # the moment is what is being drawn
            process.kill()
    with RuntimeDirectory.make("next") as made:
        assert list(tmp_path.iterdir()) == [made.path]


def test_one_that_was_killed_before_it_had_a_lock_is_swept(tmp_path) -> None:
    half_made = tmp_path / f"lab-serve-{os.getuid()}-half"
    half_made.mkdir(0o700)
    assert sweep(tmp_path) == [half_made]


def test_what_is_not_like_ours_is_neither_followed_nor_removed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared names: a link to a directory of ours, one that leads nowhere, a FIFO, a file, a directory that is open
    to others, one whose lock is a link, and one whose lock is a FIFO."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "precious").mkdir(parents=True, mode=0o700)
    (elsewhere / "precious" / "lock").touch()
    shared = tmp_path / "shared"
    shared.mkdir()
    ours = shared / f"lab-serve-{os.getuid()}"
    Path(f"{ours}-link").symlink_to(elsewhere / "precious")
    Path(f"{ours}-dangling").symlink_to(elsewhere / "made")
    os.mkfifo(f"{ours}-fifo")
    Path(f"{ours}-file").touch()
    for name, mode in (("open", 0o755), ("linked", 0o700), ("piped", 0o700)):
        Path(f"{ours}-{name}").mkdir(mode)
    Path(f"{ours}-open/lock").touch()
    Path(f"{ours}-linked/lock").symlink_to(elsewhere / "made")
    os.mkfifo(f"{ours}-piped/lock")
    before = sorted(shared.iterdir())
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    with RuntimeDirectory.make("id"):
        pass
    assert sorted(shared.iterdir()) == before
    assert [path.name for path in elsewhere.rglob("*")] == ["precious", "lock"]


def test_what_another_user_has_prepared_is_left_alone(tmp_path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to make another user's files")
    prepared = tmp_path / f"lab-serve-{os.getuid()}-x"
    prepared.mkdir(0o700)
    (prepared / "lock").touch()
    for path in (prepared / "lock", prepared):
        os.chown(path, OTHER_USER, OTHER_USER)
    assert sweep(tmp_path) == []
    assert [path.name for path in prepared.iterdir()] == ["lock"]


def test_a_link_within_is_removed_and_what_it_leads_to_is_not(tmp_path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    with RuntimeDirectory.make("id") as directory:
        (directory.metrics / "link").symlink_to(precious)
        (directory.path / "link").symlink_to(precious)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (precious / "file").exists()


def test_a_child_that_outlives_the_launcher_removes_a_dead_directory_only(tmp_path) -> None:
    with RuntimeDirectory.make("living") as living:
        remove(str(living.path))
        assert living.metrics.is_dir()
    subprocess.run([sys.executable, "-c", MAKE_AND_DIE], env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    (dead,) = tmp_path.iterdir()
    remove(str(dead))
    assert list(tmp_path.iterdir()) == []
    remove(str(dead))  # came too late


def test_a_directory_that_a_cleaner_has_removed_is_no_error_at_the_end(tmp_path) -> None:
    with RuntimeDirectory.make("id") as directory:
        shutil.rmtree(directory.path)
        directory.path.mkdir()  # by any process
    assert list(tmp_path.iterdir()) == [directory.path]


def test_a_temporary_folder_whose_name_is_not_utf8(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/t-\xe9")
    os.mkdir(odd)
    monkeypatch.setattr("tempfile.tempdir", odd)
    with pytest.raises(ConfigError, match="t-\ufffd, which is not UTF-8; name another one in TMPDIR"):
        RuntimeDirectory.make("id")


def test_a_temporary_folder_behind_a_link(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "link"))
    with RuntimeDirectory.make("id") as directory:
        assert directory.path.parent == tmp_path / "link"
        assert len(list((tmp_path / "real").iterdir())) == 1
    assert list((tmp_path / "real").iterdir()) == []


def test_what_a_cleaner_has_removed_is_made_again_and_still_its_own(tmp_path) -> None:
    with RuntimeDirectory.make("id", {"counter_0.db": 4096}) as directory:
        for remove_it in (
            lambda: shutil.rmtree(directory.path),
            (directory.path / "lock").unlink,
            lambda: shutil.rmtree(directory.metrics),
            (directory.metrics / "counter_0.db").unlink,
            lambda: None,
        ):
            remove_it()
            directory.mend()
            assert (directory.metrics / "counter_0.db").stat().st_size == 4096
            assert sweep(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, os.mkfifo, lambda path: path.symlink_to("/nowhere")])
def test_a_name_that_another_took_meanwhile_is_left_to_it(tmp_path, make) -> None:
    with RuntimeDirectory.make("id") as directory:
        shutil.rmtree(directory.path)
        make(directory.path)
        with pytest.raises(FileExistsError):
            directory.mend()
    assert [path.name for path in tmp_path.rglob("*")] == [directory.path.name]

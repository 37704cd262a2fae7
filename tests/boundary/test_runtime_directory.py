"""A running server's directory is private; a dead one's is swept by the next start."""

import os
import stat
import subprocess
import sys

import pytest

from lab_support.boundary.runtime_directory import RuntimeDirectory, sweep
from lab_support.config import ConfigError

MAKE_AND_DIE = (
    "import os; from lab_support.boundary.runtime_directory import RuntimeDirectory as R; R.make('dead'); os._exit(9)"
)


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

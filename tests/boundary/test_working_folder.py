"""A path relative to the folder of the start keeps its meaning for as long as the server runs."""

import os
from pathlib import Path

import pytest

from lab_support.boundary.working_folder import anchored, leave_if_gone
from lab_support.config import ServerConfig


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", "scratch")
    config = anchored(ServerConfig(model=Path("models/small"), uds="socket"))
    assert (config.model, config.model_name) == (tmp_path / "models" / "small", "small")
    assert config.uds == str(tmp_path / "socket")
    assert config.generation_config == "auto"
    assert anchored(ServerConfig(generation_config="other")).generation_config == str(tmp_path / "other")
    assert os.environ["TMPDIR"] == str(tmp_path / "scratch")


def test_a_path_that_fits_into_an_address_only_as_it_was_given_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.chdir(deep)
    assert anchored(ServerConfig(uds="socket")).uds == "socket"


def test_a_folder_that_is_gone_is_left_and_one_that_is_there_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    leave_if_gone()
    assert Path.cwd() == tmp_path
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert anchored(ServerConfig(uds="socket")).uds == "socket"
    for _ in range(2):
        leave_if_gone()
    assert Path.cwd() == Path("/")
    assert len(caplog.records) == 1

"""The other Pythons that run a program: those that are installed and work."""

import sys

from lab_support.notebook.cells.pythons import pythons


def test_those_are_found_that_run_and_are_not_this_one(tmp_path, monkeypatch):
    (tmp_path / "python3.18").symlink_to(sys.executable)
    (tmp_path / f"python3.{sys.version_info.minor}").symlink_to(sys.executable)
    (tmp_path / "python3.17").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.17").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pythons() == [str(tmp_path / "python3.18")]


def test_none_is_well_too(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pythons() == []

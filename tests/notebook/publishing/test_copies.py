"""The reader's copies: without outputs, never overwritten once edited, fresh on demand."""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lab_support.__main__ import main
from lab_support.notebook.page import committed
from lab_support.notebook.publishing import copies


@pytest.fixture
def original(tmp_path, monkeypatch):
    """The folder of originals, with one notebook that has an output; `committed.find` looks there."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(committed, "NOTEBOOKS", folder)
    write(folder / "00_start.ipynb", "1 + 1")
    return folder / "00_start.ipynb"


def write(path, source):
    cell = new_code_cell(source, execution_count=1, outputs=[new_output("stream", text="2")])
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Why?"), cell]), path)


def edit(path, source):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = source
    nbformat.write(notebook, path)


def source(path):
    return nbformat.read(path, as_version=4).cells[1].source


def states(workspace):
    return [(copy.path.name, copy.state, copy.original_changed) for copy in copies.copy_all(workspace)]


def test_a_copy_has_no_outputs_and_the_original_keeps_its_own(original, tmp_path):
    assert states(tmp_path / "w") == [("00_start.ipynb", "new", False)]
    cell = nbformat.read(tmp_path / "w" / "00_start.ipynb", as_version=4).cells[1]
    assert (cell.source, cell.outputs, cell.execution_count) == ("1 + 1", [], None)
    assert nbformat.read(original, as_version=4).cells[1].outputs


def test_a_copy_folds_the_cells_that_ask_for_a_prediction(original, tmp_path):
    write(original, "lab.predict('00.1', 'who answers', options={'a': 'one', 'b': 'all'})")
    copies.copy_all(tmp_path / "w")
    for path, folded in ((tmp_path / "w" / "00_start.ipynb", {"source_hidden": True}), (original, None)):
        assert nbformat.read(path, as_version=4).cells[1].metadata.get("jupyter") == folded


def test_a_copy_that_was_only_run_follows_its_original(original, tmp_path):
    copies.copy_all(tmp_path / "w")
    mine = tmp_path / "w" / "00_start.ipynb"
    notebook = nbformat.read(mine, as_version=4)
    notebook.cells[1].outputs = [new_output("stream", text="run by me")]
    nbformat.write(notebook, mine)
    assert states(tmp_path / "w") == [("00_start.ipynb", "same", False)]
    write(original, "2 + 2")
    assert states(tmp_path / "w") == [("00_start.ipynb", "updated", False)]
    assert source(mine) == "2 + 2"


def test_an_edited_copy_is_never_overwritten(original, tmp_path):
    copies.copy_all(tmp_path / "w")
    mine = tmp_path / "w" / "00_start.ipynb"
    edit(mine, "my own")
    assert states(tmp_path / "w") == [("00_start.ipynb", "yours", False)]
    write(original, "2 + 2")
    assert states(tmp_path / "w") == [("00_start.ipynb", "yours", True)]
    assert source(mine) == "my own"


def test_a_copy_that_cannot_be_read_is_kept_and_said_and_reset_mends_it(original, tmp_path, capsys):
    copies.copy_all(tmp_path / "w")
    mine = tmp_path / "w" / "00_start.ipynb"
    for broken in ('{"cells": [', "{}", b"\xff\xfe"):
        mine.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
        words = argparse.Namespace(number="00", workspace=tmp_path / "w", copy_only=True)
        assert copies.run_open_command(words) == 0
        assert "cannot be read as a notebook" in capsys.readouterr().out
        [(_, kept)] = copies.reset("00", tmp_path / "w")
        assert kept.read_bytes() == (broken if isinstance(broken, bytes) else broken.encode())
        assert source(mine) == "1 + 1"


def test_half_a_number_resets_nothing(original, tmp_path):
    copies.copy_all(tmp_path / "w")
    for half in ("", "0"):
        assert copies.reset(half, tmp_path / "w") == []


def test_reset_makes_a_fresh_copy_and_keeps_the_old_one(original, tmp_path):
    copies.copy_all(tmp_path / "w")
    mine = tmp_path / "w" / "00_start.ipynb"
    for index, text in enumerate(("first", "second"), 1):
        edit(mine, text)
        [(path, kept)] = copies.reset("00", tmp_path / "w")
        assert (path, kept.name) == (mine, f"00_start.before-reset-{index}.ipynb")
        assert (source(mine), source(kept)) == ("1 + 1", text)


def test_a_number_without_a_notebook_is_refused_with_those_there_are(original, tmp_path, capsys):
    assert copies.run_reset_command(argparse.Namespace(number="77", workspace=tmp_path / "w", answers=False)) == 2
    assert "got '77', expected the number of a notebook:\n  00   00_start\n" in capsys.readouterr().err


def test_jupyterlab_is_started_on_the_loopback_in_the_workspace(tmp_path):
    command = copies.jupyter_command(tmp_path, "00_start.ipynb", 8888, browser=False)
    assert "--ServerApp.ip=127.0.0.1" in command
    assert f"--ServerApp.root_dir={tmp_path}" in command
    assert "--LabApp.default_url=/lab/tree/00_start.ipynb" in command
    assert "--no-browser" in command


def test_the_command_makes_the_copies_of_the_real_notebooks(tmp_path):
    words = ["open", "--copy-only", "--workspace", str(tmp_path / "w")]
    done = subprocess.run([sys.executable, "-m", "lab_support", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "00_start_here: your copy is new" in done.stdout
    assert (tmp_path / "w" / "00_start_here.ipynb").exists()


# ---- answers, and folders that can't be written ----------------------------------------------------------------------


@dataclass
class Ended:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def lab_command(monkeypatch, capsys):
    """Runs the `lab` command in this process, as a process of its own takes seconds to import what it needs."""

    def run(*words) -> Ended:
        monkeypatch.setattr(sys, "argv", ["lab", *map(str, words)])
        monkeypatch.setenv("LAB_RECORD", "")
        return Ended(main(), *capsys.readouterr())

    return run


def record_in(workspace, *lines):
    file = workspace / ".lab" / "record.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n")
    return file


ANSWERS = (
    '{"kind": "prediction", "name": "00.1", "at": 1, "notebook": "00", "event": "skip"}',
    '{"kind": "claim", "name": "some words", "at": 2, "notebook": "00", "outcome": true}',
    '{"kind": "check", "name": "01.1", "at": 3, "notebook": "01", "outcome": true}',
    '{"kind": "prediction", "name": "01a.1", "at": 4, "event": "skip"}',
    "torn {",
)


def test_reset_keeps_answers_unless_it_is_asked_to_forget_them(tmp_path, lab_command):
    file = record_in(tmp_path, *ANSWERS)
    assert lab_command("reset", "00", "--workspace", tmp_path).returncode == 0
    assert file.read_text().splitlines() == list(ANSWERS)
    done = lab_command("reset", "00", "--answers", "--workspace", tmp_path)
    assert "they are kept in record.jsonl.before-reset-1" in done.stdout, done.stderr
    assert file.read_text().splitlines() == list(ANSWERS[2:])
    assert (file.parent / "record.jsonl.before-reset-1").read_text().splitlines() == list(ANSWERS)
    assert "no answers to forget" in lab_command("reset", "00", "--answers", "--workspace", tmp_path).stdout


def test_an_appendix_is_forgotten_with_its_notebook(tmp_path, lab_command):
    file = record_in(tmp_path, *ANSWERS)
    assert lab_command("reset", "01", "--answers", "--workspace", tmp_path).returncode == 0
    assert file.read_text().splitlines() == [*ANSWERS[:2], ANSWERS[4]]


def test_the_steps_of_the_readers_server_are_forgotten_with_the_notebook_that_has_them(tmp_path, lab_command):
    steps = tmp_path / ".lab" / "my_server"
    steps.mkdir(parents=True)
    for number in range(1, 6):
        (steps / f"step_{number}.py").write_text(f"# {number}\n")
    (tmp_path / "my_server.py").write_text("# mine\n")
    done = lab_command("reset", "07a", "--answers", "--workspace", tmp_path)
    assert "they are kept in my_server.before-reset-1" in done.stdout, done.stderr
    assert sorted(file.name for file in steps.iterdir()) == ["step_1.py", "step_2.py", "step_3.py"]
    assert (steps.with_name("my_server.before-reset-1") / "step_5.py").read_text() == "# 5\n"
    assert "my_server.before-reset-2" in lab_command("reset", "07", "--answers", "--workspace", tmp_path).stdout
    assert not list(steps.iterdir()) and (tmp_path / "my_server.py").read_text() == "# mine\n"


def test_skip_settles_every_prediction_of_a_notebook(tmp_path, lab_command):
    done = lab_command("skip", "00", "--workspace", tmp_path)
    assert done.returncode == 0 and "Skipped: 00.1, 00.2, 00.3" in done.stdout, done.stderr
    lines = (tmp_path / ".lab" / "record.jsonl").read_text().splitlines()
    assert lines and all('"event": "skip"' in line and '"name": "00.' in line for line in lines)
    assert "nothing, because all were settled before" in lab_command("skip", "00", "--workspace", tmp_path).stdout


@pytest.mark.parametrize("command", ["reset", "open", "skip"])
def test_a_number_that_is_none_brings_the_list_of_notebooks(command, tmp_path, lab_command):
    done = lab_command(command, "4", "--workspace", tmp_path / "w")
    assert done.returncode == 2 and done.stderr.startswith(
        f"lab {command}: got '4', expected the number of a notebook:"
    )
    assert "\n  04   04_who_gets_the_next_connection\n  04a  04a_" in done.stderr
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "words", [("open", "--copy-only"), ("reset", "00"), ("reset", "00", "--answers"), ("skip", "00")]
)
def test_a_folder_that_cannot_be_written_is_a_sentence(words, tmp_path, lab_command):
    """As another user's clone is. Root could write everywhere, but not below a file."""
    (tmp_path / "file").touch()
    done = lab_command(*words, "--workspace", tmp_path / "file" / "w")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"lab {words[0]}: ") and "give a folder of your own: --workspace ~/lab" in done.stderr


def test_a_workspace_may_be_named_from_home(tmp_path, lab_command, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    done = lab_command("open", "--copy-only", "--workspace", "~/my lab")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my lab" / "00_start_here.ipynb").exists()


def test_widgets_are_kept_in_the_notebook_for_the_next_day(tmp_path, lab_command):
    assert lab_command("open", "--copy-only", "--workspace", tmp_path).returncode == 0
    settings = json.loads(next(tmp_path.rglob("default_setting_overrides.json")).read_text())
    assert settings["@jupyter-widgets/jupyterlab-manager:plugin"] == {"saveState": True}

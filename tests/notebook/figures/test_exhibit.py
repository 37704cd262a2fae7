"""Exhibits: live where strace is, recorded and labelled so where it is not."""

import json
import shutil

import nbformat
import pytest

import lab_support.notebook as lab
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.page.gate import Gated
from lab_support.notebook.publishing import build

NAME = "descriptor_in_four_ways"
WITHOUT_TRACE = ProcessResult("x", "finished", 0.1, (), (), ())
SENDS_ONE = """
import os, socket
ours, theirs = socket.socketpair()
if os.fork() == 0:
    os._exit(len(socket.recv_fds(theirs, 1, 1)[1]) - 1)
socket.send_fds(ours, [b"!"], [1])
os.wait()
"""


def test_without_strace_the_recording_is_shown_and_says_so():
    table = lab.exhibit(NAME, WITHOUT_TRACE)
    assert table.note.startswith("RECORDED, because strace is not installed: Linux ")
    sent = [row for row in table.rows if row[1] == "sendmsg"]
    assert [row[0] for row in sent] == ["P0", "thread of P0"]
    assert all(row[2].startswith("SCM_RIGHTS") for row in sent)


def test_with_a_prediction_the_exhibit_waits_for_it():
    assert isinstance(lab.exhibit(NAME, WITHOUT_TRACE, prediction="03.1"), Gated)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_with_strace_the_calls_of_just_now_are_shown():
    run = run_process(SENDS_ONE, strace=True, quiet=True, expect="any")
    table = lab.exhibit(NAME, run)
    assert "just now" in table.note
    assert ("P0", "sendmsg", "SCM_RIGHTS, descriptors 1") in table.rows
    assert [row[2] for row in table.rows if row[1].startswith(("clone", "fork"))] == ["makes P1"]


def test_an_exhibit_that_is_not_there_is_told_with_what_is():
    with pytest.raises(LookupError, match=f"got exhibit 'other', expected one of: .*{NAME}"):
        lab.exhibit("other", WITHOUT_TRACE)


def test_the_recorded_program_is_the_notebook_s():
    notebook = nbformat.read(next(build.NOTEBOOKS.glob("03_*.ipynb")), as_version=4)
    recorded = json.loads((build.NOTEBOOKS.parent / "data" / "exhibits" / f"{NAME}.json").read_text())["source"]
    assert recorded.removeprefix("# ").strip() in [cell.source.strip() for cell in build.code_cells(notebook)]

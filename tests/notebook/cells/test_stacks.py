"""The stacks of a cell that ended at its deadline: first that of the thread whose wait is told, then the others."""

import re

import pytest

from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.moves import exercises

COLOURS = re.compile(r"\x1b\[[\d;]*m")
THREADS = """
import os, threading
def rest():
    threading.Event().wait()
for _ in range({threads}):
    threading.Thread(target=rest, daemon=True).start()
def hang():
    os.read(os.pipe()[0], 1)
hang()
"""


def report(source: str, capsys: pytest.CaptureFixture[str], name: str) -> list[str]:
    """The lines that follow the one with P0's wait, up to those of the next process."""
    run_process(source, name=name, timeout=2, expect="timeout")
    shown = COLOURS.sub("", capsys.readouterr().out)
    _, _, of_p0 = shown.partition("── the deadline")[2].partition("\nP0 ")
    return re.split(r"\n(?=\S)", of_p0)[0].splitlines()


def test_the_stack_below_a_wait_is_that_of_the_thread_that_waits(capsys):
    """The exercise's cell: its parent waits for a child, and a thread of it for an event."""
    source = exercises.as_program(exercises.exercise("01.2").skeleton)
    lines = report(source, capsys, "workers")
    assert lines[0].startswith("waits for its child P1 to end (wait4)")
    assert "in <listcomp>" in lines[1] or "in run" in lines[1], "that of os.waitpid, which is no frame itself"
    assert "in report" in "".join(lines[lines.index("   another thread:") :])


@pytest.mark.parametrize("threads", [0, 1, 12])
def test_however_many_threads_there_are_the_main_one_comes_first(threads, capsys):
    lines = report(THREADS.format(threads=threads), capsys, "many")
    assert lines[0].startswith("waits to read from a pipe")
    assert lines[1] == "      many.py, line 8, in hang: os.read(os.pipe()[0], 1)"
    assert lines.count("   another thread:") == threads


def test_a_main_thread_beyond_the_hundred_that_are_written_has_no_stack_rather_than_anothers(capsys):
    lines = report(THREADS.format(threads=120), capsys, "many")
    assert lines[0].startswith("waits to read from a pipe") and lines[1] == "   another thread:"

"""The census of a cell: the script comes first, and no process is missed, however late the supervisor comes."""

import subprocess
import sys
from pathlib import Path

from lab_support.notebook.cells.python_process import run_process

PROGRAM = """
import json, os, signal, subprocess, sys
sys.path[:0] = sys.argv[1:]
from cell_census import Census

script = subprocess.Popen(["sleep", "60"])
child = subprocess.Popen(["sleep", "60"])
told = []
def report(kind, **fields):
    told.append((kind, fields.get("pid")))
def nothing(*_):
    pass
def news():
    census.heard(child.pid, -1, "fork", 0.1, script.pid)
census = Census(report, lambda: 0.0, nothing, nothing, nothing, news, 64)
print(json.dumps([census[script.pid].number, census[child.pid].number]))
for process in (script, child):
    process.kill()
    process.wait()
"""


def test_a_script_that_has_forked_before_it_was_counted_is_the_first_all_the_same():
    folder = Path(__file__).parents[3] / "lab_support" / "notebook" / "cells"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, timeout=30)
    assert done.stdout == "[0, 1]\n", done.stderr


WHILE_THE_SUPERVISOR_STANDS_STILL = """
import multiprocessing, os, signal

def work():
    pass

if __name__ == "__main__":
    supervisor = os.getppid()
    child = multiprocessing.get_context("spawn").Process(target=work)
    os.kill(supervisor, signal.SIGSTOP)
    child.start()
    child.join()
    os.kill(supervisor, signal.SIGCONT)
"""


def test_a_child_that_ended_before_anybody_looked_is_known_by_its_own_words():
    result = run_process(WHILE_THE_SUPERVISOR_STANDS_STILL, timeout=20, quiet=True)
    (child,) = result.spawned
    (command,) = (each.command for each in child.execs)
    assert command.endswith("--multiprocessing-fork")

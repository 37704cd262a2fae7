"""The census of a cell: the script comes first, however late it is counted."""

import subprocess
import sys
from pathlib import Path

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
    folder = Path(__file__).parents[2] / "lab_support" / "notebook"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, timeout=30)
    assert done.stdout == "[0, 1]\n", done.stderr

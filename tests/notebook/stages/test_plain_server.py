"""A plain server's launcher ends in each way, and its port is asked: by real processes and sockets."""

import json
import socket
import subprocess
import sys
import textwrap

import pytest

from lab_support.notebook.stages.plain_server import ANSWERED, ENDS, REFUSED, SILENCE

PROGRAM = """
import json, multiprocessing, os, signal, socket
from lab_support.notebook.stages.plain_server import ENDS, after, serve

def launcher(ready):
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        spawn = multiprocessing.get_context("spawn")
        children = [spawn.Process(target=serve, args=(listening_socket,), daemon=True) for _ in range(2)]
        for child in children:
            child.start()
        ready(listening_socket, children)

def told(ready):
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        child = multiprocessing.get_context("fork").Process(target=serve, args=(listening_socket,))
        child.start()
        print(json.dumps(listening_socket.getsockname()[1]), flush=True)
        ready(listening_socket, [child])

def breaks(ready):
    raise SystemExit(1)

if __name__ == "__main__":
"""


@pytest.fixture
def main(tmp_path):
    def run(lines: str) -> list:
        file = tmp_path / "program.py"
        file.write_text(PROGRAM + textwrap.indent(lines, "    "))
        done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def test_daemonic_children_end_with_a_launcher_that_runs_its_exit_functions_and_outlive_any_other(main):
    rows = dict(zip(ENDS, main("for end in ENDS: print(json.dumps(after(launcher, end)))"), strict=True))
    assert {end: row["client"] for end, row in rows.items()} == {
        "its main returns": REFUSED,
        "SIGINT": REFUSED,
        "SIGTERM": ANSWERED,
        "SIGKILL": ANSWERED,
    }
    for row in rows.values():
        outlived = row["client"] == ANSWERED
        assert (row["running"], bool(row["parent"]), row["free"]) == (2 * outlived, outlived, not outlived)


def test_stopped_children_keep_the_port_and_answer_nobody(main):
    [found] = main('print(json.dumps(after(launcher, "SIGKILL", stopped=True)))')
    assert (found["client"], found["running"], found["free"]) == (SILENCE, 2, False)


def test_none_of_them_is_left(main):
    """They share the listening socket, so its port is free once all have ended."""
    [port] = main('after(told, "SIGKILL")')
    socket.create_server(("127.0.0.1", port)).close()


def test_a_launcher_that_breaks_and_an_end_that_there_is_not_are_told(main):
    lines = """\
for launch, end in ((breaks, "SIGKILL"), (launcher, "SIGQUIT")):
    try:
        after(launch, end)
    except (RuntimeError, ValueError) as error:
        print(json.dumps(str(error)))
"""
    broken, unknown = main(lines)
    assert "got a launcher that ended or said nothing" in broken
    assert "got end 'SIGQUIT', expected one of its main returns, SIGINT" in unknown

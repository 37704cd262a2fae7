"""Functions for a cell's own processes: a question to a forked child, an X-ray, a server of lines."""

import socket

import pytest

import lab_support.notebook as lab
from lab_support.instruments import proc
from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.moves.exercises import cell
from lab_support.notebook.page.record import STABLE
from lab_support.notebook.stages.line_server import line_server


def told(source: str, **choices) -> dict:
    result = run_process(source, quiet=True, **choices)
    return {name: value for event in result.events for name, value in event.fields.items()}


def test_a_forked_child_answers_with_a_value_or_with_its_error():
    found = told("""
import os
from lab_support.notebook.script import emit, in_child
parent = os.getpid()
emit(value=in_child(lambda: [os.getpid() != parent, os.getppid() == parent]), error=in_child(lambda: 1 / 0))
emit(left=len(os.listdir("/proc/self/fd")), nothing=in_child(lambda: None), much=len(in_child(lambda: "x" * 500_000)))
""")
    assert found["value"] == [True, True]
    assert found["error"] == "ZeroDivisionError: division by zero"
    assert (found["nothing"], found["much"]) == (None, 500_000)


def test_a_child_that_does_not_answer_is_stuck_and_gone_in_time():
    result = run_process(
        """
import signal
from lab_support.notebook.script import emit, in_child
emit(said=in_child(signal.pause, seconds=0.2), again=in_child(lambda: "still here"))
""",
        quiet=True,
    )
    assert result.events[-1].fields == {"said": "stuck", "again": "still here"}
    assert result.exit_codes["P1"] == -9
    assert not any(proc.is_running(each.identity) for each in result.processes)


def test_a_cell_takes_an_x_ray_of_itself_and_its_child(monkeypatch):
    run = run_process(
        """
import os, signal, tempfile
from lab_support.notebook.script import xray
file = tempfile.TemporaryFile()
xray("before")
if (child := os.fork()) == 0:
    signal.pause()
xray("after")
os.kill(child, signal.SIGKILL)
""",
        quiet=True,
    )
    before, after = lab.xray(run, "before"), lab.xray(run, "after")
    assert [one.name for one in before.graph.processes] == ["P0"]
    assert [one.name for one in after.graph.processes] == ["P0", "P1"]
    (file,) = (thing for thing in after.shared if thing.kind == "file")
    assert after.holders(file) == ["P0", "P1"]
    assert "new             process P1" in str(lab.compare(before, after))
    assert "P0" in str(after) and "2 processes" in str(after)
    monkeypatch.setenv(STABLE, "1")
    assert str(after).startswith("P0: 2 processes"), "a published notebook has P0 for the pid, which is the name too"
    picture = after._repr_mimebundle_()[0]["image/svg+xml"]
    assert "P0 (" in picture and "P0 (P0)" not in picture and "pid P0" not in picture
    with pytest.raises(KeyError, match="got X-ray 'later', expected one that the cell took: before, after"):
        lab.xray(run, "later")


def ask(connection: socket.socket, question: str) -> None:
    connection.sendall(question.encode() + b"\n")


def answer(connection: socket.socket) -> str:
    return connection.makefile().readline().strip()


def test_the_line_server_answers_one_question_and_two_at_a_time():
    with line_server() as address:
        with socket.create_connection(address, timeout=10) as one, socket.create_connection(address, timeout=10) as two:
            ask(one, "alone")
            assert answer(one) == "alone"
            ask(one, "first")
            ask(two, "second")
            assert (answer(one), answer(two)) == ("first", "second")
        with socket.create_connection(address, timeout=10) as shared:
            shared.sendall(b"aaa\nbbb\n")
            assert eight_bytes(shared) == b"ababab\n\n"


def eight_bytes(connection: socket.socket) -> bytes:
    found = b""
    while len(found) < 8:
        found += connection.recv(8)
    return found


def test_the_line_server_is_gone_after_its_block():
    with line_server() as address:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_a_cell_is_found_by_its_name_and_its_first_line_says_how_it_runs():
    held = cell("01", "held_lock")
    assert held.startswith("%%python_process ") and " --name held_lock " in held.partition("\n")[0]
    options = options_of(held)
    assert (options["timeout"], options["expect"], options["name"]) == (2.0, "any", "held_lock")
    assert "into" not in options and "inputs" not in options
    with pytest.raises(LookupError, match="got cell 'no_such' of notebook '01'"):
        cell("01", "no_such")
    with pytest.raises(ValueError, match="expected a cell that begins with %%python_process"):
        options_of("print(1)")

"""A running cell's output: unfinished lines, any bytes, any locale, and the notes next to it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab_support.notebook.cells.cell_words import Page
from lab_support.notebook.cells.python_process import run_process
from tests.instruments.as_nobody import needs_root
from tests.notebook.kernels import running_kernel

COLOURS = re.compile(r"\x1b\[[\d;]*m")
INTERRUPTED = """\
%%python_process --name waits --timeout 60
import os, signal
child = os.fork()
if child == 0:
    print("waiting", end="")
    signal.pause()
os.waitpid(child, 0)
"""


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    return COLOURS.sub("", capsys.readouterr().out)


# ---- unfinished lines ------------------------------------------------------------------------------------------------


def test_an_unfinished_line_is_shown_while_the_cell_runs_and_an_interrupt_reports_who_waits_for_what():
    with running_kernel() as kernel:
        assert "│ waiting" in COLOURS.sub("", kernel.run_until(INTERRUPTED, "waiting"))
        kernel.manager.interrupt_kernel()
        report, error = "", []
        while (message := kernel.client.get_iopub_msg(timeout=30))["content"].get("execution_state") != "idle":
            report += message["content"].get("text", "")
            error += message["content"].get("traceback", [])
    assert "P0 waits for its child P1 to end" in COLOURS.sub("", report)
    assert "waits.py, line 7, in <module>: os.waitpid(child, 0)" in report
    assert "waits.py, line 6, in <module>: signal.pause()" in report
    assert error == ["KeyboardInterrupt: it was interrupted while P0, P1 still ran; all its processes were ended"]


LINE_CUT_BY_ANOTHERS = """
import os, select
def a_moment():
    select.select([], [], [], 0.5)  # so long does nobody wait for the rest of a line
os.write(1, b"be")
a_moment()
if os.fork() == 0:
    print("another")
    os._exit(0)
os.wait()
os.write(1, b"gun, caf\\xc3")
a_moment()
os.write(1, b"\\xa9\\nlast")
"""


def test_a_line_that_another_has_cut_goes_on_below_and_is_whole_in_the_result(capsys):
    result = run_process(LINE_CUT_BY_ANOTHERS)
    assert shown(capsys).splitlines() == ["P0 │ be", "P1 │ another", "P0 │ … gun, café", "P0 │ last"]
    assert [(text.process, text.text) for text in result.texts] == [
        ("P1", "another\n"),
        ("P0", "begun, café\n"),
        ("P0", "last"),
    ]


def test_a_line_written_anew_after_a_carriage_return_keeps_the_name_before_it(capsys):
    page = Page(10, 1000)
    for piece in ("1 %\r", "2 %", "\r3 %\n"):
        page.write(0, "P0", "out", piece)
    assert shown(capsys) == "P0 │ 1 %\rP0 │ 2 %\rP0 │ 3 %\n"


def test_an_endless_line_is_shown_up_to_a_limit_and_is_in_the_result_whole(capsys):
    result = run_process("while True: print('.' * 200, end='')", most_output=500_000, expect="output")
    text = shown(capsys)
    assert result.output.count(".") == len(result.output) >= 500_000
    assert text.count(".") >= 200_000 > len(text) - 1000
    assert f"… and {len(result.output) - 200_000:,} more characters" in text


# ---- what is said beside it ------------------------------------------------------------------------------------------


def test_a_line_of_the_loader_on_the_supervisors_stderr_does_the_cell_no_harm(monkeypatch, capsys):
    monkeypatch.setenv("LD_PRELOAD", "/nowhere.so")
    result = run_process("print('hello')")
    assert result.output_of("P0", "out") == "hello\n"
    assert shown(capsys).count("/nowhere.so") == 1


def test_messages_that_are_none_are_counted_and_left_out(capsys):
    source = """
import os, socket
from lab_support.notebook.script import emit
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as events:
    deeper = b'{"at": 1, "event": {"x": ' + b"[" * 250 + b"]" * 250 + b"}}"
    for odd in (b"", b"no JSON", b'{"at": 1}', deeper):
        events.sendto(odd, os.environ["LAB_CELL"] + "/events")
emit(long="x" * 99_000)
deep = []
for _ in range(250):
    deep = [deep]
emit(deep=deep)
"""
    result = run_process(source, expect=1)
    assert [len(event.fields["long"]) for event in result.events] == [99_000]
    assert "ValueError: emit: got lists nested more than 200 deep" in result.output
    assert "4 messages to LAB_CELL/events that `emit` did not send: left out" in shown(capsys)


# ---- where it runs ---------------------------------------------------------------------------------------------------


SAYS = "print('é 🙂', ascii('é'))"
INPUTS = "from lab_support.notebook.script import inputs\nprint(inputs()['word'])"
IN_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_in_any_locale_a_cell_is_read_and_shown_in_utf_8():
    program = f"""
from lab_support.notebook.cells.python_process import run_process
print(ascii(run_process({SAYS!a}, quiet=True).output))
print(ascii(run_process({INPUTS!r}, inputs={{"word": "\\xe9"}}, quiet=True).output))
"""
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, env=os.environ | IN_ASCII, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [ascii("é 🙂 '\\xe9'\n"), ascii("é\n")], done.stderr


def test_a_cell_imports_its_notebooks_neighbours_wherever_they_are_and_runs_without_them(tmp_path, monkeypatch, capsys):
    place = tmp_path / "a:b é"
    place.mkdir()
    (place / "neighbour.py").write_text("x = 5\n")
    monkeypatch.chdir(place)
    source = """
import multiprocessing, neighbour
def work():
    print("in the child", neighbour.x)
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
"""
    assert run_process(source, quiet=True).output == "in the child 5\n"
    (place / "neighbour.py").unlink()
    for made in place.iterdir():
        for file in made.iterdir():
            file.unlink()
        made.rmdir()
    place.rmdir()
    assert run_process("print('hello')").output == "hello\n"
    assert f"the folder of this notebook is gone, {place}" in shown(capsys)


def test_lines_of_files_beside_the_script_are_quoted_too(capsys):
    files = {"other.py": "import signal\ndef hang():\n    signal.pause()\n"}
    run_process("import other\nother.hang()", name="main", files=files, timeout=1, expect="timeout")
    assert "tmp/other.py, line 3, in hang: signal.pause()\n      main.py, line 2, in <module>: other.hang()" in shown(
        capsys
    )


# ---- others ----------------------------------------------------------------------------------------------------------


HOLDER = """
import os, sys
asked, made, name = sys.argv[1:]
with open(asked) as question:
    question.read()
with open(name, "w") as held, open(made, "w"):
    sys.stdin.read()
os.unlink(name)
"""
OPENS = """
import os, signal
from multiprocessing import resource_tracker, shared_memory
from lab_support.notebook.script import emit, inputs
asked, made, name = inputs()["words"]
open(asked, "w").close()
open(made)
others = open(name)
own = shared_memory.SharedMemory(create=True, size=100)
resource_tracker.unregister(own._name, "shared_memory")
emit(own=own.name)
signal.pause()
"""


def test_what_somebody_else_has_named_and_holds_stays(tmp_path):
    """Also when it was made after the cell's start, and the cell has it open. The cell's own is gone."""
    words = [str(tmp_path / "asked"), str(tmp_path / "made"), f"/dev/shm/lab-test-{os.getpid()}"]
    for name in words[:2]:
        os.mkfifo(name)
    with subprocess.Popen([sys.executable, "-c", HOLDER, *words], stdin=subprocess.PIPE) as holder:
        result = run_process(OPENS, inputs={"words": words}, timeout=2, expect="timeout", quiet=True)
        assert Path(words[2]).exists()
        assert not Path("/dev/shm", result.told["own"]).exists()
        holder.communicate()
    assert not Path(words[2]).exists()


@needs_root
def test_who_is_none_of_the_cells_is_not_ended_with_it_though_its_pid_came_with_a_message():
    source = """
import os, signal, socket, struct
from lab_support.notebook.script import inputs
with socket.socket(fileno=os.dup(1)) as stdout:
    forged = struct.pack("iII", inputs()["pid"], 0, 0)
    stdout.sendmsg([b"forged\\n"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, forged)])
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as stranger:
        result = run_process(source, inputs={"pid": stranger.pid}, timeout=1, expect="timeout", quiet=True)
        assert stranger.poll() is None
        assert [process.name for process in result.processes] == ["P0"]
        assert result.output_of("P0") == "forged\n"
        stranger.communicate()


MANY = """
import os, resource, signal
children = [os.fork() or signal.pause() for _ in range(80)]
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)
"""


def test_few_descriptors_for_the_kernel_are_no_limit_for_the_supervisor():
    program = f"""
import resource
from lab_support.notebook.cells.python_process import run_process
resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
result = run_process({MANY!r}, most_processes=100, quiet=True)
print(len(result.processes), result.output)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["81", "40"], done.stderr

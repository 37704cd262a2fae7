"""Cells as processes of their own: what the reader is shown, what the result holds, what is refused."""

import os
import re
import sys
from pathlib import Path

import pytest

from lab_support.instruments.strace import Trace
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.python_process import CellFailed, run_process
from lab_support.notebook.figures.timeline import timeline
from tests.instruments.as_nobody import as_nobody_with_python, needs_root
from tests.notebook.kernels import Kernel, running_kernel

COLOURS = re.compile(r"\x1b\[[\d;]*m")


def run(source: str, **choices: object) -> ProcessResult:
    return run_process(source, **choices)  # type: ignore[arg-type]


def is_or_unknown(code: int | None, expected: int) -> bool:
    """Kernels before 6.16 forget the exit code of a process that somebody has waited for."""
    release = tuple(int(word) for word in re.findall(r"\d+", os.uname().release)[:2])
    return code == expected or (code is None and release < (6, 16))


# ---- who wrote what --------------------------------------------------------------------------------------------------


def test_each_line_carries_the_process_that_wrote_it_children_numbered_as_they_were_made(capsys):
    source = """
import os, sys
for number in range(3):
    if os.fork() == 0:
        print("child", number)
        os.write(2, b"by system call\\n")
        os._exit(number)
for number in range(3):
    os.wait()
print("parent")
"""
    result = run(source, expect="any")
    assert [result.output_of(f"P{number + 1}", "out") for number in range(3)] == ["child 0\n", "child 1\n", "child 2\n"]
    assert result.output_of("P2", "err") == "by system call\n"
    assert all(is_or_unknown(result.exit_codes[f"P{number + 1}"], number) for number in range(3))
    shown = COLOURS.sub("", capsys.readouterr().out).splitlines()
    assert {"P1 │ child 0", "P1 ! by system call", "P0 │ parent"} <= set(shown)


def test_lines_stay_whole_when_many_write_at_once():
    source = """
import os
for child in range(4):
    if os.fork() == 0:
        for number in range(200):
            print(f"<{child} {number} ", end="")
            print("x" * 50 + ">")
        os._exit(0)
for child in range(4):
    os.wait()
"""
    result = run(source, quiet=True)
    assert sorted(result.output.splitlines()) == sorted(f"<{c} {n} {'x' * 50}>" for c in range(4) for n in range(200))


def test_a_flood_is_neither_lost_nor_shown_in_full(capsys):
    result = run("for number in range(100_000): print(number)")
    assert result.output.splitlines() == [str(number) for number in range(100_000)]
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) < 1100
    assert "99000 more lines" in shown[-1]


def test_a_last_line_without_its_end_is_kept_and_so_are_odd_bytes():
    result = run("import os; os.write(1, b'ends with \\xff')", quiet=True)
    assert result.output == "ends with �"


def test_a_process_may_announce_its_name_and_two_of_one_name_are_told_apart():
    source = """
import os
from lab_support.notebook.script import announce
for child in range(2):
    if os.fork() == 0:
        announce("worker")
        print("here")
        os._exit(0)
    os.wait()
"""
    result = run(source, quiet=True)
    assert [process.name for process in result.processes] == ["P0", "worker", "worker (P2)"]
    assert result.output_of("worker (P2)") == "here\n"


def test_helpers_of_multiprocessing_go_by_what_they_are():
    source = """
import multiprocessing
def work():
    print("work")
if __name__ == "__main__":
    child = multiprocessing.get_context("forkserver").Process(target=work)
    child.start()
    child.join()
"""
    result = run(source, quiet=True)
    assert {process.name for process in result.processes} == {"P0", "P1", "resource tracker", "fork server"}
    assert result.output_of("P1") == "work\n"
    assert result.process("P1").parent == "fork server"


def test_merged_streams_keep_their_order():
    source = "import sys\nfor number in range(50):\n    print(number, file=(sys.stdout, sys.stderr)[number % 2])"
    assert run(source, merge=True, quiet=True).output.split() == [str(number) for number in range(50)]


def test_buffered_leaves_pythons_own_buffer_to_be_copied_by_fork():
    source = "import os\nprint('once')\nif os.fork() == 0:\n    raise SystemExit\nos.wait()"
    assert run(source, buffered=True, quiet=True).output == "once\nonce\n"
    assert run(source, quiet=True).output == "once\n"


# ---- how it ends -----------------------------------------------------------------------------------------------------


def test_an_error_is_shown_with_the_files_name_and_line_and_fails_the_cell():
    with pytest.raises(CellFailed, match=r"exit code 1; expected exit code 0.*--expect 1") as failed:
        run("\n\ndef f():\n    raise ValueError('no')\nf()", name="wrong", quiet=True)
    assert 'File "wrong.py", line 4, in f' in failed.value.result.output
    assert "/tmp" not in failed.value.result.output


@pytest.mark.parametrize(
    ("source", "expect"),
    [
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("import os; os.kill(os.getpid(), 11)", -11),
        ("import signal; signal.pause()", "timeout"),
        ("import os, signal\nif os.fork() == 0: signal.pause()", "leftover"),
    ],
)
def test_a_failure_that_is_the_lesson_is_declared(source, expect):
    run(source, expect=expect, timeout=2, quiet=True)
    with pytest.raises(CellFailed):
        run(source, timeout=2, quiet=True)


def test_a_deadlock_ends_at_the_deadline_and_is_explained(capsys):
    source = """\
import os, threading
lock = threading.Lock()
lock.acquire()
def take():
    with lock:
        print("never")
child = os.fork()
if child == 0:
    take()
reading, writing = os.pipe()
if os.fork() == 0:
    os.read(reading, 1)
os.waitpid(child, 0)
"""
    result = run(source, name="deadlock", timeout=1, expect="timeout")
    shown = COLOURS.sub("", capsys.readouterr().out)
    assert "the deadline of 1 s passed while P0, P1, P2 still ran" in shown
    assert "P0 waits for its child P1 to end" in shown
    assert "P1 waits for a lock or condition in memory (futex)\n      deadlock.py, line 5, in take: with lock:" in shown
    assert "P2 waits to read from a pipe" in shown
    assert "the write end is held by P0 and itself" in shown
    assert result.output == ""


def test_who_holds_the_gil_in_c_who_is_stopped_and_who_computes_are_explained_too(capsys):
    source = """\
import ctypes, os, signal
if os.fork() == 0:
    ctypes.PyDLL(None).pause()
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
while True:
    pass
"""
    run(source, name="stuck", timeout=1, expect="timeout")
    shown = COLOURS.sub("", capsys.readouterr().out)
    assert "P0 is computing, and waits for nothing\n      stuck.py, line" in shown
    assert re.search(r"P1 waits for a signal \((pause|rt_sigsuspend|ppoll)\)\n      stuck.py, line 3", shown)
    assert "P2 is stopped (SIGSTOP)" in shown
    assert "stuck.py, line 5, in <module>: os.kill(os.getpid(), signal.SIGSTOP)" in shown


def test_limits_on_processes_and_output_say_so():
    with pytest.raises(CellFailed, match="more than 10 processes at once"):
        run("import os, time\nfor _ in range(6):\n    os.fork()\ntime.sleep(60)", most_processes=10, quiet=True)
    with pytest.raises(CellFailed, match="more than 100,000 bytes"):
        run("while True: print('x' * 999)", most_output=100_000, quiet=True)


FORK_BOMBS = {
    "doubles": "for _ in range(11): os.fork()",
    "doubles, in sessions of their own": "for _ in range(11): os.fork() or os.setsid()",
    "endless": "while True: os.fork()",
}


@pytest.mark.slow
@pytest.mark.parametrize("bomb", FORK_BOMBS)
def test_a_fork_bomb_ends_long_before_it_fills_the_machine(bomb):
    limited = "import os, resource, time\nresource.setrlimit(resource.RLIMIT_CPU, (5, 5))"
    source = f"{limited}\n{FORK_BOMBS[bomb]}\ntime.sleep(60)"
    before = forks_since_boot()
    with pytest.raises(CellFailed, match="it made more than 64 processes at once; all its processes were") as failed:
        run(source, quiet=True)
    made = forks_since_boot() - before
    print(f"{bomb}: {made} processes in {failed.value.result.seconds:.2f} s")
    assert made < 1500
    if os.environ.get("LAB_PROVE"):
        assert failed.value.result.seconds < 1.5


def forks_since_boot() -> int:
    """Of the whole machine, threads too."""
    return int(re.search(r"^processes (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)[1])


def test_a_process_that_only_forks_and_ends_is_caught_too():
    run("import os\nwhile True:\n    if os.fork(): os._exit(0)", expect="leftover", timeout=5, quiet=True)


def test_children_that_ended_and_that_nobody_has_waited_for_do_not_count():
    source = """
import os
for _ in range(100):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
"""
    result = run(source, most_processes=10, quiet=True)
    assert result.ended == "finished"
    assert len(result.processes) == 101


@needs_root
def test_an_ordinary_users_fork_bomb_ends_as_well():
    def ended() -> str:
        source = f"import os, time\n{FORK_BOMBS['doubles']}\ntime.sleep(60)"
        return run(source, expect="processes", quiet=True).ended

    assert as_nobody_with_python(ended) == "processes"


@needs_root
def test_an_ordinary_user_has_a_limit_in_the_kernel_as_well():
    def limit() -> int:
        return int(run("import resource; print(resource.getrlimit(resource.RLIMIT_NPROC)[0])", quiet=True).output)

    assert 1064 < as_nobody_with_python(limit) < 10_000


def test_its_files_are_gone_afterwards():
    result = run("import tempfile; print(tempfile.mkdtemp()); print(__file__)", quiet=True)
    assert result.output.startswith("tmp/")
    assert result.output.endswith("cell.py\n")
    folder = run("import os, tempfile; print(*tempfile.gettempdir())", quiet=True).output.replace(" ", "").strip()
    assert folder.startswith("/")
    assert not Path(folder).exists()


# ---- in and out ------------------------------------------------------------------------------------------------------


def test_values_go_in_as_json_and_events_come_out():
    source = """
import os
from lab_support.notebook.script import emit, inputs
if os.fork() == 0:
    emit(got=inputs()["numbers"])
    os._exit(0)
os.wait()
"""
    (event,) = run(source, inputs={"numbers": [1, 2]}, quiet=True).events
    assert (event.process, event.fields) == ("P1", {"got": [1, 2]})
    with pytest.raises(TypeError, match="inputs: got set in 'numbers'"):
        run(source, inputs={"numbers": {1}})


def test_files_lie_beside_the_script_and_can_be_imported():
    result = run("import other\nprint(other.__file__, other.VALUE)", files={"other.py": "VALUE = 7"}, quiet=True)
    assert result.output == "tmp/other.py 7\n"
    assert result.source.startswith("import other")
    with pytest.raises(ValueError, match=r"files: got '\.\./other\.py', expected a file's name without a folder"):
        run("", files={"../other.py": ""})


def test_what_a_cell_imports_is_light():
    source = "import sys, lab_support.notebook.script\nprint({'IPython', 'matplotlib', 'torch'} & set(sys.modules))"
    assert run(source, quiet=True).output == "set()\n"


def test_listeners_count_wake_ups_exactly():
    source = """
import select
from lab_support.notebook.script import emit, listeners
def wait(listening_socket, take):
    poll = select.epoll()
    poll.register(listening_socket, select.EPOLLIN FLAG)
    while True:
        poll.poll()
        take(listening_socket)
emit(listeners(3, wait, connections=60))
"""
    herd = run(source.replace("FLAG", ""), quiet=True)
    one = run(source.replace("FLAG", "| select.EPOLLEXCLUSIVE"), quiet=True)
    assert herd.wakeups_per_connection > 2.5
    assert one.wakeups_per_connection < 1.5
    assert sum(herd.shares) == pytest.approx(1)
    assert max(one.shares) > 0.9
    assert [row[0] for row in herd.table("process", "accepted").rows] == ["P1", "P2", "P3"]
    with pytest.raises(KeyError, match="no such column"):
        herd.table("no such column")


def test_an_error_in_a_listener_is_told_by_the_readers_lines_alone():
    source = """
from lab_support.notebook.script import listeners
def wait(listening_socket, take):
    1 / 0
listeners(1, wait)
"""
    said = run(source, quiet=True, expect="any").output
    assert "in wait\n    1 / 0" in said and "ZeroDivisionError: division by zero" in said
    assert "in <module>\n    listeners(1, wait)" in said and "RuntimeError: got a listener that ended" in said
    assert "lab_support" not in said


def test_an_error_in_a_worker_of_a_crew_is_told_by_the_readers_lines_alone():
    source = """
from lab_support.notebook.crew import crew
def serve(listening_socket):
    connection = listening_socket.accept()  # open until the worker has told its error
    1 / 0
with crew(1, serve) as workers:
    workers.connect(1).answers(5)
"""
    said = run(source, quiet=True, expect="any").output
    assert "in serve\n    1 / 0" in said and "ZeroDivisionError: division by zero" in said
    assert "lab_support" not in said


def test_environment_and_interpreter_can_be_chosen():
    assert run("import os; print(os.environ['COLOUR'])", env={"COLOUR": "blue"}, quiet=True).output == "blue\n"
    assert run("print('ran')", python=sys.executable, quiet=True).output == "ran\n"
    with pytest.raises(FileNotFoundError, match="got 'no-such-python'"):
        run("", python="no-such-python")


def test_strace_gives_the_calls_where_it_is_there_and_says_so_where_not(capsys, monkeypatch):
    result = run("import os\nif os.fork() == 0: os._exit(0)\nos.wait()", strace=True)
    if isinstance(result.trace, Trace):
        assert len([call for call in result.trace.calls if call.makes_process]) == 1
    assert len(result.processes) == 2
    capsys.readouterr()
    monkeypatch.setenv("PATH", "")
    assert run("print('ran')", strace=True).trace is None
    assert "strace: not found" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"name": "../x"}, {"expect": "maybe"}, {"expect": ""}])
def test_choices_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"got .* expected"):
        run("", **wrong)


# ---- the timeline ----------------------------------------------------------------------------------------------------


def test_short_lives_are_seen_with_their_exit_codes_and_execs():
    source = """
import os, subprocess
for number in range(5):
    if os.fork() == 0:
        os._exit(number)
    os.wait()
subprocess.run(["sleep", "1"])
"""
    result = run(source, quiet=True)
    assert [process.parent for process in result.processes] == [""] + ["P0"] * 6
    assert [each.command for each in result.process("P6").execs] == ["sleep 1"]
    made = [process.made for process in result.processes]
    assert made == sorted(made)
    assert all(process.ended is not None and process.ended >= process.made for process in result.processes)


def test_children_that_end_together_with_the_script_keep_their_exit_codes():
    """Taken for left over and killed, in 58 of 100 runs of this, while their ends were in no poll's answer yet."""
    source = """
import os
children = [os.fork() or os._exit(3) for _ in range(8)]
for child in children:
    os.waitpid(child, 0)
os._exit(0)
"""
    codes = {process.exit_code for _ in range(15) for process in run(source, quiet=True).processes[1:]}
    assert codes <= {3, None}, "None where the kernel tells no exit code of a process that was waited for"


def test_the_figure_says_who_made_whom_and_how_they_ended():
    source = """
import os, signal
if os.fork() == 0:
    signal.pause()
child = os.fork()
if child == 0:
    os.kill(os.getpid(), signal.SIGKILL)
os.wait()
raise SystemExit(3)
"""
    picture = timeline(run(source, expect="leftover", quiet=True))
    assert "P0 made 2 more" in picture.alt
    assert "P1: made by P0" in picture.alt
    assert "killed with the cell" in picture.alt
    assert picture.png().startswith(b"\x89PNG")


def test_moments_are_marked_on_the_bar_of_the_process_that_told_them():
    source = """
import os
from lab_support.notebook.script import emit
emit(moment="before")
if (child := os.fork()) == 0:
    emit(moment="in the child")
    os._exit(0)
os.waitpid(child, 0)
emit(moment="after", more=1)
emit(other=2)
"""
    picture = timeline(run(source, quiet=True), "moment", "What happened when")
    assert picture.alt.startswith("Timeline. What happened when.")
    (axes,) = picture.figure.axes
    marked = {text.get_text().strip(): round(text.get_position()[1]) for text in axes.texts}
    assert {"before", "in the child", "after"} <= set(marked)
    assert marked["in the child"] > marked["before"], "the child's bar is below its parent's"


# ---- in a real kernel ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel():
    with running_kernel() as running:
        yield running


def shown(kernel: Kernel, cell: str) -> str:
    text, error = kernel.run(cell)
    assert not error, error
    return COLOURS.sub("", text)


def test_line_numbers_are_those_of_the_cell(kernel):
    text, error = kernel.run("%%python_process --name mine\nimport os\n\nraise KeyError('x')")
    assert 'File "mine.py", line 4, in <module>' in text
    assert error == "CellFailed: the script ended with exit code 1; expected exit code 0. " + (
        "If that is the lesson, say so: --expect 1"
    )


def test_the_magic_takes_values_and_gives_its_result(kernel):
    kernel.run("numbers = [1, 2, 3]")
    cell = """%%python_process --inputs numbers --into run --env GREETING="hello you" --expect -9
import os
from lab_support.notebook.script import emit, inputs
emit(total=sum(inputs()["numbers"]), greeting=os.environ["GREETING"])
os.kill(os.getpid(), 9)"""
    assert "ended with signal SIGKILL (exit code -9), as expected" in shown(kernel, cell)
    assert shown(kernel, "print(run.events[0].fields)") == "{'total': 6, 'greeting': 'hello you'}\n"
    assert "NameError" in kernel.run("%%python_process --inputs nothing\n1")[1]


def test_without_into_the_result_is_shown(kernel):
    assert "cell: exit code 0 · 1 process" in shown(kernel, "%%python_process\n1")


def test_options_are_told_and_mistakes_in_them_too(kernel):
    assert "--timeout" in shown(kernel, "%%python_process --help\npass")
    assert "unrecognized arguments" in kernel.run("%%python_process --no-such\n1")[0]


def test_output_streams_in_while_the_cell_runs(kernel):
    cell = "%%python_process --timeout 60\nimport signal\nprint('first')\nsignal.pause()"
    assert "first" in kernel.run_until(cell, "first")
    kernel.manager.interrupt_kernel()
    assert kernel.await_idle() == "KeyboardInterrupt"


def test_it_runs_in_a_thread_of_the_kernel_too(kernel):
    cell = """import threading, lab_support.notebook as lab
found = []
worker = threading.Thread(target=lambda: found.append(lab.run_process("print(6 * 7)", quiet=True).output))
worker.start(); worker.join(); print(found)"""
    assert shown(kernel, cell) == "['42\\n']\n"


def test_a_kernel_keeps_nothing_of_its_cells(kernel):
    count = "import os; print(len(os.listdir('/proc/self/fd')), threading.active_count())"
    kernel.run("import threading")
    kernel.run("%%python_process\n1")
    before = shown(kernel, count)
    for _ in range(10):
        kernel.run("%%python_process --expect any\nimport os\nos.fork()\nprint(1)")
    descriptors, threads = map(int, shown(kernel, count).split())
    assert descriptors - int(before.split()[0]) < 5  # the kernel's own come and go
    assert threads == int(before.split()[1])


def test_pygments_takes_the_body_for_python():
    from ipython_pygments_lexers import IPythonLexer
    from pygments.token import Keyword

    tokens = list(IPythonLexer().get_tokens("%%python_process --into run\nwhile True:\n    pass\n"))
    assert (Keyword, "while") in tokens

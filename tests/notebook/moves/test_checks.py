"""Marking a reader's program: its verdicts, its hints in their order, and that it never fails the cell."""

import re
from dataclasses import replace

import pytest

import lab_support.notebook as lab
from lab_support.notebook.moves.attempt import Attempt, Verdict
from lab_support.notebook.moves.exercises import Exercise, exercise, failed, passed
from lab_support.notebook.page import record
from tests.notebook.kernels import Kernel, running_kernel

RECORD = "LAB_RECORD"  # names the file, see record.py

HARNESS = """
import answer
from lab_support.notebook.script import emit
emit(measured={"sum": answer.add(2, 3)})
"""
RIGHT = "def add(a, b):\n    return a + b\n"


def judge(attempt: Attempt) -> Verdict:
    total = attempt.measure(HARNESS, timeout=2)["sum"]
    return passed("5") if total == 5 else failed(str(total), "5", "it does not add")


ADDING = Exercise(
    name="00.9", kind="must", task="make it add", skeleton="def add(a, b):\n    return 0\n", reference=RIGHT,
    also_right=(), wrong=(), hints=("add them",), judge=judge,
)  # fmt: skip


# ---- what is said of a program ---------------------------------------------------------------------------------------


def test_right_and_wrong_are_told_by_what_the_program_did():
    assert ADDING.mark("def add(*numbers):\n    return sum(numbers)") == Verdict("passed", "5")
    assert ADDING.mark("def add(a, b):\n    return a * b") == Verdict("failed", "6", "5", "it does not add")


def test_the_skeleton_with_other_spaces_and_comments_is_no_attempt():
    assert ADDING.mark("\n# mine\ndef add(a,b):\n        return 0  # later\n").state == "untried"


@pytest.mark.parametrize(
    ("source", "measured", "cause"),
    [
        ("def add(a, b):\n    return missing", "NameError", "`missing` is known in the notebook, perhaps"),
        ("def add(a, b):\n    return max(aa, b)", "NameError", "or you mean `a`"),
        ("def add(a, b):\n    open('/proc/0/fd')", "FileNotFoundError", "or end while you look at it"),
        ("def add(a, b):\n\n    return a / 0", "ZeroDivisionError", "it stops there, in line 3 of your program"),
        ("def add(a, b:", "SyntaxError", "it stops there, in line 1"),
        ("def sum_of(a, b):\n    return 5", "AttributeError", "the check calls `add`"),
        ("raise SystemExit", "exit code 0", "it stops there"),
        ("import os, signal\ndef add(a, b):\n    os.kill(os.getpid(), 11)", "ended by signal SIGSEGV", "line 3"),
    ],
)
def test_a_program_that_stops_is_told_where_and_why(source, measured, cause):
    verdict = ADDING.mark(source)
    assert verdict.state == "failed"
    assert re.search(measured, verdict.measured)
    assert cause in verdict.cause


def test_a_program_that_hangs_is_told_what_it_waits_for():
    verdict = ADDING.mark("import threading\ndef add(a, b):\n    threading.Semaphore(0).acquire()")
    assert verdict.state == "failed"
    assert "the deadline of 2 s passed" in verdict.measured
    assert verdict.cause == "P0 waits for a lock or condition in memory (futex), in line 3 of your program" + (
        ": `threading.Semaphore(0).acquire()`"
    )


def test_an_error_is_told_even_if_the_program_left_something_running():
    source = "import os, signal\ndef add(a, b):\n    if os.fork() == 0:\n        signal.pause()\n    raise KeyError(7)"
    assert ADDING.mark(source).measured == "KeyError: 7"


def test_where_the_solution_fails_as_well_it_is_the_machine_that_could_not_measure():
    too_slow = "import time\ndef add(a, b):\n    time.sleep(60)"
    slow_machine = replace(ADDING, reference=too_slow)
    verdict = slow_machine.mark("def add(a, b):\n    return 6")
    assert verdict.state == "unmeasured"
    assert "the solution itself does not pass on this machine just now" in verdict.cause
    assert slow_machine.mark(RIGHT).state == "passed"


def test_a_machine_that_starts_no_process_could_not_measure(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/proc/no-such-folder")
    monkeypatch.setattr("tempfile.tempdir", "/proc/no-such-folder")
    verdict = ADDING.mark(RIGHT)
    assert verdict.state == "unmeasured"
    assert "this machine would not run it" in verdict.cause


def test_a_run_that_was_ended_from_outside_could_not_be_measured():
    verdict = ADDING.mark("import os\ndef add(a, b):\n    os.kill(os.getppid(), 9)\n    os.wait()")
    assert verdict == Verdict("unmeasured", cause="the check was ended from outside; run it again")


def test_a_check_that_meets_what_it_does_not_know_fails_no_cell():
    puzzled = replace(ADDING, judge=lambda attempt: attempt.measure(HARNESS)["no such figure"])
    assert "the check met something that it does not know: KeyError" in puzzled.mark(RIGHT).cause


def test_a_judge_may_look_at_the_whole_program_and_its_processes():
    def by_exit_codes(attempt: Attempt) -> Verdict:
        result = attempt.run(inputs={"code": 7})
        codes = sorted(filter(None, result.exit_codes.values()))
        return passed("7") if codes == [7] else failed(f"{codes} of {len(attempt.processes)}", "[7]", "no child")

    exits = replace(ADDING, judge=by_exit_codes, reference="raise SystemExit(7)")
    source = "from lab_support.notebook.script import inputs\nraise SystemExit(inputs()['code'])"
    assert exits.mark(source).state == "passed"
    assert exits.mark("raise SystemExit(3)") == Verdict("failed", "[3] of 1", "[7]", "no child")


# ---- by the reader's door --------------------------------------------------------------------------------------------


@pytest.fixture
def own_record(tmp_path, monkeypatch):
    for name in ("LAB_BATCH", "LAB_STABLE_OUTPUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(RECORD, str(tmp_path / "record.jsonl"))


def test_what_is_no_answer_is_told_and_never_raises(own_record):
    assert "not attempted yet" in repr(lab.check("00.1"))
    for answer in (7, print, lab.run_process("1", quiet=True).events):
        result = lab.check("00.1", answer)
        assert result.verdict.state == "unmeasured"
        assert "expected the result of the exercise's cell" in result.verdict.cause


def test_a_check_is_shown_as_text_and_as_html(own_record):
    result = lab.check("00.2", exercise("00.2").wrong[0].source)
    assert not result.passed
    data = result._repr_mimebundle_()
    assert data["text/plain"] == repr(result)
    for words in ("✘ 00.2 (should): not yet", "measured", "expected", "likely cause", 'lab.hint("00.2")'):
        assert words in data["text/plain"]
        assert words in data["text/html"]


def test_attempts_are_kept_and_what_is_none_is_not(own_record):
    task = exercise("00.3")
    for answer in (None, task.skeleton, task.wrong[0].source, task.reference):
        lab.check("00.3", answer)
    kept = [(entry.fields["state"], entry.fields["cause"]) for entry in record.entries("check", "00.3")]
    assert kept == [("failed", task.wrong[0].cause), ("passed", "")]


def test_hints_come_one_after_the_other(own_record):
    hints = exercise("00.1").hints
    shown = [lab.hint("00.1").text for _ in range(len(hints) + 1)]
    assert [text.partition(": ")[2].partition("\n")[0] for text in shown] == [*hints, hints[-1]]
    assert "no further hint" not in shown[-3]
    assert 'lab.reveal("00.1")' in shown[-1]
    assert "Hint 1 of" in lab.hint("00.2").text


def test_the_last_entry_of_the_record_tells_the_whole_standing(own_record):
    task = exercise("00.3")
    lab.check("00.3", task.wrong[0].source)
    lab.hint("00.3")
    lab.hint("00.3")
    lab.reveal("00.3")
    fields = record.entries("check", "00.3")[-1].fields
    assert (fields["outcome"], fields["hints"], fields["revealed"]) == (False, 2, True)
    assert fields["measured"].startswith("held by")
    lab.check("00.3", task.reference)
    fields = record.entries("check", "00.3")[-1].fields
    assert (fields["outcome"], fields["hints"], fields["cause"]) == (True, 2, "")


def test_the_solution_is_shown_after_an_attempt_or_anyway(own_record):
    solution = exercise("00.3").reference.strip()
    lab.check("00.3")
    assert solution not in lab.reveal("00.3").text
    assert "Try it first" in lab.reveal("00.3").text
    assert solution in lab.reveal("00.3", anyway=True).text
    lab.check("00.3", exercise("00.3").wrong[0].source)
    view = lab.reveal("00.3")
    assert solution in view.text
    assert "<details" in view.html


def test_the_lines_of_a_solution_that_are_new_are_marked(own_record):
    view = lab.reveal("00.2", anyway=True)
    first, *_ = view.html.split("</details>")
    marked = [line for line in first.splitlines() if "background-color" in line and "<span style" in line]
    assert any("status_code" in line for line in marked)
    assert not any("def is_healthy" in line for line in marked)


# ---- in a real kernel ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RECORD, str(tmp_path_factory.mktemp("record") / "record.jsonl"))
        with running_kernel() as running:
            running.run("import lab_support.notebook as lab")
            yield running


def said(kernel: Kernel, cell: str) -> str:
    text, error = kernel.run(cell)
    assert not error, error
    return text


@pytest.mark.slow
def test_a_process_cell_is_checked_by_its_result(kernel):
    task = exercise("03.1")
    said(kernel, task.skeleton)
    assert "not attempted yet" in said(kernel, 'lab.check("03.1", two)')
    said(kernel, task.wrong[0].source)
    assert task.wrong[0].cause in said(kernel, 'lab.check("03.1", two)')
    said(kernel, task.reference)
    assert "✔ 03.1 (must): passed" in said(kernel, 'lab.check("03.1", two)')


def test_a_function_is_checked_with_what_it_uses_of_the_notebook(kernel):
    said(kernel, exercise("00.3").skeleton.replace("who_holds(server.port)", ""))
    assert "not attempted yet" in said(kernel, 'lab.check("00.3", who_holds)')
    said(kernel, "import glob, os\nfrom pathlib import Path as Place\nPLACES = '/proc/[0-9]*/fd/*'")
    said(kernel, "def table():\n    return Place('/proc/net/tcp').read_text().splitlines()[1:]")
    own = exercise("00.3").reference.replace("import glob\nimport os\nfrom pathlib import Path\n", "")
    own = own.replace('Path("/proc/net/tcp").read_text().splitlines()[1:]', "table()")
    said(kernel, own.replace('"/proc/[0-9]*/fd/*"', "PLACES"))
    assert "✔ 00.3 (could): passed" in said(kernel, 'lab.check("00.3", who_holds)')


def test_decorators_annotations_and_defaults_go_with_a_function(kernel):
    said(kernel, "from functools import cache\nfrom lab_support.instruments import proc")
    said(kernel, "import builtins as plain\nNOBODY = ()")
    cell = """
@cache
def who_holds(port: plain.int, start=NOBODY) -> plain.set:
    return {*start, *(holder.process.pid for holder in proc.holders_of_listening_socket(port))}
"""
    said(kernel, cell)
    assert "✔ 00.3 (could): passed" in said(kernel, 'lab.check("00.3", who_holds)')


def test_a_function_that_needs_an_object_of_the_notebook_is_told_its_name(kernel):
    said(kernel, "class Socket: pass\nmine = Socket()\ndef who_holds(port):\n    return mine")
    assert "`mine` is known in the notebook, perhaps, but not in a fresh process" in said(
        kernel, 'lab.check("00.3", who_holds)'
    )


def test_the_server_stays_out_of_the_kernel(kernel):
    said(kernel, 'lab.source("lab_support.boundary.channels", "ApiServerChannels.watch"); lab.check("00.1")')
    told = said(kernel, "import sys; [name for name in sys.modules if name.startswith('lab_support.boundary')]")
    assert told == "[]"

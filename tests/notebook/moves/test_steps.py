"""The five steps of the reader's server: each does what its text says, under eight clients, and the one before doesn't;
the reader's file has what passed, and nothing of theirs is lost."""

from dataclasses import replace

import pytest

from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.moves.blanks import fill, filled, passed
from lab_support.notebook.moves.exercises import as_program
from lab_support.notebook.moves.help import hint, reveal
from lab_support.notebook.moves.steps import Step, reference_program, step
from lab_support.notebook.page import own_server, record

CLIENTS = 8
ROLES = {"launcher", "engine-0", "api-1"}
WELL = {"ended": True, "named": True, "left": []}
_DRIVER = """\
if __name__ == "__main__":
    from lab_support.notebook.script import emit
    from lab_support.notebook.stages import server_trial
    emit(measured=server_trial.{trial}(__file__.replace("cell.py", "my_server.py"), *{arguments}))
"""


def tried(trial: int | str, program: int, *arguments: str) -> dict:
    """The trial of one step, on the reference as it is after `program` steps."""
    files = {"my_server.py": reference_program(program)}
    name = f"step_{trial}" if isinstance(trial, int) else trial
    source = _DRIVER.format(trial=name, arguments=arguments)
    return run_process(source, timeout=120, quiet=True, files=files).told["measured"]


# ---- the steps do what they say --------------------------------------------------------------------------------------


def test_a_loop_gives_each_client_its_own_tokens():
    found = tried(1, 1)
    assert (found["ready"], found["own"]) == (True, CLIENTS)


def test_two_api_servers_hold_the_listening_socket_and_the_engine_core_does_not():
    found = tried(2, 2)
    assert found["own"] == CLIENTS
    assert found["processes"] == ["launcher", "engine-0", "api-0", "api-1"]
    assert (found["holders"], found["elsewhere"]) == (["api-0", "api-1"], [])


def test_ready_is_said_when_all_can_answer_and_a_death_before_that_is_named_and_ends_all():
    assert tried(3, 2)["too_early"], "step 2 only guesses"
    assert not tried("death_while_starting", 2, "engine-0")["ended"], "and it knows of no death"
    found = tried(3, 3)
    assert (found["held"], found["too_early"], found["ready"], found["own"]) == (True, False, True, CLIENTS)
    assert found["deaths"] == {name: WELL for name in ("engine-0", "api-")}


def test_all_clients_share_each_step_and_begin_together():
    before, found = tried(4, 3), tried(4, 4)
    assert (before["own"], before["rows"]) == (CLIENTS, 1) and before["begun"] < CLIENTS / 2
    assert (found["own"], found["begun"], found["sleeps"]) == (CLIENTS, CLIENTS, True)
    assert found["rows"] == CLIENTS and found["steps"] < 2 * 64, "64 tokens each, and not 8 times 64 steps"


def test_a_hang_up_ends_its_row_and_no_process_outlives_any_other():
    assert tried(5, 4)["steps_after_hang_up"] > 1000
    assert {"engine-0", "api-0", "api-1"} <= set(tried("death", 4, "launcher")["left"]), "step 4 leaves its children"
    found = tried(5, 5)
    assert found["steps_after_hang_up"] < 500 and found["own"] == CLIENTS
    assert {role for role, death in found["deaths"].items() if death["ended"] and not death["left"]} == ROLES
    assert {role for role, death in found["deaths"].items() if death["named"]} == ROLES - {"launcher"}


# ---- the reader's file -----------------------------------------------------------------------------------------------


@pytest.fixture
def file(empty_record, tmp_path, monkeypatch):
    """The reader's file, which is not there yet."""
    monkeypatch.setenv(own_server.VARIABLE, str(tmp_path / "my_server.py"))
    return tmp_path / "my_server.py"


def source_of(number: int, fillings: tuple[str, ...] = ()) -> str:
    skeleton = step(number).skeleton
    return as_program(filled(skeleton, fillings) if fillings else skeleton)


def ran(number: int, source: str) -> tuple[dict, str]:
    """What the notebook goes on with, and what the reader is told."""
    result, view, _ = fill(step(number).name, source, options_of(step(number).skeleton) | {"inputs": {}, "quiet": True})
    return result.told["measured"], repr(view)


def passes_at_once(monkeypatch) -> None:
    """Let each step's cell pass without a trial, which has tests of its own."""
    result = run_process("", quiet=True)
    monkeypatch.setattr(Step, "_tried", lambda self, source, own, options: replace(result, source=source))
    monkeypatch.setattr(Step, "mark", lambda self, result, options: passed("as it should be"))


def test_an_open_blank_is_named_the_solution_runs_and_nothing_is_written(file):
    found, said = ran(1, source_of(1))
    assert "fill the blank in line 9: `tokens += next_tokens([____])`; and in line 15" in said
    assert "in place of yours: 8 of 8 clients got their own tokens" in said and found["own"] == CLIENTS
    assert not file.exists() and own_server.kept_step(1) is None


def test_a_right_step_is_kept_in_the_file_and_a_wrong_one_is_not(file):
    found, said = ran(1, source_of(1, step(1).wrong[0].fillings))
    assert step(1).wrong[0].cause in said and "✘" in said and found["own"] == CLIENTS, "the solution's result"
    assert not file.exists()
    _, said = ran(1, source_of(1, step(1).right[1]))
    assert "✔" in said and "step 1 is in my_server.py now" in said
    assert 'b"".join([prompt, *tokens])' in file.read_text()


def test_an_error_in_the_readers_program_is_told_with_its_line(file):
    _, said = ran(1, source_of(1, ('prompt + b"".join(tokens)', "nowhere.accept()")))
    assert "NameError: name 'nowhere' is not defined" in said and "`nowhere` is known in the notebook, perhaps" in said
    _, said = ran(1, source_of(1, ('prompt + b"".join(tokens)', "__import__('zmq').Context().socket(99)")))
    assert "it stops there, in line 15 of this cell" in said and "zmq.error.ZMQError: " in said
    _, said = ran(1, source_of(1, ("prompt", "listening_socket.accept(")))
    assert "SyntaxError" in said and not file.exists()


def test_a_step_that_is_not_there_yet_is_the_references_and_labelled(file, monkeypatch, capsys):
    passes_at_once(monkeypatch)
    _, view, _ = fill("07.s2", source_of(2, step(2).right[0]), options_of(step(2).skeleton) | {"inputs": {}})
    assert "step 1 is from the reference here, because yours is not there yet" in capsys.readouterr().out
    assert "step 2 is in my_server.py now, beside your notebooks; step 1 is the reference's there" in repr(view)
    assert "start it" not in repr(view), "its launcher ends"
    assert "start it: `python my_server.py`" in ran_quickly(3, step(3).right[0])
    text = file.read_text().partition("# ---- step 3")[0]
    assert "# ---- step 1, the reference's ---" in text and "# ---- step 2 ---" in text
    assert own_server.why_unfinished(text) == "yours has not come to step 5 yet"


def test_an_earlier_step_is_changed_and_later_ones_stay(file, monkeypatch):
    passes_at_once(monkeypatch)
    for number in (1, 2, 3):
        ran_quickly(number, step(number).right[0])
    assert "def await_ready" in file.read_text() and 'prompt + b"".join(tokens)' in file.read_text()
    said = ran_quickly(1, step(1).right[1])
    assert "def await_ready" in file.read_text() and 'b"".join([prompt, *tokens])' in file.read_text()
    assert "by hand" not in said, "only the cells have written it"


def ran_quickly(number: int, fillings: tuple[str, ...]) -> str:
    options = options_of(step(number).skeleton) | {"inputs": {}, "quiet": True}
    return repr(fill(step(number).name, source_of(number, fillings), options)[1])


def test_a_file_that_was_changed_by_hand_is_put_aside_and_that_is_told(file, monkeypatch):
    passes_at_once(monkeypatch)
    ran_quickly(1, step(1).right[0])
    by_hand = file.read_text() + "# mine\n"
    file.write_text(by_hand)
    said = ran_quickly(2, step(2).right[0])
    assert "you had changed that file by hand: as you left it, it is my_server.before-1.py" in said
    assert file.with_name("my_server.before-1.py").read_text() == by_hand and "# mine" not in file.read_text()


def test_without_a_reader_nothing_is_written_and_the_reference_is_taken(file, monkeypatch):
    passes_at_once(monkeypatch)
    monkeypatch.setenv(record.BATCH, "1")
    said = ran_quickly(2, step(2).right[0])
    assert "passed" in said and "my_server.py" not in said
    assert not file.exists() and not (file.parent / "my_server").exists()


def test_a_folder_that_cannot_be_written_is_told(file, monkeypatch):
    passes_at_once(monkeypatch)
    file.mkdir()
    assert "your step can't be kept in my_server.py: " in ran_quickly(1, step(1).right[0])


def test_what_the_reader_has_is_what_the_trial_of_a_later_step_starts(file):
    own = source_of(1, step(1).right[0]).replace(
        "def compute(", 'def compute(prompt, count):\n    return [b"mine "]\n\n\ndef other('
    )
    own_server.keep_step(1, own)
    found, said = ran(2, source_of(2, step(2).right[0]))
    assert "0 of 8 clients got their own tokens" in said and found["own"] == CLIENTS, "then the solution"


def test_a_kept_step_that_is_damaged_is_no_traceback(file):
    own_server.keep_step(1, "def main(:\n")
    _, said = ran(2, source_of(2, step(2).right[0]))
    assert "Traceback" not in said and "✔" in said, "the reference stands in"
    assert "# ---- step 1, the reference's ---" in file.read_text()


def test_a_step_has_hints_and_a_solution(empty_record):
    assert step(3).hints[0] in repr(hint("07.s3"))
    assert "*ends" in repr(reveal("07.s3", anyway=True))

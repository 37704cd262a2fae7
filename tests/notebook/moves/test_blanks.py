"""A cell with a blank, as a reader has it: it says what to fill, judges what the processes did, and fails no cell."""

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.moves import blanks
from lab_support.notebook.moves.blanks import blank, fill, filled
from lab_support.notebook.moves.exercises import as_program
from lab_support.notebook.page import record
from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.usefixtures("empty_record")

NAME, PREDICTION = "01.b1", "01.2"
RIGHT, WRONG = (blank(NAME).right[0][0], blank(NAME).wrong[0].fillings[0])


def run(filling: str) -> tuple[dict, str, bool]:
    """The last event of the result that the notebook goes on with, the verdict, and whether it gives nothing away."""
    source = filled(blank(NAME).skeleton, [filling]) if filling else blank(NAME).skeleton
    options = options_of(source) | {"inputs": {}, "quiet": True}
    result, view, gives_nothing_away = fill(NAME, as_program(source), options)
    return result.events[-1].fields, repr(view), gives_nothing_away


def line_of_the_blank() -> int:
    return next(number for number, text in enumerate(blank(NAME).skeleton.splitlines(), 1) if "____" in text)


def test_an_open_blank_is_named_with_its_line_and_the_solution_runs_in_its_place():
    found, said, gives_nothing_away = run("")
    assert f"fill the blank in line {line_of_the_blank()}: `" in said and "Traceback" not in said
    assert "goes on with what the solution has done" in said and gives_nothing_away
    assert found == run(RIGHT)[0]
    assert record.entries("check") == [] or record.entries("check")[-1].fields["outcome"] is True


def test_a_right_filling_passes_and_is_what_the_notebook_goes_on_with():
    _, said, gives_nothing_away = run(RIGHT)
    assert "passed" in said and "goes on" not in said and not gives_nothing_away
    assert [entry.fields["outcome"] for entry in record.entries("check", NAME)] == [True]


@pytest.mark.parametrize(
    ("filling", "words"),
    [
        (WRONG, blank(NAME).wrong[0].cause),
        ("nowhere", "`nowhere` is known in the notebook, perhaps"),
        ("open(", "SyntaxError"),
        ("os.kill(os.getppid(), 9)", "ended by signal SIGKILL"),
        ("(1 / 0)", "your line failed with this error, in line {line} of your program: `"),
    ],
)
def test_a_wrong_filling_is_told_why_and_the_solution_stands_in_for_it(filling, words):
    found, said, _ = run(filling)
    assert words.format(line=line_of_the_blank()) in said and "✘" in said and "goes on with what the solution" in said
    assert found == run(RIGHT)[0]


def test_a_second_wrong_filling_waits_for_no_second_run_of_the_solution(monkeypatch):
    run("")
    programs, run_one = [], blanks.run_process
    monkeypatch.setattr(
        blanks, "run_process", lambda source, **options: programs.append(source) or run_one(source, **options)
    )
    found, said, _ = run(WRONG)
    assert "✘" in said and len(programs) == 1 and found == run(RIGHT)[0]
    run("")
    assert len(programs) == 3, "an open blank shows a new run"


def test_a_blank_that_does_not_exist_is_told_with_those_that_do():
    with pytest.raises(LookupError, match=r"got blank '01.b99', expected one of 01.b1"):
        blank("01.b99")
    with pytest.raises(ValueError, match="got 2 fillings, expected 1"):
        filled("x = ____", ["1", "2"])


def test_names_that_only_contain_underscores_are_no_blanks():
    assert filled("__name__ = ____ + _____x", ["1"]) == "__name__ = 1 + _____x"


# ---- in a notebook ---------------------------------------------------------------------------------------------------


def outputs_of(tmp_path, filling: str, *cells: str) -> list[list[str]]:
    """The texts that each cell shows a reader who has answered nothing before the last cells."""
    source = blank(NAME).skeleton if filling == "____" else filled(blank(NAME).skeleton, [filling])
    first = ["import lab_support.notebook as lab\nlab.start('01')"]
    first += [f"lab.predict('{PREDICTION}', 'what', options=dict(a='one', b='two', c='three', d='four'))"]
    every = [*first, source, f"lab.verdict('{PREDICTION}', {options_of_into(source)})", *cells]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in every])
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    return [[text_of(output) for output in cell.outputs] for cell in notebook.cells]


def options_of_into(source: str) -> str:
    words = source.partition("\n")[0].split()
    return words[words.index("--into") + 1]


def text_of(output: nbformat.NotebookNode) -> str:
    return output.text if "text" in output else output.data["text/plain"]


@pytest.mark.parametrize("filling", [RIGHT, WRONG])
def test_below_an_open_prediction_nothing_tells_the_outcome(tmp_path, filling):
    _, _, cell, verdict = outputs_of(tmp_path, filling)
    told = "\n".join([*cell, *verdict])
    assert "Predict first" in told
    assert [text for text in cell if text] == [
        "Your program has run. What it found, and whether your blank is right, "
        f"appears when you have answered {PREDICTION}."
    ]
    assert not {"✔", "✘", "supports", "measured"} & set(told.replace("is measured and waits", "").split())


@pytest.mark.parametrize("how", ["lab.answer('01.2', 'a')", "lab.skip('01.2')"])
def test_an_answer_draws_all_that_waits(tmp_path, how):
    *_, cell, verdict, _ = outputs_of(tmp_path, RIGHT, how)
    assert any("passed" in text for text in cell)
    assert any("The measurement supports" in text for text in verdict)
    assert any(text.startswith("✔") for text in verdict)


def test_hint_and_solution_come_for_a_blank_as_for_an_exercise(tmp_path):
    *_, hint, refused, solution = outputs_of(
        tmp_path, "____", "lab.hint('01.b1')", "lab.reveal('01.b1')", "lab.reveal('01.b1', anyway=True)"
    )
    assert hint[0].startswith("Hint 1 of ") and blank(NAME).hints[0] in hint[0]
    assert "has not been checked yet" in refused[0]
    assert RIGHT in solution[0]


def test_before_start_the_magic_says_what_to_run():
    kernel = Kernel()
    try:
        kernel.run("from lab_support.notebook.cells import magic; magic.load(get_ipython())")
        kernel.client.execute(blank(NAME).skeleton)
        said = []
        while (message := kernel.client.get_iopub_msg(timeout=60))["content"].get("execution_state") != "idle":
            said.append(str(message["content"]))
        assert "expected `lab.start(" in "".join(said)
    finally:
        kernel.close()

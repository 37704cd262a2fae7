"""The quiz: questions as data, answers in code, and in JupyterLab with the mouse."""

import json
import os

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import lab_support.notebook as lab
from lab_support.notebook.moves import quiz_data
from lab_support.notebook.page import record
from lab_support.notebook.page.views import WIDGET_VIEW
from lab_support.notebook.publishing import build
from tests.in_jupyterlab import MODEL, after_run_all, needs_chromium
from tests.notebook.kernels import running_kernel

RECORD = "LAB_RECORD"  # names the file, see record.py
NUMBERS = sorted(path.stem for path in quiz_data.QUIZ.glob("*.json"))


@pytest.fixture
def own_record(tmp_path, monkeypatch):
    for name in ("LAB_BATCH", "LAB_STABLE_OUTPUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(RECORD, str(tmp_path / "record.jsonl"))


# ---- questions as data -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
def test_each_quiz_has_three_questions_each_choice_with_feedback_and_one_looks_back(number):
    questions = quiz_data.read(number)
    assert len(questions) == 3
    for question in questions:
        options = getattr(question, "options", [])
        assert all(option.feedback and option.text for option in options)
    looking_back = [question.from_notebook for question in questions if question.from_notebook]
    assert len(looking_back) == (number != "00")
    assert all(earlier < number for earlier in looking_back)


OPTION = {"key": "a", "text": "t", "feedback": "f"}
SINGLE = {"type": "single", "question": "Why?", "options": [OPTION | {"right": True}, OPTION | {"key": "b"}]}
NUMERIC = {"type": "numeric", "question": "How many?", "value": 3, "right": "yes", "wrong": "no"}


def read(tmp_path, *questions, notebook="07"):
    (tmp_path / "07.json").write_text(json.dumps({"notebook": notebook, "questions": questions}))
    return quiz_data.read("07", tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"options": [OPTION, OPTION | {"key": "b"}]}, "no right option"),
        ({"options": [OPTION | {"right": True}] * 2}, "different keys"),
        ({"options": [OPTION | {"right": True}]}, "1 options, expected 2 to 6"),
        ({"options": [OPTION | {"right": True}, OPTION | {"key": "b", "right": True}]}, "2 right options, expected 1"),
        ({"options": [{"key": "a", "text": "t", "right": True}, OPTION | {"key": "b"}]}, "feedback"),
        ({"answer": "a"}, "unknown field"),
        ({"type": "essay"}, "essay"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_with_what_and_where(tmp_path, change, told):
    with pytest.raises(ValueError, match=rf"07\.json: .*{told}"):
        read(tmp_path, SINGLE | change)


def test_a_quiz_for_another_notebook_or_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got notebook '06', expected '07'"):
        read(tmp_path, SINGLE, notebook="06")
    with pytest.raises(LookupError, match=r"got quiz '99', expected one of: .*00"):
        quiz_data.read("99")


@pytest.mark.parametrize(
    ("question", "answer", "right", "feedback"),
    [
        (SINGLE, "a", True, "f"),
        (SINGLE, ["b"], False, "f"),
        (SINGLE | {"type": "multiple"}, "a", True, "✔ (a) f"),
        (SINGLE | {"type": "multiple"}, "ab", False, "✔ (a) f ✘ (b) f"),
        (SINGLE | {"type": "multiple"}, ["b", "a"], False, "✔ (a) f ✘ (b) f"),
        (NUMERIC, 3, True, "yes"),
        (NUMERIC, 3.2, False, "no"),
        (NUMERIC | {"tolerance": 0.5}, 3.2, True, "yes"),
        (NUMERIC | {"near": [{"value": 4, "feedback": "nearly"}]}, 4, False, "nearly"),
    ],
)
def test_each_answer_earns_its_feedback(tmp_path, question, answer, right, feedback):
    marked = quiz_data.mark(read(tmp_path, question)[0], answer)
    assert (marked.right, marked.feedback) == (right, feedback)


def test_some_of_several_is_told_so(tmp_path):
    options = [OPTION | {"right": True}, OPTION | {"key": "b", "right": True}, OPTION | {"key": "c"}]
    (question,) = read(tmp_path, SINGLE | {"type": "multiple", "options": options})
    assert quiz_data.mark(question, "a").feedback == "✔ (a) f More of the options are right."
    assert quiz_data.mark(question, "b a").right


@pytest.mark.parametrize(("question", "answer"), [(SINGLE, "c"), (SINGLE, "ab"), (SINGLE, 1), (NUMERIC, "3")])
def test_what_is_no_answer_to_the_question_is_refused(tmp_path, question, answer):
    with pytest.raises(ValueError, match=r"got .*, expected"):
        quiz_data.mark(read(tmp_path, question)[0], answer)


# ---- in code ---------------------------------------------------------------------------------------------------------


def test_answers_in_code_are_marked_and_kept(own_record):
    view = lab.quiz("00", answers=["c", 5, None])
    assert view.text.splitlines()[0].startswith("✔ 1. c: The inode names the kernel object")
    assert view.text.splitlines()[1].startswith("✘ 2. 5: The API servers hold it, and the launcher as well")
    assert view.text.splitlines()[2:] == ["○ 3. not answered", "1 of 3 right"]
    kept = [(entry.name, entry.fields["answer"], entry.fields["right"]) for entry in record.entries("quiz")]
    assert kept == [("00.1", "c", True), ("00.2", "5", False)]


def test_answers_that_do_not_fit_are_refused_before_any_is_kept(own_record):
    for answers in (["c", 5], "c5a", ["c", 5, "z"]):
        with pytest.raises(ValueError, match=r"got .*, expected"):
            lab.quiz("00", answers=answers)
    assert record.entries("quiz") == []


# ---- in notebooks ----------------------------------------------------------------------------------------------------

CELL = 'import lab_support.notebook as lab\nlab.quiz("00")'


@pytest.mark.slow
def test_a_published_notebook_shows_the_questions_and_no_answers(tmp_path):
    notebook = new_notebook(cells=[new_code_cell(CELL)])
    build.execute(notebook, tmp_path)
    ((data,),) = [[output["data"] for output in cell.outputs] for cell in notebook.cells]
    assert set(data) == {"text/plain", "text/html"}
    for question in quiz_data.read("00"):
        assert question.question in data["text/plain"]
        assert not any(option.feedback in str(data) for option in getattr(question, "options", []))


@pytest.mark.slow
def test_in_a_kernel_widget_and_words_are_one_output():
    with running_kernel() as kernel:
        kernel.client.execute(CELL)
        kinds = []
        while (message := kernel.client.get_iopub_msg(timeout=30))["content"].get("execution_state") != "idle":
            if message["msg_type"] in ("display_data", "execute_result"):
                kinds.append(set(message["content"]["data"]))
    assert kinds == [{WIDGET_VIEW, "text/plain", "text/html"}]


@pytest.mark.slow
@needs_chromium
def test_in_jupyterlab_a_click_answers_and_feedback_appears(tmp_path, monkeypatch):
    monkeypatch.setenv(RECORD, str(tmp_path / "record.jsonl"))
    notebook = new_notebook(cells=[new_code_cell(CELL)])
    build.tidy(notebook)  # names the kernel, or JupyterLab asks for one
    nbformat.write(notebook, tmp_path / "quiz.ipynb")
    with after_run_all(tmp_path, "quiz.ipynb") as page:
        output = page.locator(".jp-OutputArea")
        answer_with_the_mouse(output)
        if folder := os.environ.get("LAB_PICTURES"):
            page.screenshot(path=f"{folder}/quiz.png")
        outputs = page.evaluate(MODEL)["cells"][0]["outputs"]
    assert len(outputs) == 1
    kept = [(entry.name, entry.fields["right"]) for entry in record.entries("quiz")]
    assert kept == [("00.1", False), ("00.1", True), ("00.2", False), ("00.3", True)]


def answer_with_the_mouse(output) -> None:
    """The first question twice, wrong and right; the second by a number; the third by two keys."""
    keys = output.locator("button")
    keys.get_by_text("b", exact=True).first.click()
    output.get_by_text("It can belong to several").wait_for()
    output.get_by_text("The numbers don't say").click(force=True)  # the text: its row is the button's surface
    output.get_by_text("The inode names the kernel object").wait_for()
    assert output.get_by_text("It can belong to several").count() == 0
    output.locator("input[type=number]").fill("5")
    output.locator("input[type=number]").press("Tab")
    keys.get_by_text("answer", exact=True).first.click()
    output.get_by_text("The API servers hold it, and the launcher as well").wait_for()
    keys.get_by_text("a", exact=True).last.click()
    keys.get_by_text("c", exact=True).last.click()
    keys.get_by_text("answer", exact=True).last.click()
    output.get_by_text("one more lets it work").wait_for()

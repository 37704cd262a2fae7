"""Predictions: kept, changeable until the result is seen; results that wait for them and are drawn in place."""

import json
import os
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import lab_support.notebook as lab
from lab_support.notebook.canvas.plots import Picture
from lab_support.notebook.page import predictions, record
from lab_support.notebook.page.views import WIDGET_VIEW
from tests.notebook.kernels import Kernel, running_kernel

OPTIONS = {"a": "about 1: one wakes", "b": "about 4: all wake"}
ASK = f"lab.predict('04.1', 'wake-ups', options={OPTIONS!r})"


pytestmark = pytest.mark.usefixtures("empty_record")


def ask(**more) -> None:
    lab.predict("04.1", "wake-ups", options=OPTIONS, **more)


def result(right="b"):
    table = lab.table([], prediction="04.1", right=right)
    return table


# ---- as plain calls --------------------------------------------------------------------------------------------------


def test_the_question_is_shown_whole_and_takes_an_answer_by_call(capsys):
    ask()
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("04.1", "wake-ups", *OPTIONS.values(), 'lab.answer("04.1"'))
    lab.answer("04.1", "a")
    assert "Your prediction: a (about 1: one wakes). You may change it" in capsys.readouterr().out
    ask()
    assert "Your prediction: a" in capsys.readouterr().out


def test_a_result_waits_and_then_says_how_the_prediction_stands():
    ask()
    waiting = result()
    assert waiting.waits and repr(waiting).startswith("Predict first.") and 'lab.skip("04.1")' in repr(waiting)
    lab.answer("04.1", "a")
    lab.answer("04.1", "b")
    lab.answer("04.1", "a")
    assert not waiting.waits
    assert repr(waiting).endswith(
        "Your prediction: a (about 1: one wakes). ✘ The measurement supports b (about 4: all wake)."
    )


def test_an_answer_after_the_result_is_kept_and_not_counted(capsys):
    ask(answer="a")
    repr(result())
    lab.answer("04.1", "b")
    assert "After the result, not counted: b" in capsys.readouterr().out
    assert [entry.fields["late"] for entry in record.entries("prediction") if "late" in entry.fields] == [False, True]
    assert "Your prediction: a" in repr(result())
    assert lab.progress("04").rows == (("prediction", "04.1", "a", "✘, and later b"),)


def test_the_measurement_decides_which_option_is_right():
    ask(answer="b")
    assert "✔ The measurement supports it" in repr(result(right=lambda views: "b" if not views else "a"))


@pytest.mark.parametrize("number", ["04.1", None])
def test_skipping_shows_it_and_the_answer_is_late_then(number):
    ask()
    waiting = result()
    lab.skip(number)
    assert not waiting.waits and "The measurement supports b" in repr(waiting)
    lab.answer("04.1", "b")
    assert "Chosen after the result, not counted: b" in repr(result())
    assert lab.progress("04").rows == (("prediction", "04.1", "b", "after the result, not counted"),)


def test_one_without_a_question_yet_says_what_to_run():
    assert "which has not run yet" in repr(result())
    with pytest.raises(lab.PredictionError, match=r"got no question .* expected one that was asked"):
        lab.answer("04.1", "a")


@pytest.mark.parametrize("variable", [record.STABLE, record.BATCH])
def test_batch_runs_draw_at_once(variable, monkeypatch, empty_record):
    monkeypatch.setenv(variable, "1")
    ask()
    assert not result().waits
    repr(result())
    assert not empty_record.exists()


@pytest.mark.parametrize("wrong", ["e", "", ["a"], None])
def test_an_answer_that_cannot_be_is_refused(wrong):
    ask()
    with pytest.raises(lab.PredictionError, match="expected one of a, b"):
        lab.answer("04.1", wrong)
    assert record.entries() == []


@pytest.mark.parametrize("wrong", [[1, 2], [1, -1, 1], [0, 0, 0], "abc"])
def test_a_sketch_that_cannot_be_is_refused(wrong):
    lab.predict("04.3", "shares", sketch=["P1", "P2", "P3"])
    with pytest.raises(lab.PredictionError, match="expected 3 heights, one each for P1, P2, P3"):
        lab.answer("04.3", wrong)


def test_a_sketch_is_kept_as_shares_of_the_whole():
    lab.predict("04.3", "shares", sketch=["P1", "P2"], answer=[3, 1])
    assert predictions.standing("04.3").counted == (0.75, 0.25)


def test_an_option_that_was_not_offered_cannot_be_right():
    ask()
    with pytest.raises(lab.PredictionError, match="right: got 'z', expected one of a, b"):
        result(right="z")


def test_anything_that_a_notebook_shows_may_wait():
    ask(answer="a")
    shown = lab.after_prediction("04.1", lambda: {"waits": "for it"}, right="a")
    assert "'for it'" in repr(shown) and "✔" in repr(shown)


def test_what_waits_keeps_the_names_of_its_own_cell():
    ask()
    names = {"lab": lab, "rows": "of its own cell"}
    exec("shown = lab.after_prediction('04.1', lambda: rows, right='a')", names)
    exec("rows = 'of a later cell'", names)
    lab.answer("04.1", "a")
    assert "of its own cell" in repr(names["shown"])


def test_the_line_below_a_picture_is_in_its_words_too():
    from matplotlib.figure import Figure

    picture = Picture(Figure(figsize=(3, 2)), "Bars.")
    before = picture.png()
    noted = picture.with_note("Your prediction: a.")
    assert noted.alt == "Bars. Your prediction: a." and noted.png() != before


# ---- in a kernel -----------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(empty_record):
    with running_kernel() as running:
        running.run("import lab_support.notebook as lab")
        yield running


def messages(kernel: Kernel, code: str) -> list[tuple[str, dict]]:
    """(type, content) of all that `code` shows."""
    kernel.client.execute(code)
    found = []
    while (message := kernel.client.get_iopub_msg(timeout=30))["content"].get("execution_state") != "idle":
        found.append((message["msg_type"], message["content"]))
    kernel.client.get_shell_msg(timeout=30)
    return found


def test_the_question_is_one_output_with_a_widget_and_its_twin(kernel):
    shown = [content["data"] for kind, content in messages(kernel, ASK) if kind == "display_data"]
    assert len(shown) == 1
    assert WIDGET_VIEW in shown[0] and all(text in shown[0]["text/html"] for text in OPTIONS.values())
    assert all(text in shown[0]["text/plain"] for text in OPTIONS.values())


def test_the_twin_of_a_sketch_is_a_picture_with_alt_text(kernel):
    code = "lab.predict('04.3', 'shares', sketch=['P1', 'P2'], answer=[1, 1])"
    (shown,) = [content for kind, content in messages(kernel, code) if kind == "display_data"]
    assert WIDGET_VIEW in shown["data"] and "P1 50%" in shown["metadata"]["image/png"]["alt"]


@pytest.mark.parametrize("settle", ["lab.answer('04.1', 'b')", "lab.skip('04.1')", "lab.skip()"])
def test_the_waiting_output_itself_becomes_the_figure_without_a_new_run(kernel, settle):
    kernel.run(ASK)
    code = "runs = []; lab.shares({'P1': 3, 'P2': 1}, prediction='04.1', right=lambda run: runs.append(1) or 'b')"
    ((_, waiting),) = [each for each in messages(kernel, code) if each[0] == "display_data"]
    assert "Predict first." in waiting["data"]["text/html"] and "image/png" not in waiting["data"]
    updates = [content for kind, content in messages(kernel, settle) if kind == "update_display_data"]
    (update,) = updates
    assert update["transient"]["display_id"] == waiting["transient"]["display_id"]
    assert "image/png" in update["data"] and "supports" in update["metadata"]["image/png"]["alt"]
    assert kernel.run("len(runs)")[0] == "1"
    assert not [each for each in messages(kernel, "lab.skip()") if each[0] == "update_display_data"]


def test_a_restart_of_the_kernel_forgets_nothing(kernel):
    kernel.run(ASK + "; lab.answer('04.1', 'a')")
    kernel.run("repr(lab.table([], prediction='04.1', right='b'))")
    kernel.close()
    kernel.start()
    kernel.run("import lab_support.notebook as lab")
    shown, _ = kernel.run(ASK + "; lab.answer('04.1', 'b'); print(lab.table([], prediction='04.1', right='b'))")
    assert "not counted: b" in shown and "Your prediction: a" in shown


def test_an_error_is_a_sentence_and_no_traceback(kernel):
    kernel.run(ASK)
    _, error = kernel.run("lab.answer('04.1', 'x')")
    assert error == 'PredictionError: got \'x\', expected one of a, b: lab.answer("04.1", "a")'


def test_a_built_notebook_shows_question_and_figure_and_keeps_no_widget(tmp_path):
    path = tmp_path / "00_small.ipynb"
    cells = ["import lab_support.notebook as lab", ASK, "lab.shares({'P1': 3}, prediction='04.1', right='b')"]
    cells += ["import ipywidgets\nipywidgets.IntSlider()"]
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
    script = f"from pathlib import Path; from lab_support.notebook.publishing import build; p = Path({str(path)!r})"
    script += "; build.build(p); print(build.problems(p))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
    outputs = [cell.outputs for cell in nbformat.read(path, as_version=4).cells]
    assert OPTIONS["b"] in outputs[1][0].data["text/html"] and "image/png" in outputs[2][0].data
    assert WIDGET_VIEW not in json.dumps(outputs)
    assert os.listdir(tmp_path) == [path.name]

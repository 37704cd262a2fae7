"""A table that the reader fills in before it is measured: as calls, and what is refused."""

import ipywidgets as widgets
import pytest

import lab_support.notebook as lab
from lab_support.notebook.moves.predict_widgets import panel
from lab_support.notebook.page import predictions, record

OPTIONS = {"a": "copied", "b": "shared", "c": "lost"}
ROWS = ("a variable", "a thread", "the place in a file")
MEASURED = {"a variable": "copied", "a thread": "lost", "the place in a file": "shared"}


@pytest.fixture(autouse=True)
def asked(empty_record):
    lab.predict("01.5", "what the child gets", options=OPTIONS, rows=ROWS)


def test_it_waits_until_it_is_filled_in_and_then_marks_each_row():
    waiting = lab.filled_in("01.5", MEASURED)
    assert waiting.waits and 'lab.answer("01.5", "aaa")' in repr(waiting)
    lab.answer("01.5", "aab")
    assert repr(waiting).splitlines() == [
        "what                 yours     measured",
        "a variable           ✔ copied  copied",
        "a thread             ✘ copied  lost",
        "the place in a file  ✔ shared  shared",
        "You filled it in. ✘ 2 of 3 rows as measured.",
    ]
    assert [entry.fields["right"] for entry in record.entries("prediction") if "right" in entry.fields] == [False]


def test_what_waits_and_the_question_name_the_button_as_it_is_labelled(capsys):
    button = button_of(panel(predictions.question("01.5")))
    told = f"choose in every row in the cell above, then press “{button.description}”"
    assert told in repr(lab.filled_in("01.5", MEASURED))
    lab.predict("01.5", "what the child gets", options=OPTIONS, rows=ROWS)
    assert f"Not answered yet: choose in every row, then press “{button.description}”." in capsys.readouterr().out


def test_a_sketch_names_its_button_too_and_a_choice_has_none():
    lab.predict("01.6", "shares", sketch=["P1", "P2"])
    button = button_of(panel(predictions.question("01.6")))
    waiting = repr(lab.after_prediction("01.6", lambda: "shares"))
    assert f"set every bar in the cell above, then press “{button.description}”" in waiting
    lab.predict("01.7", "wake-ups", options=OPTIONS)
    assert "choose in the cell above,\nor by" in repr(lab.after_prediction("01.7", lambda: "wake-ups"))


def button_of(shown: widgets.VBox) -> widgets.Button:
    """The one button among all that a panel shows."""
    inside = [shown]
    for each in inside:
        inside += getattr(each, "children", ())
    (button,) = (each for each in inside if isinstance(each, widgets.Button))
    return button


def test_all_right_counts_as_right_and_what_was_seen_is_a_column():
    lab.answer("01.5", ["a", "c", "b"])
    shown = repr(
        lab.filled_in("01.5", {"a variable": "a", "a thread": "c", "the place in a file": "b"}, {"a thread": 1})
    )
    assert "✔ 3 of 3 rows as measured" in shown and "seen" in shown.splitlines()[0]
    assert predictions.standing("01.5").seen


def test_skipped_it_shows_what_was_measured_alone():
    lab.skip("01.5")
    assert repr(lab.filled_in("01.5", MEASURED)).splitlines()[0].split() == ["what", "measured"]


@pytest.mark.parametrize("answer", ["aa", "aaaa", "aax", ""])
def test_an_answer_that_leaves_rows_open_is_refused(answer):
    with pytest.raises(predictions.PredictionError, match="expected 3 letters, one for each row, out of a, b, c"):
        lab.answer("01.5", answer)


def test_rows_or_options_that_were_not_asked_are_refused():
    with pytest.raises(predictions.PredictionError, match=r"unknown=\{'a lock'\}"):
        lab.filled_in("01.5", MEASURED | {"a lock": "copied"})
    with pytest.raises(predictions.PredictionError, match="got 'doubled', expected one of copied, shared, lost"):
        lab.filled_in("01.5", MEASURED | {"a thread": "doubled"})
    with pytest.raises(predictions.PredictionError, match=r"run its lab\.predict cell first"):
        lab.filled_in("01.9", MEASURED)


def test_the_widget_has_a_choice_for_each_row_and_gives_the_table_at_once():
    box = panel(predictions.question("01.5")).children[-2]
    grid, button = box.children
    choices = grid.children[1::2]
    assert button.disabled
    for choice, letter in zip(choices, "acb", strict=True):
        choice.value = letter
    assert not button.disabled and predictions.standing("01.5").counted is None
    button.click()
    assert predictions.standing("01.5").counted == "acb"

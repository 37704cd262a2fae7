"""One call judges a prediction, draws the finding and tests the claims: what it shows, keeps and refuses."""

import pytest

import lab_support.notebook as lab
from lab_support.notebook.moves import verdicts
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page import record
from lab_support.notebook.page.tables import Table

pytestmark = pytest.mark.usefixtures("empty_record")

OPTIONS = {"a": "few", "b": "many"}
TABLE = Table(("process", "count"), (("P1", "7"),))
FOUND = Found(measured=7, shown=TABLE, claims=(Claim("there are many", True, 7),))
COUNTING = Judge("01.9", find=lambda: FOUND, letter=lambda count: "b" if count > 3 else "a")
ROWS = Judge("01.8", find=Found, expected={"x": "few", "y": "many"}, row_words="of {row} there are {option}")


def ask(number="01.9", **more) -> None:
    lab.predict(number, "how many", options=OPTIONS, **more)


def test_the_finding_says_how_the_prediction_stands_and_the_claims_follow(capsys):
    ask(answer="a")
    capsys.readouterr()
    verdicts.show("01.9", COUNTING, FOUND)
    shown = capsys.readouterr().out
    assert "P1       7" in shown and "✘ The measurement supports b (many)" in shown
    assert shown.strip().endswith("✔ there are many (7)")


def test_a_claim_is_kept_at_once_though_it_is_shown_later():
    ask()
    verdicts.show("01.9", COUNTING, FOUND)
    (kept,) = record.entries("claim")
    assert kept.fields["outcome"] is True and kept.fields["prediction"] == "01.9"
    assert "claim: 1 ✔ of 1" in lab.progress().note


def test_a_claim_that_failed_is_not_told_by_the_progress_before_the_prediction(capsys):
    ask()
    lab.claim("none is there", False, prediction="01.9")
    assert all("none is there" not in row for row in lab.progress().rows)
    lab.skip("01.9")
    assert ("claim", "none is there", "–", "✘") in lab.progress().rows


def test_a_table_has_a_sign_in_each_row_and_a_claim_for_each(capsys):
    lab.predict("01.8", "of each", options=OPTIONS, rows=["x", "y"], answer="aa")
    capsys.readouterr()
    verdicts.show("01.8", ROWS, Found(rows={"x": "few", "y": "few"}, seen={"x": 1, "y": 2}))
    shown = capsys.readouterr().out
    assert "claim" in shown and shown.count("✔") >= 2
    assert [(entry.name, entry.fields["outcome"]) for entry in record.entries("claim")] == [
        ("of x there are few", True),
        ("of y there are many", False),
    ]


@pytest.mark.parametrize("claims", [(Claim("no", False),), (Claim("yes", True), Claim("no", False, 3))])
def test_a_false_claim_ends_a_batch_run(claims, monkeypatch):
    monkeypatch.setenv(record.BATCH, "1")
    ask()
    with pytest.raises(lab.ClaimFailed, match="no: got"):
        verdicts.show("01.9", COUNTING, Found(measured=7, claims=claims))


def test_a_changed_cell_gets_a_sentence_and_a_batch_run_an_error(capsys, monkeypatch):
    lab.verdict("01.1", None)
    said = capsys.readouterr().out
    assert "No verdict on 01.1" in said and "If you have changed the cell" in said
    monkeypatch.setenv(record.BATCH, "1")
    with pytest.raises(AttributeError):
        lab.verdict("01.1", None)


def test_an_unknown_number_is_told_with_the_known_ones():
    with pytest.raises(LookupError, match=r"got verdict '01.77', expected one of 01.1"):
        lab.verdict("01.77")


def test_a_claim_needs_a_condition_or_a_reason():
    with pytest.raises(ValueError, match="got no condition, expected"):
        Claim("one wakes")


def test_a_table_from_a_recording_keeps_the_line_that_names_it(capsys):
    lab.predict("01.8", "of each", options=OPTIONS, rows=["x", "y"], answer="ab")
    capsys.readouterr()
    found = Found(rows={"x": "few", "y": "many"}, frame=lambda table: f"RECORDED on a machine\n{table}")
    verdicts.show("01.8", ROWS, found)
    shown = capsys.readouterr().out
    assert "RECORDED on a machine" in shown and shown.count("✔") >= 2


def test_rows_that_no_run_could_tell_are_neither_passed_nor_failed(capsys, monkeypatch):
    monkeypatch.setenv(record.BATCH, "1")
    lab.predict("01.8", "of each", options=OPTIONS, rows=["x", "y"])
    verdicts.show("01.8", ROWS, Found(shown="NOT SHOWN", untestable="there is no GPU"))
    assert "NOT SHOWN" in capsys.readouterr().out
    assert [(entry.fields["outcome"], entry.fields["reason"]) for entry in record.entries("claim")] == [
        (None, "there is no GPU")
    ] * 2

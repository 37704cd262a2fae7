"""A claim says ✔, ✘ or why it can't be tested; a false one ends a batch run and not a reader's."""

import pytest

import lab_support.notebook as lab
from lab_support.notebook.moves.asked import asked_in
from lab_support.notebook.moves.checks import keep
from lab_support.notebook.page import record
from tests.notebook.kernels import running_kernel

WORDS = "one wakes"


pytestmark = pytest.mark.usefixtures("empty_record")


@pytest.mark.parametrize(
    ("arguments", "shown", "outcome"),
    [
        ({"condition": True, "got": 1.0256}, "✔ one wakes (1.03)", True),
        ({"condition": False, "got": 3}, "✘ one wakes (3)", False),
        ({"condition": True, "untestable": "no GPU here"}, "– one wakes: can't be tested here: no GPU here", None),
    ],
)
def test_it_is_shown_and_kept(arguments, shown, outcome, capsys):
    lab.claim(WORDS, **arguments)
    assert capsys.readouterr().out.splitlines()[0] == shown
    assert [entry.fields["outcome"] for entry in record.entries("claim", WORDS)] == [outcome]


def test_a_reader_is_told_first_that_a_change_of_theirs_does_this_and_then_that_the_machine_may_differ(capsys):
    lab.claim(WORDS, False)
    advice = capsys.readouterr().out.partition("\n")[2].strip()
    parts = ["It is not so here.", "If you have just changed the cell above", "If not, run the experiment again"]
    places = [advice.find(part) for part in [*parts, "this machine differs"]]
    assert places == sorted(places) and places[0] == 0, advice


@pytest.mark.parametrize("variable", [record.STABLE, record.BATCH, "LAB_STRICT"])
def test_a_false_one_ends_a_strict_run_and_an_untestable_one_does_not(variable, monkeypatch):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(lab.ClaimFailed, match="one wakes: got 3, expected"):
        lab.claim(WORDS, False, got=3)
    lab.claim(WORDS, False, untestable="one core")


def test_without_condition_and_reason_it_is_refused():
    with pytest.raises(ValueError, match="got no condition, expected"):
        lab.claim(WORDS)


def test_in_a_kernel_it_is_html_too_and_fails_without_a_traceback():
    with running_kernel() as kernel:
        kernel.run("import os, lab_support.notebook as lab; os.environ.pop('LAB_STRICT', None)")
        kernel.client.execute("lab.claim('<1 wakes', False, got=2)")
        data = {}
        while (message := kernel.client.get_iopub_msg(timeout=20))["content"].get("execution_state") != "idle":
            data |= message["content"].get("data", {})
        assert data["text/plain"].startswith("✘ <1 wakes (2)") and "&lt;1 wakes (2)" in data["text/html"]
        _, error = kernel.run("os.environ['LAB_STRICT'] = '1'; lab.claim('one wakes', False, got=2)")
        assert error == "ClaimFailed: one wakes: got 2, expected the claim to hold"


def test_progress_counts_what_held_and_shows_what_did_not():
    lab.claim(WORDS, True)
    lab.claim("two wake", False, got=1)
    shown = lab.progress()
    assert shown.rows == (("claim", "two wake", "1", "✘"),)
    assert "claim: 1 ✔ of 2" in shown.note


@pytest.mark.parametrize("name", ["04.1", "04.b1"])
def test_what_has_passed_once_stays_passed_and_a_later_failure_is_told(name):
    keep(name, state="failed", measured="one", outcome=False)
    assert lab.progress("04").rows == (("check", name, "one", "✘"),)
    keep(name, state="passed", measured="two", outcome=True)
    keep(name, revealed=True)
    assert lab.progress("04").rows == (("check", name, "two", "✔"),)
    keep(name, state="failed", measured="three", outcome=False)
    shown = lab.progress("04")
    assert shown.rows == (("check", name, "two", "✔; the last try failed"),) and "check: 1 ✔ of" in shown.note
    keep(name, state="unmeasured", measured="", outcome=None)
    assert lab.progress("04").rows == (("check", name, "two", "✔"),)


def test_a_figure_is_said_without_python(capsys):
    lab.claim("all are answered", True, got={"answered": 100})
    assert "all are answered (answered: 100)" in capsys.readouterr().out


def test_progress_counts_what_was_not_tried():
    lab.claim(WORDS, True)
    asked = asked_in("00")
    assert len(asked.prediction) == 6 and len(asked.check) == 7 and len(asked.quiz) >= 3
    lab.skip("00.1")
    note = lab.progress("00").note
    assert "prediction: 0 ✔ of 6, 5 not tried" in note and "check: 0 ✔ of 7, 7 not tried" in note
    assert f"quiz: 0 ✔ of {len(asked.quiz)}, {len(asked.quiz)} not tried" in note

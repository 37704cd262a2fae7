"""The ledger quotes the article, and its verdicts are those of this reader's own claims."""

import ast
import json

import pytest

import lab_support.notebook as lab
from lab_support.notebook.moves import answer_files, article
from lab_support.notebook.moves import ledger as ledgers
from lab_support.notebook.page import record
from lab_support.notebook.page.committed import find
from tests.notebook.kernels import running_kernel

NOT_SO, OTHERWISE = "not so: the child inherits it", "so it is on this machine"
FILE = f"""
from lab_support.notebook.moves.ledger import Tested
CLAIMS = ("no message is sent", "one is kept")
LEDGER = (Tested(sentence=2, claims=CLAIMS, finding={NOT_SO!r}, otherwise={OTHERWISE!r}),)
"""
APPENDIX = """
from lab_support.notebook.moves.ledger import Tested
LEDGER = (Tested(sentence=13, claims=("it is written out",), finding="not so here", otherwise="so"),)
"""

pytestmark = pytest.mark.usefixtures("empty_record")


@pytest.fixture
def solutions(tmp_path, monkeypatch):
    """A folder of solutions in which notebook 77 and its appendix have ledgers."""
    monkeypatch.setattr(answer_files, "SOLUTIONS", tmp_path)
    (tmp_path / "77_verdicts.py").write_text(FILE)
    (tmp_path / "77a_verdicts.py").write_text(APPENDIX)
    return tmp_path


def verdicts(number=None) -> list[str]:
    return [line.partition("→ ")[2] for line in repr(lab.ledger(number)).splitlines() if "→" in line]


def test_it_quotes_the_sentence_in_english_and_as_it_stands_with_its_half(solutions):
    shown = repr(lab.ledger("77"))
    assert "“on Unix-like systems this is usually done by a Unix domain socket" in shown
    assert "Unix 域套接字" in shown and "(first half)" in shown


def test_it_is_fair_to_an_article_that_says_otherwise_elsewhere(solutions):
    assert 'second half shows it otherwise: there, get_context("spawn") is written out' in repr(lab.ledger("77a"))


def test_a_row_of_the_appendix_says_where_it_is_tested(solutions):
    assert "in the appendix, 77a" in repr(lab.ledger("77")) and "appendix" not in repr(lab.ledger("77a"))


def test_a_row_that_only_the_appendix_tests_sends_the_reader_there_and_not_to_a_cell(solutions):
    assert verdicts("77")[-1] == "not tested yet: its cell is in the appendix, 77a"
    lab.claim("it is written out", True)
    assert "not tested yet" not in verdicts("77")[-1]


def test_a_row_s_verdict_is_that_of_its_claims(solutions):
    assert verdicts("77")[0] == "not tested yet: run the cell that claims “no message is sent”"
    lab.claim("no message is sent", True)
    assert verdicts("77")[0] == "not tested yet: run the cell that claims “one is kept”"
    lab.claim("one is kept", True)
    assert verdicts("77")[0] == NOT_SO
    lab.claim("one is kept", False)
    assert verdicts("77")[0] == OTHERWISE
    lab.claim("one is kept", True)
    assert verdicts("77")[0] == NOT_SO, "the last outcome counts"


def test_a_claim_that_failed_decides_even_if_another_was_not_run(solutions):
    lab.claim("one is kept", False)
    assert verdicts("77")[0] == OTHERWISE


def test_an_untestable_claim_leaves_its_sentence_open_and_says_why(solutions):
    lab.claim("no message is sent", True)
    lab.claim("one is kept", untestable="strace is missing")
    assert verdicts("77")[0] == "can't be tested here: strace is missing"


@pytest.mark.parametrize("outcome", [True, False])
def test_a_verdict_waits_for_the_prediction_that_it_would_give_away(solutions, outcome):
    lab.claim("no message is sent", True)
    lab.claim("one is kept", outcome, prediction="77.1")
    assert verdicts("77")[0] == "predict 77.1 first"
    lab.skip("77.1")
    assert verdicts("77")[0] == (NOT_SO if outcome else OTHERWISE)


def test_a_run_without_a_reader_shows_everything(solutions, monkeypatch):
    monkeypatch.setenv(record.BATCH, "1")
    lab.claim("no message is sent", True)
    lab.claim("one is kept", True, prediction="77.1")
    assert verdicts("77")[0] == NOT_SO


def test_by_default_it_is_the_notebook_s_own(solutions, monkeypatch):
    monkeypatch.setenv(record.NOTEBOOK, "77a")
    assert verdicts() == ["not tested yet: run the cell that claims “it is written out”"]


@pytest.mark.parametrize("number", ["78", "", "7"])
def test_a_notebook_without_one_is_refused(solutions, number, monkeypatch):
    monkeypatch.delenv(record.NOTEBOOK, raising=False)
    with pytest.raises(LookupError, match=f"got no ledger of notebook '{number}', expected"):
        lab.ledger(number)


def test_a_row_without_claims_or_with_text_in_their_place_is_refused():
    for claims in ((), "one is kept"):
        with pytest.raises(ValueError, match="expected a tuple of claims' words"):
            ledgers.Tested(1, claims, NOT_SO, OTHERWISE)


def test_in_a_kernel_it_is_drawn_again_once_the_prediction_is_answered(solutions):
    with running_kernel() as kernel:
        kernel.run(
            "import os, lab_support.notebook as lab; from pathlib import Path\n"
            f"from lab_support.notebook.moves import answer_files; answer_files.SOLUTIONS = Path({str(solutions)!r})\n"
            "for words in ('no message is sent', 'one is kept'):\n"
            "    lab.claim(words, True, prediction='77.1')\n"
        )
        first, _ = shown_by(kernel, "lab.ledger('77')")
        assert "predict 77.1 first" in first["text/plain"] and '<span lang="zh"' in first["text/html"]
        again, kind = shown_by(kernel, "lab.skip('77.1')")
        assert kind == "update_display_data" and NOT_SO in again["text/html"]


def shown_by(kernel, code) -> tuple[dict, str]:
    """The last data that `code` displayed, and the kind of the message."""
    kernel.client.execute(code)
    data, kind = {}, ""
    while (message := kernel.client.get_iopub_msg(timeout=20))["content"].get("execution_state") != "idle":
        if "data" in message["content"]:
            data, kind = message["content"]["data"], message["msg_type"]
    return data, kind


# ---- the data, and the ledgers of the notebooks ----------------------------------------------------------------------


def test_the_article_has_nineteen_sentences_in_two_halves():
    sentences = article.read().sentences
    assert [each.id for each in sentences] == list(range(1, 20))
    assert {each.half for each in sentences} == {1, 2}
    assert all(each.original and each.english for each in sentences)


def test_a_malformed_file_is_named_with_the_place(tmp_path):
    path = tmp_path / "article.json"
    path.write_text('{"what": "an article", "sentences": [{"id": 1, "half": 1}]}')
    with pytest.raises(ValueError, match=r"article\.json: .*sentences\[0\]"):
        article.read(path)


def test_every_row_names_a_sentence_and_claims_that_its_notebook_makes():
    for path in find([]):
        number = path.name.partition("_")[0]
        for row in ledgers.tested(number):
            article.sentence(row.sentence)
            assert set(row.claims) <= claimed_in(path, number), f"{number}: sentence {row.sentence}"


def claimed_in(path, number) -> set[str]:
    """All texts of the notebook's cells and verdicts, and the words of the claims about rows of tables."""
    from lab_support.notebook.moves.verdicts import judges

    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells if not "".join(cell["source"]).startswith("%%")]
    sources.append((answer_files.SOLUTIONS / f"{number}_verdicts.py").read_text())
    constants = [node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    texts = {node.value for node in constants if isinstance(node.value, str)}
    return texts | {claim.words for judge in judges(number) for claim in judge.row_claims({})}

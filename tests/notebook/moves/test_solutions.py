"""Every exercise and every claim of the notebooks, put on trial: what is right passes, what is wrong is told so."""

import ast
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.moves.again import variants
from lab_support.notebook.moves.blanks import blanks, filled
from lab_support.notebook.moves.exercises import KINDS, as_program, changed, exercise, solutions
from lab_support.notebook.moves.verdicts import CannotTell, judges
from lab_support.notebook.publishing import build
from tests.notebook.moves import solution_trials
from tests.notebook.publishing.test_lint_of_cells import complaints
from tests.proofs.pytests import FULL

BLANKS = pytest.mark.parametrize("blank", solution_trials.all_blanks(), ids=lambda each: each.name)
VARIANTS = pytest.mark.parametrize(
    "variant", [each for number in solution_trials.NUMBERS for each in variants(number)], ids=lambda each: each.number
)
JUDGES = pytest.mark.parametrize(
    ("number", "judge"),
    [
        pytest.param(number, judge, id=judge.number)
        for number in solution_trials.NUMBERS
        for judge in judges(number)
        if judge.letter or judge.reached
    ],
)
STARTS_A_SERVER = re.compile(r"notebook\.servers|live_servers?\(|stages import (unwatched|forced_fork)")
IN_SHORT = 2
ONCE = ("skeleton", "solution")


def chosen() -> Iterator[solution_trials.Trial]:
    """In `make test` one right and one wrong answer of each, but the right one alone where it starts a server, which
    takes seconds; in `make prove` all of them, many times. The verdict on a wrong answer to an exercise includes one on
    its reference: "failed" only if that passes."""
    for trial in solution_trials.trials():
        quick = trial.what == "wrong 1" and not STARTS_A_SERVER.search(trial.exercise.skeleton)
        if FULL in os.environ or trial.what in ONCE or quick:
            yield trial


TRIALS = [*chosen()]
CLAIMS = pytest.mark.parametrize(
    ("number", "claim"), solution_trials.claims(), ids=lambda each: getattr(each, "words", each)
)
EXERCISES = pytest.mark.parametrize("exercise", solution_trials.exercises(), ids=lambda each: each.name)


@pytest.mark.slow
@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_each_answer_is_marked_as_it_deserves(trial, kept_runs):
    verdict = trial.mark(kept_runs.run)
    assert trial.is_met_by(verdict), verdict


@pytest.mark.slow
@CLAIMS
def test_each_claim_holds(number, claim, kept_runs):
    """Several claims look at one run, as in the notebook; of a cell, at the notebook's own if it has run before."""
    result = solution_trials.result_of(claim, claim.experiment, kept_runs.run)
    with skipped_if_it_cannot_be_told():
        assert claim.holds(result)


@pytest.mark.slow
@CLAIMS
def test_no_claim_holds_once_its_experiment_is_broken(number, claim, kept_runs):
    if FULL not in os.environ and claim.broken not in broken_in_short(number):
        pytest.skip("make prove runs all of these, and make test some of each notebook")
    of_broken = solution_trials.result_of(claim, claim.broken, kept_runs.run)
    with skipped_if_it_cannot_be_told():
        assert not claim.holds(of_broken), "the broken experiment made no difference"


@contextmanager
def skipped_if_it_cannot_be_told() -> Iterator[None]:
    """Other programs took the cores, or this machine can't show it: then the notebook says so, too."""
    try:
        yield
    except CannotTell as why:
        pytest.skip(f"can't be told from this run: {why}")


def broken_in_short(number: str) -> list[str]:
    """Of the broken experiments of a notebook the first two that start no server."""
    sources = list(dict.fromkeys(claim.broken for _, claim in solution_trials.claims([number])))
    return [source for source in sources if not STARTS_A_SERVER.search(source)][:IN_SHORT]


@pytest.mark.slow
@EXERCISES
def test_a_solution_runs_as_a_cell(exercise):
    """A skeleton runs in its notebook, and may stop with an error, which is its bug, if its cell says so."""
    if not exercise.skeleton.startswith("%%python_process"):
        pytest.skip("a function: its cell runs in the kernel, with the notebook's own variables")
    options = options_of(exercise.skeleton) | {"expect": 0, "quiet": True}
    for source in (exercise.reference, *(exercise.also_right if FULL in os.environ else ())):
        run_process(as_program(source), **options)


@EXERCISES
def test_there_is_enough_of_each(exercise):
    assert exercise.kind in KINDS
    assert len(exercise.also_right) >= 2
    assert 3 <= len(exercise.wrong) <= 7
    assert exercise.hints
    assert exercise.task
    assert exercise.skeleton.rstrip("\n").count("\n") < 25


@EXERCISES
def test_every_right_answer_and_skeleton_is_clean_python(exercise):
    for source in (exercise.skeleton, exercise.reference, *exercise.also_right):
        told = [
            line for line in complaints(source if source.startswith("%%") else f"\n{source}") if "server" not in line
        ]
        assert told == []


@BLANKS
def test_there_is_enough_of_each_blank(blank):
    assert 1 <= blank.skeleton.count("____") <= 3
    assert len(blank.right) >= 2
    assert len(blank.wrong) >= 3
    assert blank.hints and blank.task
    assert filled(blank.skeleton, blank.wrong[0].fillings) != blank.reference


@JUDGES
def test_every_option_of_a_prediction_is_reached_by_some_measurement(number, judge):
    options = options_asked(number)[judge.number]
    if judge.letter:
        assert set(judge.reached) == set(options), "a reader may choose an option that no measurement supports"
    assert {letter: judge.letter(measured) for letter, measured in judge.reached.items()} == {
        letter: letter for letter in judge.reached
    }


@pytest.mark.parametrize("number", solution_trials.NUMBERS)
def test_every_prediction_has_its_judge_and_every_blank_its_cell(number):
    asked, known = calls(number, "verdict"), [judge.number for judge in judges(number)]
    assert sorted(set(asked)) == sorted(known)
    in_cells = [name for cell in cells(number) for name in re.findall(r"^%%.*--blank ([\w.]+)", source_of(cell))]
    assert sorted(in_cells) == sorted(blank.name for blank in blanks(number))
    assert sorted(set(calls(number, "again"))) == sorted(each.number for each in variants(number))


@VARIANTS
@pytest.mark.parametrize("seed", range(1, 21))
def test_the_numbers_of_a_variant_make_a_question_whose_program_can_be_read(variant, seed):
    given = variant.given(seed)
    assert given == variant.given(seed) and variant.words(given)
    assert 3 <= len(variant.options(given)) <= 5
    ast.parse(as_program(variant.program(given)))


@pytest.mark.slow
@pytest.mark.skipif(FULL not in os.environ, reason="its notebook runs it with another seed; make prove with twenty")
@VARIANTS
def test_a_variant_runs_and_its_result_supports_an_option(variant):
    """In `make test` each variant runs in its notebook, once; `make prove` asks what its results support."""
    given = variant.given(2)
    found = variant.find(variant.run(given), given)
    assert variant.letter(found.measured, given) in variant.options(given)


def test_each_name_is_there_once_and_begins_with_its_notebook():
    names = [each.name for each in solution_trials.exercises()]
    assert len(set(names)) == len(names)
    for number in solution_trials.NUMBERS:
        assert all(each.name.startswith(f"{number}.") for each in solutions(number).exercises)


def test_what_is_asked_for_and_not_there_is_told_with_what_is():
    with pytest.raises(LookupError, match=r"got exercise '00.9', expected one of 00.1, "):
        exercise("00.9")
    with pytest.raises(LookupError, match=r"got notebook '99', expected one with exercises: 00"):
        exercise("99.1")
    with pytest.raises(ValueError, match="got 'x' 2 times, expected it once"):
        changed("x = x", "x", "y")


# ---- the notebook and its solutions are one --------------------------------------------------------------------------


def cells(number: str) -> list[dict]:
    (path,) = build.find([f"{number}_"])
    return json.loads(Path(path).read_text())["cells"]


def source_of(cell: dict) -> str:
    return "".join(cell["source"])


def calls(number: str, move: str) -> list[str]:
    """The first argument of each `lab.MOVE(…)` in the notebook's cells."""
    found: list[str] = []
    for cell in cells(number):
        text = source_of(cell)
        if cell["cell_type"] == "code" and not text.startswith("%") and f"lab.{move}(" in text:
            tree = ast.parse(re.sub(r"^[%!].*$", "", text, flags=re.MULTILINE))
            nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
            wanted = [node for node in nodes if ast.unparse(node.func) == f"lab.{move}"]
            found += [str(node.args[0].value) for node in wanted if isinstance(node.args[0], ast.Constant)]
    return found


@pytest.mark.parametrize("number", solution_trials.NUMBERS)
def test_what_the_notebook_checks_has_a_solution_and_stands_there_as_its_skeleton(number):
    checked = calls(number, "check")
    known = {each.name: each for each in solutions(number).exercises}
    assert set(checked) <= set(known)
    tagged = {source_of(cell).strip() for cell in cells(number) if "exercise" in cell["metadata"].get("tags", [])}
    assert [name for name in checked if known[name].skeleton.strip() not in tagged] == []


def options_asked(number: str) -> dict[str, dict[str, str]]:
    """The options of each prediction in the notebook's cells; none for a sketch. Cells that ask use only literals."""
    found: dict[str, dict[str, str]] = {}
    for cell in cells(number):
        text = source_of(cell)
        if cell["cell_type"] == "code" and "lab.predict(" in text:
            space: dict = {"lab": _Predictions(found)}
            exec(text, space)
    return found


class _Predictions:
    """Stands for `lab` in a cell that asks: it keeps the options."""

    def __init__(self, found: dict[str, dict[str, str]]) -> None:
        self._found = found

    def predict(self, number, words, *, options=None, **more):
        self._found[number] = dict(options or {})


def claims_in_verdicts(number: str) -> list[str]:
    """The words of every `Claim("…")` in NN_verdicts.py, and of every row of a table there."""
    words = [
        str(node.args[0].value)
        for path in solution_trials.files(number, "verdicts")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Claim" and isinstance(node.args[0], ast.Constant)
    ]
    return words + [claim.words for judge in judges(number) for claim in judge.row_claims({})]


@pytest.mark.parametrize("number", solution_trials.NUMBERS)
def test_claims_of_verdicts_are_literals_which_a_test_can_find(number):
    for path in solution_trials.files(number, "verdicts"):
        tree = ast.parse(path.read_text())
        made = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Claim"]
        assert [ast.unparse(node) for node in made if not isinstance(node.args[0], ast.Constant)] == []


@pytest.mark.parametrize("number", solution_trials.NUMBERS)
def test_every_claim_of_the_notebook_has_its_broken_variant(number):
    claimed = calls(number, "claim") + claims_in_verdicts(number)
    broken = [claim.words for claim in solutions(number).broken_claims]
    assert [words for words in claimed if words not in broken] == []

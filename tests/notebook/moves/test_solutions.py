"""Every exercise and every claim of the notebooks, put on trial: what is right passes, what is wrong is told so."""

import ast
import json
import re
from pathlib import Path

import pytest

from lab_support.notebook.moves.exercises import KINDS, as_program, changed, exercise, solutions
from lab_support.notebook.publishing import build
from tests.notebook.moves import solution_trials
from tests.notebook.publishing.test_lint_of_cells import complaints

EXERCISES = pytest.mark.parametrize("exercise", solution_trials.exercises(), ids=lambda each: each.name)


@pytest.mark.slow
@pytest.mark.parametrize("trial", solution_trials.trials(), ids=lambda trial: trial.name)
def test_each_answer_is_marked_as_it_deserves(trial):
    verdict = trial.mark()
    assert trial.is_met_by(verdict), verdict


@pytest.mark.slow
@pytest.mark.parametrize(("number", "claim"), solution_trials.claims(), ids=lambda each: getattr(each, "words", each))
def test_each_claim_holds_and_does_not_once_its_experiment_is_broken(number, claim, results):
    for source in (claim.experiment, claim.broken):
        if source not in results:
            results[source] = solution_trials.result_of(claim, source)
    assert claim.holds(results[claim.experiment])
    assert not claim.holds(results[claim.broken]), "the broken experiment made no difference"


@pytest.fixture(scope="module")
def results() -> dict:
    """By program: several claims look at one run, as in the notebook."""
    return {}


@pytest.mark.slow
@EXERCISES
def test_the_skeleton_runs_in_the_notebook_and_the_solution_too(exercise):
    """A skeleton may stop with an error, which is its bug, if its cell says so; a solution must not."""
    if not exercise.skeleton.startswith("%%python_process"):
        pytest.skip("a function: its cell runs in the kernel, with the notebook's own variables")
    for source in (exercise.reference, *exercise.also_right):
        assert solution_trials.run_process(as_program(source), timeout=20, quiet=True).ended == "finished"
    words = exercise.skeleton.splitlines()[0]
    outcome = solution_trials.run_process(as_program(exercise.skeleton), timeout=10, expect="any", quiet=True).outcome
    assert outcome == "0" or "--expect" in words


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


@pytest.mark.parametrize("number", solution_trials.NUMBERS)
def test_every_claim_of_the_notebook_has_its_broken_variant(number):
    claimed = calls(number, "claim")
    broken = [claim.words for claim in solutions(number).broken_claims]
    assert [words for words in claimed if words not in broken] == []

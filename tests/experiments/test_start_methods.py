"""The cost of a child by start method: real children, counted, measured, and gone afterwards."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from statistics import median

import pytest

from lab_support.experiments.started_child import FORK, FORKSERVER, METHODS, PRELOAD, SPAWN
from lab_support.instruments import proc
from lab_support.instruments.record.provenance import ROOT
from tests.proofs.pytests import in_full

_COMPARE = """
import json, sys
from lab_support.experiments.started_child import compare
for each in compare(*json.loads(sys.argv[1])):
    print(json.dumps(each))
"""


def compare(*arguments: object) -> list[dict]:
    """In a program of its own: this one has threads, and would be forked with all that pytest has."""
    command = [sys.executable, "-c", _COMPARE, json.dumps(arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def bare() -> list[dict]:
    return compare([1, 3], 3)


def test_each_method_starts_one_child_first_and_then_what_was_asked_for(bare):
    expected = [(method, count) for method in METHODS for count in (1, 1, 1, 1, 3, 3, 3)]
    assert [(sample["method"], sample["count"]) for sample in bare] == expected
    assert [sample["method"] for sample in bare if sample["first"]] == list(METHODS)


def test_memory_is_told_for_each_child(bare):
    for sample in bare:
        assert len(sample["uss"]) == len(sample["pss"]) == len(sample["rss"]) == sample["count"]
        assert all(0 < own <= part <= whole for own, part, whole in zip(*(sample[k] for k in ("uss", "pss", "rss"))))  # noqa: B905


def test_a_new_program_costs_more_than_a_copy(bare):
    def middle(method: str, kind: str) -> float:
        values = [sample[kind] for sample in bare if sample["method"] == method and not sample["first"]]
        return median(value if isinstance(value, float) else median(value) for value in values)

    costs = [middle(method, "uss") for method in (SPAWN, FORKSERVER, PRELOAD, FORK)]
    assert all(dear > cheap for dear, cheap in pairwise(costs)), costs
    assert middle(SPAWN, "ms") > middle(FORKSERVER, "ms") > middle(FORK, "ms")


def test_what_a_child_needs_is_there_before_it_is_ready():
    module = "sqlite3"
    samples = compare([2], 1, module, [SPAWN, PRELOAD, FORK])
    assert {sample["module"] for sample in samples if not sample["first"]} == {module}
    assert {sample["module"] for sample in samples if sample["first"] and sample["method"] == SPAWN} == {""}
    for sample in samples:
        assert sample["ms"] >= sample["ms_to_code"] * 0.999


def test_nothing_is_left_of_it():
    def programs() -> set[proc.Identity]:
        return {one.identity for one in proc.all_processes() if "started_child" in one.title and not one.ended}

    before = programs()
    compare([2], 1)
    assert programs() <= before


@pytest.mark.slow
@in_full
def test_the_program_measures_every_method_bare_and_with_torch():
    command = [sys.executable, "-m", "lab_support.experiments.start_methods", "--repeats", "1"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT, env=kept)
    assert done.returncode == 0, done.stderr
    samples = [json.loads(line) for line in done.stdout.splitlines()]
    found = {(one["method"], one["module"], one["count"]) for one in samples if one["what"] == "children"}
    assert {(method, module, 4) for method in METHODS for module in ("", "torch")} <= found
    assert {(method, "", 8) for method in METHODS} <= found and (SPAWN, "torch", 8) not in found

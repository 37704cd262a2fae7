"""Servers with a fault: each shows the sign that it is told by, and no two show the same."""

import random
from statistics import mean

import pytest

from lab_support.notebook.servers import misconfigured
from lab_support.notebook.servers.misconfigured import CLIENTS, Setup, figures, over_time, running


def measured(fault):
    chosen = misconfigured.setup(fault, random.Random(1))
    with running(chosen) as server:
        return chosen, figures(server, chosen, seconds=0.8)


def test_with_too_few_rows_the_batch_is_always_full_and_others_wait():
    chosen, seen = measured("rows")
    assert max(seen["running"]) == chosen.flags["max_num_seqs"]
    assert mean(seen["running"]) > 0.75 * max(seen["running"])
    assert max(seen["waiting"]) > 0
    assert max(seen["cache_usage"]) < 0.5
    assert seen["preemptions"] == 0


def test_with_too_small_a_cache_most_blocks_are_in_use_while_others_wait():
    _, seen = measured("cache")
    assert max(seen["cache_usage"]) > 0.7
    assert max(seen["waiting"]) > 0


def test_under_static_batching_the_batch_shrinks_while_others_wait():
    _, seen = measured("static")
    assert mean(seen["running"]) < 0.75 * max(seen["running"])
    assert max(seen["waiting"]) > 0
    assert seen["preemptions"] == 0


def test_without_a_fault_nobody_waits():
    chosen, seen = measured("none")
    assert max(seen["waiting"]) <= 2
    assert seen["pace"] == round(CLIENTS / chosen.milliseconds * 1000)
    assert seen["tokens_per_second"] <= 1.05 * seen["pace"]
    assert seen["busy"].keys() == {"api-0", "engine-0"}


def test_the_pace_is_that_of_a_row_for_each_client():
    assert Setup(48.0, {}).pace == 1000


def test_only_looks_under_load_count():
    def look(at, tokens):
        return 0.5 * at, {"running": at, "waiting": 2.0, "cache_usage": 0.1, "preemptions": 5.0 * at, "tokens": tokens}

    looks = [look(at, tokens) for at, tokens in enumerate((7, 7, 9, 11, 13, 13, 15, 17, 19, 19, 19))]
    expected = {"running": [4, 5, 6], "waiting": [2, 2, 2], "cache_usage": [0.1, 0.1, 0.1], "preemptions": 10}
    assert over_time(looks) == expected
    assert over_time(looks[:4])["running"] == [2, 3]
    with pytest.raises(LookupError, match="got 2 looks, none of them at a loaded server"):
        over_time(looks[:2])

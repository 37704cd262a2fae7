"""Children in small meet their fates, and parents that wait for them are timed and never left waiting."""

from multiprocessing import resource_tracker

import pytest

from lab_support.instruments import proc
from lab_support.notebook.stages.start_up import FATES, at_the_same_time, each_with_each, started, waiter


@pytest.fixture(autouse=True, scope="module")
def tracker() -> None:
    """Python's own process for leaked resources: the first spawn starts it, and it stays."""
    resource_tracker.ensure_running()


def test_a_waiter_is_told_at_once_of_ready_and_of_each_death_and_of_silence_at_its_limit():
    rows = {row["child"]: row for row in each_with_each([waiter], ["prompt", "killed", "raises", "leaves", "stuck"])}
    said = {"prompt": "ready", "killed": "dead", "raises": "dead", "leaves": "ready", "stuck": "late"}
    assert {child: row["said"] for child, row in rows.items()} == said
    assert rows["prompt"]["served"] and rows["stuck"]["after"] is None
    assert rows["killed"]["waited"] < rows["stuck"]["waited"] >= 3.0
    assert rows["killed"]["held"] == ["the parent"]
    assert rows["stuck"]["held"] == ["the parent", "the child"]


def test_ready_is_said_once_or_twice_and_no_child_is_left():
    with started({"one": "prompt", "other": "eager"}) as children:
        said = [child.pipe.recv() for child in children]
        assert [*said, children[1].pipe.recv()] == ["READY"] * 3
        assert not children[0].pipe.poll() and all(child.answers_health() for child in children)
        pids = [child.process.pid for child in children]
    assert [proc.read_process(pid) for pid in pids] == [None, None]


def test_a_parent_that_never_answers_is_ended_and_an_error_is_told():
    def waits_for_ever(all_here):
        with started({"api-0": "stuck"}, all_here=all_here) as (child,):
            child.pipe.recv()

    answers = at_the_same_time({"stuck": waits_for_ever, "wrong": lambda all_here: [][0]}, seconds=0.5)
    assert answers == {"stuck": "no answer", "wrong": "IndexError: list index out of range"}


def test_an_unknown_fate_is_refused_with_the_known_ones():
    with (
        pytest.raises(ValueError, match=f"got fate 'late', expected one of {', '.join(FATES)}"),
        started({"x": "late"}),
    ):
        pass

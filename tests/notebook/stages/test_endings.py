"""Rules by which a launcher waits for its children, and each ending: by real processes."""

from multiprocessing import connection, resource_tracker

import pytest

from lab_support.notebook.stages.endings import (
    ASKED,
    BREAKS,
    CLEAN,
    COORDINATOR,
    ENDINGS,
    KILLED,
    MOST_LIVING,
    MOST_STARTS,
    ONE_ASKED,
    THEN_ANOTHER,
    TWICE,
    after,
)


@pytest.fixture(autouse=True, scope="module")
def tracker() -> None:
    """Python's own process for leaked resources: it is started once, and stays."""
    resource_tracker.ensure_running()


def by_exit_code(children, asked, start):
    waiting = {child.sentinel: child for child in children}
    while waiting:
        for end in connection.wait(waiting):
            child = waiting.pop(end)
            if child.exitcode != 0:
                raise RuntimeError(f"{child.name} {child.exitcode}")


def by_memory(children, asked, start):
    waiting = {child.sentinel: child for child in children}
    while waiting:
        for end in connection.wait(waiting):
            child = waiting.pop(end)
            if child.name in asked:
                continue
            if not child.name.startswith("api-"):
                raise RuntimeError(f"{child.name} {child.exitcode}")
            successor = start(child.name)
            waiting[successor.sentinel] = successor


def did(rows):
    return {row["ending"]: row["did"] for row in rows}


def test_a_rule_by_exit_codes_is_told_by_what_it_does():
    rows = after(by_exit_code, ENDINGS)
    waits, raises = "waits on", "raises"
    expected = dict.fromkeys(ENDINGS, raises) | {CLEAN: waits, COORDINATOR: waits, ASKED: "returns"}
    assert did(rows) == expected
    told = {row["ending"]: row for row in rows}
    assert told[CLEAN]["left"] == ["api-1", "coordinator"] and told[CLEAN]["stopped"] == "returns"
    assert told[KILLED]["said"] == "api-0 -9"
    assert told[ASKED]["left"] == []


def test_successors_are_counted_up_to_the_last_one():
    told = {row["ending"]: row for row in after(by_memory, ENDINGS)}
    starts = {ending: row["starts"] for ending, row in told.items()}
    assert 10 < starts.pop(BREAKS) <= MOST_STARTS
    assert starts == {CLEAN: 1, KILLED: 1, TWICE: 2, THEN_ANOTHER: 1, COORDINATOR: 0, ONE_ASKED: 1, ASKED: 0}
    assert told[ONE_ASKED]["left"] == ["api-0", "coordinator"] and told[THEN_ANOTHER]["did"] == "raises"
    assert told[TWICE]["left"] == ["api-0", "api-1", "coordinator"] and told[TWICE]["stopped"] == "returns"
    assert told[COORDINATOR]["said"] == "coordinator 0"


def test_a_rule_that_never_stops_starting_is_stopped():
    def endless(children, asked, start):
        while True:
            start("api-0")

    [row] = after(endless, [KILLED])
    assert (row["did"], row["starts"], row["stopped"]) == ("waits on", MOST_LIVING, "waits on")


def test_a_rule_with_an_error_of_its_own_fails_and_one_that_waits_for_ever_is_ended():
    def mistaken(children, asked, start):
        return children[0].no_such_thing

    def deaf(children, asked, start):
        connection.wait([])
        while True:
            connection.wait([children[2].sentinel], 1)

    [row] = after(mistaken, [KILLED])
    assert row["did"] == "fails" and row["said"].startswith("AttributeError: ")
    [row] = after(deaf, [ASKED])
    assert (row["did"], row["left"], row["stopped"]) == ("waits on", [], "waits on")


def test_an_ending_that_there_is_not_is_told():
    with pytest.raises(ValueError, match="got ending 'api-9 leaves', expected one of api-0 ends with exit code 0"):
        after(by_memory, ["api-9 leaves"])

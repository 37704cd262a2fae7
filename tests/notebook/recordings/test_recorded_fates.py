"""Recorded fates: rows for a reader's table, and a recording in which each cell came out as the lesson says."""

from collections import Counter

import pytest

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.recordings import fates
from tests.notebook.figures.test_fate_matrix import FOUND, SURVIVED, fate, of


def test_a_row_has_the_option_that_was_found_here_or_else_in_the_recording():
    found = fates.cells([fate("engine-0", "idle", None, clients={"done": 4})], FOUND)
    names = ["engine-0 killed while idle", "api-0 killed while idle"]
    assert fates.rows(found, fates.who, names) == dict(zip(names, ["nobody", "the launcher"], strict=True))
    assert fates.rows(found, fates.server, names) == dict(zip(names, ["ended", "goes on"], strict=True))
    assert list(fates.rows(found, fates.when)) == [*found]
    assert fates.seen(found, names[:1]) == {
        names[0]: "nobody, n = 1; 4 of 4 clients answered; server ended; measured here"
    }


@pytest.mark.parametrize(
    ("clients", "option"),
    [
        ([{"done": 4}], fates.ALL_ANSWERED),
        ([{"done": 2, "cut off": 2}, {"done": 4}], fates.SOME_CUT),
        ([{"cut off": 4}], fates.ALL_CUT),
        ([{"error event": 4}], fates.ALL_TOLD),
        ([{"refused": 4}], fates.ALL_REFUSED),
        ([{"refused": 4}, {"cut off": 4}], fates.OTHERWISE),
    ],
)
def test_what_clients_got_is_one_option_over_all_repeats(clients, option):
    found = fates.cells([fate("api-0", "idle", clients=each) for each in clients], FOUND)
    assert fates.rows(found, fates.clients, ["api-0 killed while idle"]) == {"api-0 killed while idle": option}


def test_an_unknown_row_is_named_with_those_that_there_are():
    with pytest.raises(LookupError, match="got 'api-9 killed', expected one of engine-0 killed while idle, api-0"):
        fates.rows(fates.cells([], FOUND), fates.who, ["api-9 killed"])


def test_ways_of_accepting_have_a_row_each_with_their_range():
    stops = [
        fate("api-0", "idle", None, signal="SIGSTOP", accept="handoff", clients=clients)
        for clients in ({"done": 2, "still waiting": 2}, {"done": 3, "still waiting": 1})
    ]
    assert fates.by_accept(of(*stops, SURVIVED)).rows == (("api-0", "handoff", "2 to 3 of 4", "1 to 2 of 4", "2"),)
    with pytest.raises(LookupError, match="without stops of an idle server"):
        fates.by_accept(FOUND)


# ---- the recording ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded() -> Recording:
    return fates.load()


def test_the_recording_has_five_repeats_of_each_kill_and_of_each_stop_with_and_without_a_deadline(recorded):
    kills = Counter((each["role"], each["state"]) for each in recorded.of("fate", signal="SIGKILL"))
    assert len(kills) == 12 and set(kills.values()) == {5}
    stops = [each for each in recorded.of("fate", signal="SIGSTOP") if not each["accept"]]
    assert set(Counter((each["role"], each["deadline"] > 0) for each in stops).values()) == {5}
    assert {each["role"] for each in stops} == {"launcher", "coordinator", "api-0", "engine-0"}


def test_in_the_recording_every_kill_came_out_as_the_proofs_demand(recorded):
    from tests.proofs.fates import is_as_told

    wrong = [each for each in recorded.of("fate", signal="SIGKILL") if not is_as_told(each)]
    assert not wrong


def test_in_the_recording_nobody_noticed_a_stop_without_a_deadline_and_a_deadline_found_all_but_the_launcher(recorded):
    for each in recorded.of("fate", signal="SIGSTOP"):
        found = {means for means, _ in each["noticed"].values()}
        expected = {"the liveness deadline"} if each["deadline"] and each["role"] != "launcher" else set()
        assert found == expected, each
        assert each["left"] == 0

"""The two roads of a descriptor: what was counted decides who stands at which."""

import lab_support.notebook as lab


def test_who_sent_nothing_stands_at_the_first_road_and_who_sent_at_the_second():
    picture = lab.roads({"fork": 0, "spawn": 0, "forkserver": 1})
    assert picture.alt.startswith("Left open: fork, spawn. Sent in a message: forkserver.")
    assert "forkserver: 1 message with the socket." in picture.alt
    assert picture.png().startswith(b"\x89PNG")


def test_what_nobody_took_is_said_too():
    assert "Sent in a message: nothing" in lab.roads({"fork": 0}).alt


def test_without_counts_it_only_asks():
    assert lab.roads().alt.startswith("Two roads into another process's descriptor table.")

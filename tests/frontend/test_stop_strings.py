"""Stop strings in text that comes in pieces: what is shown is what cutting the whole text would show, and no later."""

import itertools

import pytest

from lab_support.frontend.answer.stop_strings import StopStrings


def shown(stops: StopStrings, pieces: list[str]) -> str:
    text = ""
    for piece in pieces:
        text += stops.push(piece)
        if stops.matched is not None:
            return text
    return text + stops.flush()


def splits(text: str, most: int = 3) -> list[list[str]]:
    """`text` cut in up to `most` pieces, in every way."""
    ways = []
    for count in range(most):
        for cuts in itertools.combinations(range(1, len(text)), count):
            edges = [0, *cuts, len(text)]
            ways.append([text[a:b] for a, b in itertools.pairwise(edges)])
    return ways


@pytest.mark.parametrize(
    ("text", "stops", "expected", "matched"),
    [
        ("one END two", ("END",), "one ", "END"),
        ("aaab", ("aab",), "a", "aab"),
        ("abcabd", ("abd", "x"), "abc", "abd"),
        ("one two", ("two", "one"), "", "one"),
        ("nothing here", ("END", "\n\n"), "nothing here", None),
        ("almost EN", ("END",), "almost EN", None),
        ("é\n\nü", ("\n\n",), "é", "\n\n"),
    ],
)
def test_every_split_shows_the_same(text: str, stops: tuple[str, ...], expected: str, matched: str | None) -> None:
    for pieces in splits(text):
        search = StopStrings(stops)
        assert (shown(search, pieces), search.matched) == (expected, matched), pieces


def test_the_stop_string_is_shown_if_asked_for() -> None:
    assert shown(StopStrings(("END",), include=True), ["one E", "ND two"]) == "one END"


def test_only_what_may_be_a_beginning_is_held_back() -> None:
    stops = StopStrings(("END",))
    assert stops.push("one E") == "one "
    assert stops.push("x") == "Ex"
    assert stops.push("EEN") == "E"
    assert stops.flush() == "EN"


@pytest.mark.parametrize(
    ("protected", "text", "expected"),
    [
        ("one E", "ND two", "one "),
        ("one EN", "D two", "one "),
        ("one END", " two", "one END two"),
        ("one END", " two END three", "one END two "),
        ("ENDEN", "D", "END"),
        ("", "END", ""),
    ],
)
def test_a_stop_string_counts_if_it_ends_behind_what_is_protected(protected: str, text: str, expected: str) -> None:
    for first in splits(protected) if protected else [[]]:
        for then in splits(text):
            search = StopStrings(("END",))
            before = "".join(search.push(piece, protected=True) for piece in first)
            assert search.matched is None
            assert before + shown(search, then) == expected, (first, then)


def test_a_stop_string_within_another_that_may_begin_is_protected_too() -> None:
    search = StopStrings(("b", "abc"))
    assert search.push("ab", protected=True) == ""
    assert shown(search, ["x"]) == "abx"
    assert search.matched is None

"""Values of Python's in words."""

import pytest

from lab_support.notebook.page.plain import plain
from lab_support.notebook.recordings.cuda_after_fork import short


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"answered": 100}, "answered: 100"),
        ({"answered": 70, "a stranger": 20}, "answered: 70, a stranger: 20"),
        ({}, "none"),
        ([1, 2.5, None], "1, 2.50, –"),
        (("a",), "a"),
        ({3, 1}, "1, 3"),
        (True, "yes"),
        (0, "0"),
        ("{'as': 'it is'}", "{'as': 'it is'}"),
    ],
)
def test_a_value_is_said_without_python(value, words):
    assert plain(value) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use …\nmore", 0),
        ("one line", "one line"),
        ("word " * 30, "word word word word word word word word word word word word …"),
    ],
)
def test_an_error_is_cut_where_a_sentence_or_a_word_ends(text, shown):
    assert short(text) == (shown or "Cannot re-initialize CUDA in forked subprocess.")

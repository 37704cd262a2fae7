"""Values of Python's in words."""

import pytest

from lab_support.notebook.plain import plain


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

"""The figure of what a fork leaves behind: it says in words what it shows."""

import lab_support.notebook as lab


def test_both_sides_are_told():
    picture = lab.outside([("a pool has 2 threads", "2 threads")])
    assert "memory says “a pool has 2 threads”, outside there is 2 threads" in picture.alt

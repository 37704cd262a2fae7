"""The figure of what a fork leaves behind, shares and doubles: it says in words what it shows."""

import lab_support.notebook as lab
from lab_support.notebook.figures.outside import LEFT_BEHIND, SHARED, Lane


def test_each_lane_is_told():
    alt = lab.outside([Lane(LEFT_BEHIND, "2 threads run", "2 threads", "pools"), Lane(SHARED, "a", "b", "files")]).alt
    assert "memory says “2 threads run”, outside there is 2 threads; nothing for the child. Such are pools." in alt
    assert "Shared: in the parent memory says “a”, outside there is b; the same for the child." in alt


def test_what_is_doubled_has_nothing_outside():
    assert "Doubled: in the parent memory says “text to be written”; the child has a copy" in lab.outside().alt

"""The bars of parents that wait: their lengths and marks are the data, and the words say the same."""

from matplotlib.container import BarContainer

from lab_support.notebook.figures.who_waits import Wait, who_waits

WAITS = (
    Wait("the message alone", "killed", "late", 2.0, 0.3, died=True, note="a note"),
    Wait("message and sentinel", "killed", "dead", 0.4, 0.3, died=True),
    Wait("message and sentinel", "stuck", "late", 2.0, None, died=False),
)


def test_each_wait_has_its_bar_and_each_event_its_mark():
    (axes,) = who_waits(WAITS, "the finding").figure.axes
    bars = [bar for each in axes.containers if isinstance(each, BarContainer) for bar in each]
    assert [bar.get_width() for bar in bars] == [2.0, 0.4, 2.0]
    assert [float(line.get_xdata()[0]) for line in axes.lines] == [0.3, 0.3]
    assert axes.get_title(loc="left") == "the finding"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["killed child", "killed child", "stuck child"]


def test_the_words_say_who_waited_how_long_and_what_happened():
    alt = who_waits(WAITS, "the finding").alt
    assert "the message alone, killed child: “late” after 2.0 s; the child died at 0.3 s; a note." in alt
    assert "message and sentinel, stuck child: “late” after 2.0 s; nothing happened before." in alt

"""Bars of one quantity: the title is the finding, repeats show as dots, the alt text has the figures."""

import pytest

import lab_support.notebook as lab
from lab_support.notebook.figures.bars import bars_apart

pytestmark = pytest.mark.usefixtures("empty_record")


def test_the_alt_text_says_what_the_bars_show():
    picture = lab.bars(
        {"lists": {"just forked": 0.9, "after reading": 33.2}, "an array": {"just forked": [0.8, 0.9, 1.2]}},
        unit="private memory, MB",
        finding="Reading lists copies 32 MB",
    )
    assert picture.alt == (
        "Reading lists copies 32 MB. In private memory, MB: lists: just forked 0.9, after reading 33; "
        "an array: just forked 0.9."
    )
    (axes,) = picture.figure.axes
    assert axes.get_title(loc="left") == "Reading lists copies 32 MB"
    assert axes.get_ylabel() == "private memory, MB"
    assert [len(line.get_xdata()) for line in axes.lines] == [3]
    assert len(picture.png()) > 1000


def test_the_same_situation_looks_alike_in_each_group():
    picture = lab.bars({"x": {"a": 1, "b": 2}, "y": {"b": 2}}, unit="s", finding="f")
    looks = {}
    for bar in picture.figure.axes[0].patches:
        looks.setdefault(bar.get_height(), set()).add((bar.get_facecolor(), bar.get_hatch()))
    assert {height: len(found) for height, found in looks.items()} == {1: 1, 2: 1}
    assert looks[1] != looks[2]


def test_an_outline_shows_the_whole_of_which_bars_are_parts():
    parts = {"lists": {"read": 32.0}, "an array": {"read": 1.0}, "nothing": {"read": 0.5}}
    picture = lab.bars(parts, unit="MB", finding="f", whole={"lists": 60.0, "an array": 61.0}, whole_is="all")
    assert picture.alt == "f. In MB: lists: read 32, all 60; an array: read 1, all 61; nothing: read 0.5."
    (axes,) = picture.figure.axes
    outlines = [bar.get_height() for bar in axes.patches if bar.get_linestyle() == "--"]
    assert outlines == [60.0, 61.0]
    assert axes.get_ylim()[1] > 61
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["read", "all"]


def test_a_level_is_drawn_and_told():
    times = {"bytes": {"a request": 0.5}, "time": {"a request": 0.9}}
    picture = lab.bars(times, unit="times as much", finding="f", level=1.0, level_is="as much")
    assert picture.alt == "f. In times as much: bytes: a request 0.5; time: a request 0.9; as much 1."
    (axes,) = picture.figure.axes
    assert [(line.get_linestyle(), *line.get_ydata()) for line in axes.lines] == [("--", 1.0, 1.0)]
    assert axes.get_ylim()[1] > 1 and axes.get_legend().get_texts()[0].get_text() == "as much"


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="got nothing to draw"):
        lab.bars({"x": {}}, unit="s", finding="f")


def test_panels_share_the_looks_and_are_told_apart():
    panels = {
        "here": {"time": {"spawn": 100.0, "fork": 90.0}},
        "RECORDED": {"time": {"spawn": 100.0, "preloaded": 1.2}},
    }
    picture = bars_apart(panels, unit="%", finding="It pays elsewhere")
    assert picture.alt == (
        "It pays elsewhere. In %. here: time: spawn 100, fork 90. RECORDED: time: spawn 100, preloaded 1.2."
    )
    assert [each.get_title(loc="left") for each in picture.figure.axes] == ["here", "RECORDED"]


def test_panels_of_nothing_are_refused():
    with pytest.raises(ValueError, match="bars_apart: got nothing to draw"):
        bars_apart({"here": {}}, unit="%", finding="nothing")

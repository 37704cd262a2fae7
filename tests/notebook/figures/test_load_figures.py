"""Percentiles of several observers, and bars of parts: titles, alt texts, and what is drawn."""

import pytest

from lab_support.notebook.figures.load.percentiles import percentiles
from lab_support.notebook.figures.load.stacked import stacked


def test_each_observer_has_a_curve_that_ends_in_its_longest_time():
    seen = {"closed": [0.02] * 198 + [1.0] * 2, "due": [0.02] * 80 + [1.0] * 20}
    picture = percentiles(seen, finding="It hides", seconds=1.0, words="the stop")
    assert picture.alt == ("It hides. closed: median 20 ms, 99 % within 20 ms. due: median 20 ms, 99 % within 1000 ms.")
    (axes,) = picture.figure.axes
    assert axes.get_title(loc="left") == "It hides" and axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["closed (n = 200)", "due (n = 100)"]
    curves = [line for line in axes.lines if len(line.get_ydata()) >= 100]
    assert [max(line.get_ydata()) for line in curves] == [1000, 1000]
    assert len({(line.get_color(), line.get_linestyle()) for line in curves}) == 2
    assert len(picture.png()) > 1000


def test_parts_follow_one_another_and_their_sum_stands_behind_them():
    picture = stacked(
        {"alone": {"step": 80.0, "text": 20.0}, "crowd": {"step": 150.0, "text": 0.5}}, unit="µs", finding="f"
    )
    assert picture.alt == "f. In µs: alone: step 80, text 20, 100 together; crowd: step 150, text 0.50, 150 together."
    (axes,) = picture.figure.axes
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 80), (80, 20), (0, 150), (150, 0.5)]
    looks = [(bar.get_facecolor(), bar.get_hatch()) for bar in axes.patches]
    assert looks[:2] == looks[2:] and looks[0] != looks[1]
    assert {"  100", "  150"} <= {text.get_text() for text in axes.texts}


def test_a_note_stands_below_the_legend():
    picture = stacked({"alone": {"step": 80.0, "text": 20.0}}, unit="µs", finding="f").with_note("words " * 60)
    figure = picture.figure
    figure.draw_without_rendering()
    [axes] = figure.axes
    assert figure.legends == [], "a figure's own legend follows its lower edge into the note when it is saved"
    assert axes.get_legend().get_window_extent().y0 > figure.texts[-1].get_window_extent().y1


@pytest.mark.parametrize("draw", [lambda: percentiles({}, finding="f"), lambda: stacked({}, unit="s", finding="f")])
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(ValueError, match=r"got (no latency|nothing to draw), expected"):
        draw()

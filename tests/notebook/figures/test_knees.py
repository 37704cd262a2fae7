"""Tokens per second over API servers: curves with their knees, a mark for each measurement, and what was predicted."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from lab_support.notebook.figures.load.knees import PaceLine, knees
from lab_support.notebook.moves.verdicts import judge_of

EASY = PaceLine("12 ms a step", {1: 10_500, 2: 10_600}, {1: 10_667, 2: 10_667},
                [(0.1, 2_000), (0.55, 10_667), (4, 10_667)], (0.55, 10_667), "then the engine's pace")  # fmt: skip
FAST = PaceLine("2.5 ms a step", {2: 24_000, 4: 19_000}, {2: 25_000, 4: 20_000},
                [(0.1, 2_000), (1.5, 28_000), (4, 20_000)], (1.5, 28_000), "then the cores")  # fmt: skip


def cost(api_servers, rate, milliseconds, cores_left=2.0):
    us = {"loop": 50.0, "api": 52.0 if api_servers == 1 else 75.0, "engine": 15.0, "client": 5.0}
    return {"api_servers": api_servers, "tokens_per_second": rate, "us_per_token": us, "cores": 2,
            "cores_left": cores_left, "cores_used": 0.95 * cores_left, "rows": 128, "milliseconds": milliseconds,
            "limits": []}  # fmt: skip


def cell(*rows):
    return SimpleNamespace(events=[SimpleNamespace(fields=row) for row in rows])


COSTS = cell(cost(1, 18_000, 7), cost(4, 18_200, 7))
PACES = [cost(1, 10_500, 12), cost(2, 10_600, 12), cost(1, 19_000, 5), cost(2, 25_000, 5),
         cost(2, 24_600, 2.5), cost(4, 20_000, 2.5)]  # fmt: skip


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_each_pace_has_its_knee_its_limit_and_its_points():
    picture = knees([EASY, FAST], cores=2, finding="Within 5%", stand_in="stand-in for a GPU")
    (axes,) = picture.figure.axes
    assert axes.get_title(loc="left") == "Within 5%"
    assert "stand-in for a GPU" in axes.get_ylabel() and axes.get_xlabel() == "API servers (2 cores)"
    assert texts(axes)[:2] == ["knee 1.5", "knee 0.6"]
    assert texts(axes)[2:] == [" 12 ms a step, then the engine's pace", " 2.5 ms a step, then the cores"]
    marks = [tuple(line.get_xdata()) for line in axes.lines if line.get_marker() in "os"]
    assert marks.count((1, 2)) == 2 and marks.count((2, 4)) == 2
    assert "4 API servers 19,000 (predicted 20,000); knee at 1.5, then the cores." in picture.alt


def test_lines_differ_in_colour_and_marker_however_many_there_are():
    picture = knees([EASY, FAST, EASY, FAST], cores=2, finding="", stand_in="")
    looks = {(line.get_markeredgecolor(), line.get_marker()) for line in picture.figure.axes[0].lines}
    assert len([look for look in looks if look[1] in "os^"]) >= 3


def test_lines_that_end_at_the_same_height_have_names_one_above_the_other():
    (axes,) = knees([EASY, EASY, EASY], cores=2, finding="", stand_in="").figure.axes
    heights = [text.get_position()[1] for text in axes.texts if not text.get_text().startswith("knee")]
    assert heights == sorted(heights) and heights[0] == 10_667
    assert min(high - low for low, high in pairwise(heights)) > 0.05 * axes.get_ylim()[1]


def test_two_knees_that_are_close_have_their_labels_on_different_sides():
    curve = [(0.1, 2_000), (1.4, 26_000), (4, 26_000)]
    near = PaceLine("5 ms a step", {1: 20_000}, {1: 20_000}, curve, curve[1], "")
    (axes,) = knees([near, FAST], cores=2, finding="", stand_in="").figure.axes
    sides = {text.get_text(): text.get_ha() for text in axes.texts[:2]}
    assert sides == {"knee 1.5": "right", "knee 1.4": "left"}


def test_no_pace_is_an_error():
    with pytest.raises(ValueError, match="got no pace"):
        knees([], cores=2, finding="", stand_in="")


# ---- as the verdict draws it


def test_the_verdict_predicts_every_point_from_two_measurements():
    found = judge_of("08.4").find(COSTS, cell(*PACES))
    alt = found.shown().alt
    assert "predicted within 5%" in alt
    assert "12 ms a step: 1 API server 10,500 (predicted 10,667)" in alt
    assert "1 API server 19,000 (predicted 20,000), 2 API servers 25,000 (predicted 25,105)" in alt
    assert [claim.outcome for claim in found.claims] == [True, True]
    assert judge_of("08.4").letter(found.measured) == "a"


def test_other_programs_load_is_not_a_wrong_prediction():
    """They left three quarters of the cores, and three quarters of the tokens came where the cores are the limit."""
    busy = [row | {"cores_left": 1.5, "cores_used": 1.45, "tokens_per_second": min(row["tokens_per_second"], most)}
            for row, most in zip(PACES, (10_500, 10_600, 19_000, 18_800, 18_500, 15_000), strict=True)]  # fmt: skip
    claims = judge_of("08.4").find(COSTS, cell(*busy)).claims
    assert [claim.outcome for claim in claims] == [True, True]


def test_on_a_crowded_machine_nothing_is_said_of_the_prediction():
    crowded = [row | {"cores_left": 1.0, "cores_used": 0.95} for row in PACES]
    claims = judge_of("08.4").find(COSTS, cell(*crowded)).claims
    assert [claim.outcome for claim in claims] == [None, True]
    assert "other programs took 50% of the cores" in claims[0].untestable


@pytest.mark.parametrize("wrong", [1, 2])
@pytest.mark.parametrize("point", range(6))
def test_of_the_three_counts_of_two_points_one_may_be_off_and_two_may_not(point, wrong):
    turns = [list(PACES) for _ in range(3)]
    for turn in turns[:wrong]:
        for each in (point, point - 1):
            turn[each] = PACES[each] | {"tokens_per_second": 0.6 * PACES[each]["tokens_per_second"]}
    found = judge_of("08.4").find(COSTS, cell(*turns[0], *turns[1], *turns[2]))
    assert found.claims[0].outcome is (wrong == 1)
    assert found.shown().alt.count("predicted 10,667") == 2, "each point once"


@pytest.mark.parametrize("off", [1, 2])
def test_one_point_may_be_off_and_two_may_not(off):
    rows = [*(row | {"tokens_per_second": 0.7 * row["tokens_per_second"]} for row in PACES[:off]), *PACES[off:]]
    assert judge_of("08.4").find(COSTS, cell(*rows)).claims[0].outcome is (off == 1)


def test_costs_of_one_number_alone_are_refused():
    with pytest.raises(ValueError, match="expected 1 and more"):
        judge_of("08.4").find(cell(cost(1, 18_000, 7), cost(1, 18_000, 7)), cell(*PACES))

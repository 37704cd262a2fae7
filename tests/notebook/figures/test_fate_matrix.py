"""The matrix of fates: each cell has its words, live ones are told from recorded ones, the title is the finding."""

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from matplotlib.text import Text

from lab_support.instruments.record import recordings
from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.figures.fates import fate_matrix
from lab_support.notebook.figures.fates.cells import (
    ITSELF,
    LAUNCHER,
    MILLISECONDS,
    NEVER,
    NOBODY,
    SECONDS,
    TENTHS,
    FateCell,
    killed,
    stopped,
)

END, DEADLINE = "the process's end", "the liveness deadline"


def fate(role: str, state: str, ms: float | None = 4.0, means: str = END, **fields: Any) -> dict[str, Any]:
    """One fate of a process that is killed: the launcher notices after `ms`, and the server ends."""
    noticed = {} if ms is None else {"launcher": [means, ms]}
    told = {"signal": "SIGKILL", "clients": {"error event": 4}, "again": {}, "server": "ended", "replaced_ms": None}
    return {"role": role, "state": state, "noticed": noticed, **told, "lost_ms": [], "left": 0} | fields


def of(*fates: dict[str, Any]) -> Recording:
    samples = tuple({"what": "fate", "accept": "", "deadline": 0.0} | each for each in fates)
    return replace(recordings.load("fate_matrix"), samples=samples, date="2026-11-30T18:00:00+00:00")


def cell(*fates: dict[str, Any]) -> FateCell:
    return FateCell(tuple(fates), live=True, origin="measured here")


SURVIVED = fate("api-0", "idle", 9.0, clients={"done": 4}, server="goes on", replaced_ms=431.0)
FOUND = of(
    *(fate("engine-0", "idle", ms, clients={"refused": 4}) for ms in (4.0, 9.0, 6.0)),
    SURVIVED,
    fate("launcher", "idle", noticed={"api-0": ["parent-death signal", 21.0], "engine-0": ["EOF on the pipe", 30.0]}),
)


# ---- a cell's words --------------------------------------------------------------------------------------------------


def test_who_noticed_is_told_from_the_names_and_when_by_the_last_of_them():
    [by_children] = [each for place, each in killed([], FOUND).items() if place == ("launcher", "idle")]
    assert (by_children.who, by_children.ms) == (ITSELF, [30.0])
    assert by_children.means == ["parent-death signal", "EOF on the pipe"]
    assert cell(SURVIVED).who == LAUNCHER and cell(fate("engine-0", "idle", None)).who == NOBODY


@pytest.mark.parametrize(("ms", "when"), [(None, NEVER), (99.0, MILLISECONDS), (100.0, TENTHS), (1000.0, SECONDS)])
def test_the_time_has_an_order_of_magnitude(ms, when):
    assert cell(fate("engine-0", "idle", ms)).when == when


def test_repeats_have_a_median_a_range_and_their_number():
    assert cell(*(fate("engine-0", "idle", ms) for ms in (4.0, 9.0, 6.0))).when_in_words == (
        "after 6.0 ms, 4.0 to 9.0 (n = 3)"
    )
    some = cell(fate("engine-0", "idle", 1500.0), fate("engine-0", "idle", None))
    assert some.when_in_words == "after 1.5 s (1 of n = 2)"


def test_clients_are_counted_and_a_range_stands_where_repeats_differ():
    one, other = {"cut off": 2, "done": 2}, {"cut off": 1, "done": 3}
    assert cell(fate("api-0", "streaming", clients=one)).clients == "2 of 4 clients cut off, 2 answered"
    both = cell(fate("api-0", "streaming", clients=one), fate("api-0", "streaming", clients=other))
    assert both.clients == "1–2 of 4 clients cut off, 2–3 answered"
    assert cell(fate("api-0", "starting", clients={"cut off": 1})).clients == "1 of 1 client cut off"


def test_a_server_goes_on_only_if_it_does_so_in_every_repeat():
    assert cell(SURVIVED, SURVIVED).server == "goes on"
    assert cell(SURVIVED, fate("api-0", "idle")).server == "ended"


# ---- live and recorded -----------------------------------------------------------------------------------------------


def test_what_was_measured_here_stands_in_the_place_of_what_was_recorded():
    cells = killed([fate("engine-0", "idle", 5.0)], FOUND)
    assert {place for place, each in cells.items() if each.live} == {("engine-0", "idle")}
    assert len(cells["engine-0", "idle"].fates) == 1
    assert cells["api-0", "idle"].origin == "recorded on 2026-11-30"


def test_a_cell_s_result_is_read_by_its_events():
    program = f"from lab_support.notebook.script import emit\nemit({SURVIVED!r})\nemit(other=1)"
    cells = killed(run_process(program, quiet=True), FOUND)
    assert cells["api-0", "idle"].live and not cells["engine-0", "idle"].live


def test_stops_are_told_apart_by_their_deadline_and_ways_of_accepting_are_left_out():
    stop = {"signal": "SIGSTOP", "clients": {"still waiting": 2, "done": 2}, "server": "goes on"}
    run = of(
        fate("engine-0", "streaming", None, **stop),
        fate("engine-0", "streaming", 2400.0, DEADLINE, deadline=2.0, signal="SIGSTOP"),
        fate("api-0", "idle", None, accept="handoff", **stop),
    )
    cells = stopped([], run)
    assert {place: each.when for place, each in cells.items()} == {("engine-0", 0.0): NEVER, ("engine-0", 2.0): SECONDS}
    here = stopped([fate("engine-0", "streaming", None, **stop)], run)
    assert here["engine-0", 0.0].live and not here["engine-0", 2.0].live
    picture = fate_matrix.draw_stopped([], run)
    assert picture.alt.startswith(
        "A matrix. Without a deadline, 1 of 1 stops are noticed by nobody; one of 2 s finds 1 of 1, and for 1 of"
    )


# ---- the picture -----------------------------------------------------------------------------------------------------


def texts(picture: Any) -> list[Text]:
    [axes] = picture.figure.axes
    entries = [text for legend in picture.figure.legends for text in legend.get_texts()]
    return [text for text in [*axes.texts, *entries, *picture.figure.texts] if text.get_text()]


def test_the_title_is_the_finding_and_the_words_have_every_cell():
    picture = fate_matrix.draw([], FOUND)
    finding = (
        "All 3 deaths are noticed, each after at most 30 ms (median); the server goes on only without api-0 (idle)"
    )
    assert texts(picture)[0].get_text() == finding
    assert picture.alt.startswith(f"A matrix. {finding}.")
    assert (
        "api-0 killed while idle: noticed by the launcher, by the process's end, after 9.0 ms (n = 1); "
        "4 of 4 clients answered; server goes on; a new one is ready after 431 ms; recorded on 2026-11-30."
    ) in picture.alt
    assert "the stand-in for a GPU" in picture.alt and "no GPU, 2026-11-30" in picture.figure.texts[0].get_text()
    unnoticed = fate_matrix.draw([], of(fate("engine-0", "idle", None), SURVIVED))
    assert texts(unnoticed)[0].get_text().startswith("1 of 2 deaths are noticed")


def test_live_cells_have_a_frame_of_their_own_and_say_so():
    def frames(live: list[dict[str, Any]]) -> list[str]:
        [axes] = fate_matrix.draw(live, FOUND).figure.axes
        return [patch.get_linestyle() for patch in axes.patches if patch.get_linewidth() in (2.2, 0.9)]

    assert sorted(frames([SURVIVED])) == ["-", "--", "--"] and frames([]) == ["--"] * 3
    words = [text.get_text() for text in texts(fate_matrix.draw([SURVIVED], FOUND))]
    assert words.count("recorded on 2026-11-30") == 2 and words.count("measured here") == 2, "a cell, and the legend"


@pytest.mark.parametrize("draw", [fate_matrix.draw, fate_matrix.draw_stopped])
def test_no_words_of_the_recording_overlap_or_are_small(draw):
    picture = draw([], recordings.load("fate_matrix"))
    picture.figure.draw_without_rendering()
    boxes = {text: text.get_window_extent() for text in texts(picture)}
    assert min(text.get_fontsize() for text in boxes) >= 9
    overlapping = [
        (one.get_text(), other.get_text()) for one, other in combinations(boxes, 2) if boxes[one].overlaps(boxes[other])
    ]
    assert not overlapping
    assert all(box.x1 <= picture.figure.bbox.x1 for box in boxes.values())

"""The figures of a child's start: its spans, its imports, and its costs, from real cells and from samples."""

import pytest

import lab_support.notebook as lab
from lab_support.instruments.record import recordings
from lab_support.notebook.figures.start_costs import Costs

_CELL = """
import multiprocessing, os
from lab_support.notebook.script import emit
emit(done="the top")

def work():
    emit(done="the way to work")

if __name__ == "__main__":
    os.environ["PYTHONPROFILEIMPORTTIME"] = "1"
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
    emit(done="the wait")
"""


@pytest.fixture(scope="module")
def run():
    return lab.run_process(_CELL, quiet=True)


# ---- spans -----------------------------------------------------------------------------------------------------------


def test_a_span_lasts_from_the_one_before_it_in_its_own_process(run):
    spans, (child,) = lab.spans_of(run), [each.name for each in run.spawned]
    told = {process: [span.done for span in spans if span.process == process] for process in ("P0", child)}
    assert told == {"P0": ["the top", "the wait"], child: ["the top", "the way to work"]}
    mine = [span for span in spans if span.process == child]
    assert mine[0].began == run.process(child).made and mine[1].began == mine[0].ended
    assert all(span.ms > 0 for span in spans)


def test_the_figure_names_the_longest_span_of_the_process_that_was_started(run):
    picture = lab.spans(run)
    assert picture.alt.startswith(f"Spans. {run.spawned[0].name} spends ")
    assert "% of its time on “the top” (" in picture.alt
    assert picture.png()


def test_a_cell_that_tells_of_nothing_has_no_spans():
    with pytest.raises(LookupError, match=r"got no event with `done`, expected some: emit\(done="):
        lab.spans(lab.run_process("pass", quiet=True))


# ---- imports ---------------------------------------------------------------------------------------------------------


def test_the_imports_of_a_child_are_drawn_by_whose_they_are(run):
    picture = lab.imports(run, run.spawned[0].name)
    assert " imports took " in picture.alt and "multiprocessing.spawn" in picture.alt
    assert picture.png()


def test_without_importtime_there_is_nothing_to_draw(run):
    with pytest.raises(LookupError, match="got no line `import time"):
        lab.imports(run, "P0")


def test_the_magic_can_be_told_to_show_nothing(run, capsys):
    from lab_support.notebook.cells.magic import _parser

    assert vars(_parser().parse_args(["--quiet"]))["quiet"] is True
    assert "import time:" in run.output and "import time:" not in capsys.readouterr().out


# ---- costs -----------------------------------------------------------------------------------------------------------


def sample(method: str, count: int, ms: float, mb: float, **more) -> dict:
    sizes = [mb * 1e6] * count
    fields = {"method": method, "count": count, "module": "", "ms": ms, "ms_to_code": ms, "ms_in_start": 1.0}
    return fields | {"rss": sizes, "pss": sizes, "uss": sizes, "first": False} | more


COSTS = Costs(
    (
        sample("fork", 1, 9.0, 2.0, first=True),
        sample("fork", 4, 3.0, 2.0),
        sample("fork", 4, 4.0, 2.0),
        sample("fork", 4, 50.0, 2.0),
        sample("spawn", 4, 80.0, 8.0),
    )
)


def test_costs_are_medians_and_the_first_start_is_apart():
    assert (COSTS.ms("fork", 4), COSTS.once_ms("fork"), COSTS.mb("spawn", 4)) == (4.0, 9.0, 8.0)
    assert COSTS.methods == ["spawn", "fork"] and COSTS.counts("fork") == [4]
    with pytest.raises(LookupError, match=r"got nothing measured for 8 × fork, expected one of: spawn × \[4\], fork"):
        COSTS.ms("fork", 8)


def test_the_figure_says_how_many_times_as_long_and_has_memory_on_a_linear_axis():
    picture = COSTS.figure()
    assert "4 by spawn take 20 times as long as by fork" in picture.alt
    assert "A child by spawn has 8 MB of its own, by fork 2" in picture.alt
    time, memory = picture.figure.axes
    assert (time.get_yscale(), memory.get_yscale()) == ("log", "linear")
    assert memory.get_ylim()[0] == 0
    assert picture.png()


@pytest.mark.parametrize("module", ["", "torch"])
def test_there_is_room_between_the_left_chart_and_the_label_of_the_right_one(module):
    figure = lab.start_costs(recordings.load("start_methods"), module).figure().figure
    figure.draw_without_rendering()
    left, right = figure.axes
    room = right.yaxis.label.get_window_extent().x0 - left.get_tightbbox().x1
    assert room > 0.3 * figure.dpi, "a third of an inch"


def test_a_kernel_that_does_not_tell_memory_still_gets_the_times():
    without = [{**each, "uss": [], "pss": [], "rss": []} for each in COSTS.samples]
    costs = Costs(tuple(without))
    assert "smaps_rollup" in costs.no_memory and not COSTS.no_memory
    assert costs.mb("fork", 4) != costs.mb("fork", 4), "not a number"
    picture = costs.figure()
    assert "20 times" in picture.alt and "This kernel does not report private memory" in picture.alt
    assert picture.png()


def test_the_recording_in_the_box_has_every_method_bare_and_with_torch():
    recording = recordings.load("start_methods")
    for module, counts in (("", [1, 2, 4, 8]), ("torch", [1, 2, 4])):
        costs = lab.start_costs(recording, module)
        assert len(costs.methods) == 4
        for method in costs.methods:
            assert costs.counts(method) == counts
            assert all(len(costs.all_ms(method, count)) >= 3 for count in counts), "repeats that show a spread"
            assert costs.once_ms(method) > 0


def test_samples_of_another_module_are_not_taken():
    with pytest.raises(LookupError, match="got no samples of children with module 'numpy'"):
        lab.start_costs(recordings.load("start_methods"), "numpy")

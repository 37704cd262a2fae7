"""A notebook's view of an experiment: a recording with its machine and date, or what is missing."""

import inspect
import re
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

import lab_support.notebook as lab
from lab_support import doctor
from lab_support.instruments.record import recorder, recordings
from lab_support.notebook.canvas.plots import Picture
from lab_support.notebook.moves.verdicts import judge_of
from lab_support.notebook.page.tables import Table
from lab_support.notebook.recordings import cuda_after_fork, cuda_findings, cuda_sharing
from lab_support.notebook.recordings.memory_over_time import kept_on_the_gpu
from lab_support.notebook.recordings.recorded import Recorded, titles
from lab_support.notebook.stages.pretend_driver import Driver

WITHOUT_GPU = pytest.mark.skipif(doctor.examine().gpus > 0, reason="there is a GPU here: the experiment would run")


def test_a_recording_is_shown_with_its_machine_and_date():
    shown = lab.recorded("start_methods", lambda run: Table(("samples",), ((str(len(run.samples)),),)))
    assert not shown.live
    assert repr(shown).startswith("start_methods, RECORDED on ")
    assert recordings.load("start_methods").label.removeprefix("recorded on ") in shown.title
    assert shown.run.name == "start_methods"


@WITHOUT_GPU
@pytest.mark.parametrize("name", [each.name for each in recorder.EXPERIMENTS])
def test_without_a_recording_it_says_what_is_missing(name, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "FOLDER", tmp_path)
    shown = lab.recorded(name, lambda run: pytest.fail("there is nothing to draw"))
    missing = f"{name} needs a GPU, and there is no recording of it (on a GPU machine: lab record --only {name})"
    assert repr(shown) == f"NOT SHOWN: {missing}."
    assert shown.run is None
    assert shown.tested(lambda run: pytest.fail("nothing to test")) == {"untestable": missing}
    assert shown.found(lambda run: pytest.fail("nothing to find")) == ""
    assert shown.filled_in("99.1", pytest.fail, pytest.fail) is shown
    assert repr(shown.with_note("a note").shown_as(pytest.fail)) == repr(shown)
    assert titles(shown, shown) == f"{name}, {name}: NOT SHOWN: {missing}."


def numbers(run: recordings.Recording) -> Table:
    return Table(("samples",), tuple((str(sample["number"]),) for sample in run.samples))


def run_with(*numbers: int, gpu: str = "NVIDIA H200", **fields: object) -> recordings.Recording:
    """A recording with these samples, on this GPU."""
    real = recordings.load("fork_before_cuda")
    samples = tuple({"what": "count", "number": number} for number in numbers)
    return replace(real, samples=samples, machine=replace(real.machine, gpu=gpu), **fields)


def live(run: recordings.Recording, recording: recordings.Recording | None, draw=numbers) -> Recorded:
    return Recorded("fork_before_cuda", run, True, "", draw, recording)


def test_a_live_run_stands_beside_the_recording():
    shown = repr(live(run_with(1, gpu="NVIDIA A100"), run_with(2)))
    here, there = shown.split("Beside it, ")
    assert here.startswith("fork_before_cuda, MEASURED HERE, just now, on NVIDIA A100")
    assert there.startswith("fork_before_cuda, RECORDED on NVIDIA H200")
    assert here.strip().endswith("1")
    assert there.strip().endswith("2")


def test_a_live_picture_says_what_the_recording_says():
    def draw(run: recordings.Recording) -> Picture:
        return Picture(Figure(), f"{len(run.samples)} seen.")

    assert "The recording says: 2 seen. (fork_before_cuda, RECORDED on NVIDIA H200" in repr(
        live(run_with(1), run_with(1, 2), draw)
    )
    data, _ = live(run_with(1), run_with(1), draw)._repr_mimebundle_()
    assert "The recording says the same (" in data["text/plain"]
    assert "text/html" not in data, "a front end would show that, and not the picture"


def test_a_claim_is_tested_on_what_was_seen_and_says_where():
    def one(run: recordings.Recording) -> bool:
        return run.samples[0]["number"] == 1

    recorded_alone = replace(live(run_with(1), None), live=False)
    assert recorded_alone.tested(one) == {"condition": True, "got": "recorded on NVIDIA H200, 2026-11-26"}
    differs = live(run_with(2, gpu="NVIDIA A100"), run_with(1)).tested(one)
    assert differs == {"condition": False, "got": "measured here, on NVIDIA A100; unlike the recording"}
    assert live(run_with(1), run_with(1)).tested(one)["got"].endswith("; the recording says the same")


def test_an_older_recording_that_lacks_the_samples_does_not_stop_a_live_run():
    def draw(run: recordings.Recording) -> Table:
        return Table(("second",), ((str(run.samples[1]["number"]),),))

    def second(run: recordings.Recording) -> bool:
        return run.samples[1]["number"] == 2

    shown = live(run_with(1, 2), run_with(1), draw)
    assert repr(shown).endswith("It lacks what this figure needs.'")
    assert shown.tested(second) == {"condition": True, "got": "measured here, on NVIDIA H200"}


def test_a_run_that_ended_early_can_not_be_tested_and_a_whole_one_must_have_its_samples():
    def third(run: recordings.Recording) -> bool:
        return cuda_findings.some(run.of("third"), run)

    early = live(run_with(1, exit_code=1), None)
    assert early.tested(third) == {"untestable": "the run of fork_before_cuda ended before it saw this"}
    assert early.found(third) == ""
    with pytest.raises(LookupError, match="without these samples"):
        live(run_with(1), None).tested(third)


def test_a_table_is_filled_in_beside_what_was_seen():
    lab.predict("99.1", "which", options={"a": "one", "b": "two"}, rows=["first", "second"])
    lab.skip("99.1")

    def options(run: recordings.Recording) -> dict[str, str]:
        return {row: "ab"[sample["number"] - 1] for row, sample in zip(("first", "second"), run.samples, strict=True)}

    shown = repr(live(run_with(1, 2), run_with(1, 1)).filled_in("99.1", options, options))
    assert [line.split() for line in shown.splitlines()[1:4]] == [
        ["what", "measured", "seen"], ["first", "one", "a"], ["second", "two", "b"]
    ]  # fmt: skip
    assert "The recording differs in these rows: second (fork_before_cuda, RECORDED on" in shown
    same = repr(live(run_with(1, 2), run_with(1, 2)).filled_in("99.1", options, options))
    assert "The recording says the same in every row (" in same


def test_an_experiment_that_there_is_not_is_refused():
    with pytest.raises(LookupError, match="got experiment 'no_such', expected one of fork_after_cuda"):
        lab.recorded("no_such", str)


class Run:
    """The part of a recording that a table reads."""

    name = "driver_after_fork"

    def __init__(self, *samples: dict) -> None:
        self.samples = samples

    def of(self, what: str, **fields: object) -> list[dict]:
        return [one for one in self.samples if one["what"] == what and fields.items() <= one.items()]


def answers(*pairs: tuple[str, int, str]) -> list[dict]:
    return [{"call": call, "code": code, "name": name, "value": None} for call, code, name in pairs]


def in_a_row(case: str, value: list[dict], outcome: str = "returned") -> dict:
    return {"what": "forked child in a row", "case": case, "outcome": outcome, "value": value}


def test_codes_stand_by_call_and_by_how_far_the_parent_had_gone():
    run = Run(
        in_a_row("cuInit", answers(("cuInit", 3, "CUDA_ERROR_NOT_INITIALIZED"))),
        in_a_row("nothing", answers(("cuInit", 0, "CUDA_SUCCESS"), ("cuMemAlloc_v2", 0, "CUDA_SUCCESS"))),
        in_a_row("context", [], outcome="hung"),
        *(
            in_a_row(f"runtime, {done}", answers(("cudaMalloc", 0, "cudaSuccess")))
            for done in ("cudaMalloc", "its version", "loaded")
        ),
    )
    assert str(cuda_after_fork.codes(run)).splitlines() == [
        "one child calls, in this order  parent: nothing  parent: cuInit     parent: context",
        "cuInit                          0 SUCCESS        3 NOT_INITIALIZED  –",
        "cuMemAlloc                      0 SUCCESS        –                  –",
        "all                             –                –                  hung",
    ]
    assert re.split(r" {2,}", str(cuda_after_fork.runtime_codes(run)).splitlines()[0])[1:] == [
        "parent: library loaded", "parent: library loaded, version asked", "parent: cudaMalloc"
    ]  # fmt: skip
    with pytest.raises(LookupError, match="without these samples"):
        cuda_after_fork.codes(Run())


TABLES = {
    "what_trips_the_guard": [cuda_after_fork.touched],
    "driver_after_fork": [cuda_after_fork.codes, cuda_after_fork.runtime_codes],
    "guard_bypassed": [cuda_after_fork.without_guard],
    "idle_forked_child": [cuda_after_fork.inherited, kept_on_the_gpu],
    "memory_after_kill": [cuda_after_fork.freed],
    "fork_after_cuda": [cuda_after_fork.started],
    "fork_before_cuda": [cuda_after_fork.forked_first],
    "cuda_ipc": [cuda_sharing.receivers, cuda_sharing.handle_in_words, cuda_sharing.handle_in_few],
    "memory_as_descriptor": [cuda_sharing.holds, cuda_sharing.export_in_few],
    "context_cost": [cuda_sharing.contexts],
}


@pytest.mark.parametrize("name", TABLES)
def test_a_run_that_ended_before_its_first_sample_has_no_table(name):
    empty = replace(recordings.load(name), samples=(), exit_code=1)
    for draw in TABLES[name]:
        with pytest.raises(LookupError):
            draw(empty)
        assert "It ended before it saw what this figure needs." in repr(Recorded(name, empty, False, "", draw))


def test_memory_that_goes_at_once_and_memory_that_stays_are_told_apart():
    real = recordings.load("idle_forked_child")

    def watched(what: str, used: int) -> recordings.Recording:
        samples = [each if each["what"] != what else {**each, "watched": [{"ms": 1.0, "used": used}]}
                   for each in real.samples]  # fmt: skip
        return replace(real, samples=tuple(samples))

    assert cuda_findings.end_of_memory(watched("parent killed", 0)) == "b"
    assert cuda_findings.end_of_memory(watched("parent killed", 1_200_000_000)) == "c"
    assert cuda_findings.end_of_memory(watched("child gone as well", 0)) == "a"
    assert cuda_findings.end_of_memory(watched("child gone as well", 1 << 40)) == "d"
    assert kept_on_the_gpu(watched("parent killed", 0)).alt.startswith(
        "The memory of a killed process was free at once"
    )


def test_the_layers_carry_what_came_of_each():
    assert lab.layers().alt.startswith("Three layers: what does a fork give the child of each?")
    assert "a handler sets it" not in lab.layers().alt
    assert (
        "A forked child's outcome at each layer. the libraries below it: a hang."
        in lab.layers({"the libraries below it": "a\nhang"}).alt
    )
    with pytest.raises(ValueError, match="layers: got CUDA, expected some of PyTorch"):
        lab.layers({"CUDA": "a crash"})


def test_the_pretend_driver_stores_forgets_and_refuses():
    driver = Driver()
    handles = [driver.store(value) for value in (7, 8)]
    assert [driver.load(handle) for handle in handles] == [7, 8]
    driver.forget()
    assert driver.load(driver.store(9)) == 9
    driver.refuse()
    with pytest.raises(RuntimeError, match="was started before the fork"):
        driver.load(0)


# ---- verdicts of the notebooks about recordings ----------------------------------------------------------------------

MISSING = Recorded("idle_forked_child", None, False, "there is no GPU, and no recording", str)
OF_RECORDINGS = (
    *("05.2", "05.5", "05.ways", "05.layers"),
    *("05a.2", "05a.3", "05a.costs", "05a.calls", "05a.unguarded", "05a.server", "05a.killed"),
)


@pytest.mark.parametrize("number", OF_RECORDINGS)
def test_a_verdict_without_its_recording_says_so_and_claims_nothing(number):
    judge = judge_of(number)
    count = len(inspect.signature(judge.find).parameters)
    found = judge.find(*[MISSING] * count)
    claims = [*judge.row_claims(found.rows, found.untestable), *found.claims]
    assert {claim.outcome for claim in claims} <= {None}
    assert not judge.letter or judge.letter(found.measured) == ""


def test_a_picture_of_a_recording_names_its_source_in_its_title():
    assert lab.layers({"PyTorch": "an error"}, "recorded there").alt.startswith(
        "A forked child's outcome at each layer, recorded there."
    )
    assert "(B and C recorded there)." in lab.memory_roads({}, "B and C recorded there").alt


def test_a_bare_context_has_a_row_of_its_own_beside_a_first_operation():
    rows = cuda_sharing.contexts(recordings.load("context_cost")).rows
    assert [row[0] for row in rows][-2:] == ["4, with PyTorch's first operation", "1, a bare context"]
    assert float(rows[-1][1]) < float(rows[0][1]) and float(rows[-1][4]) < 1 < float(rows[0][4])

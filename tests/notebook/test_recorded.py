"""What a notebook shows of an experiment: a recording, by its machine and date, or what is missing."""

import pytest

import lab_support.notebook as lab
from lab_support import doctor
from lab_support.instruments import recordings
from lab_support.notebook import cuda_after_fork
from lab_support.notebook.pretend_driver import Driver
from lab_support.notebook.tables import Table

WITHOUT_GPU = pytest.mark.skipif(doctor.examine().gpus > 0, reason="there is a GPU here: the experiment would run")


def test_a_recording_is_shown_with_its_machine_and_date():
    shown = lab.recorded("start_methods", lambda run: Table(("samples",), ((str(len(run.samples)),),)))
    assert not shown.live
    assert repr(shown).startswith("start_methods, RECORDED on ")
    assert recordings.load("start_methods").label.removeprefix("recorded on ") in shown.title
    assert shown.run.name == "start_methods"


@WITHOUT_GPU
def test_without_a_recording_it_says_what_is_missing():
    shown = lab.recorded("cuda_ipc", lambda run: pytest.fail("there is nothing to draw"))
    assert repr(shown) == (
        "NOT SHOWN: cuda_ipc needs a GPU, and there is no recording of it yet (on a GPU machine: "
        "lab record --only cuda_ipc)."
    )
    assert shown.run is None


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


def sample(**fields: object) -> dict:
    return {"what": "forked child", "outcome": "returned", "value": None, "error": "", "text": "", **fields}


def test_codes_stand_by_call_and_by_how_far_the_parent_had_gone():
    run = Run(
        sample(case="nothing", call="cuInit", value={"code": 0, "name": "CUDA_SUCCESS"}),
        sample(case="cuInit", call="cuInit", value={"code": 3, "name": "CUDA_ERROR_NOT_INITIALIZED"}),
        sample(case="cuInit", call="cuMemAlloc", outcome="hung"),
    )
    assert str(cuda_after_fork.codes(run)).splitlines() == [
        "call in the child  parent: nothing  parent: cuInit",
        "cuInit             0 CUDA_SUCCESS   3 CUDA_ERROR_NOT_INITIALIZED",
        "cuMemAlloc         –                hung",
    ]
    with pytest.raises(LookupError, match="without the samples of this table"):
        cuda_after_fork.codes(Run())


def test_the_layers_carry_what_came_of_each():
    assert lab.layers().alt.startswith("Three layers, and a fork treats each of them differently.")
    assert (
        "What a forked child met. the libraries below it: a hang"
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

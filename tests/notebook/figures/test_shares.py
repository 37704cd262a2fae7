"""The figure of wake-ups and connections served: findings in words, the prediction drawn over the measurement."""

import pytest

import lab_support.notebook as lab
from tests.notebook.kernels import running_kernel

OPTIONS = {"a": "about 1: one wakes", "b": "about 2: one more notices", "c": "about 3: all wake", "d": "0: nobody"}
CELL = """%%python_process --name waiting --timeout 20 --into run
import select
from lab_support.notebook.script import listeners, emit

def wait(listening_socket, take):
    poll = select.epoll()
    poll.register(listening_socket, select.EPOLLIN)
    while True:
        poll.poll()
        take(listening_socket)

emit(listeners(3, wait, connections=60))"""


pytestmark = pytest.mark.usefixtures("empty_record")


@pytest.mark.parametrize(
    ("runs", "finding"),
    [
        ({"api-0": 38, "api-1": 2}, "api-0 took 38 of 40 answers"),
        ({"api-0": 21, "api-1": 19}, "The answers were shared evenly: 48% to 52%"),
        ([{"api-0": 40}, {"api-0": 3, "api-1": 37}], "api-0 had between 3 and 40 of 40, in 2 rounds"),
        ([{"api-0": 20, "api-1": 20}] * 3, "api-0 had 20 of 40 in each of 3 rounds"),
    ],
)
def test_counts_are_drawn_with_their_finding(runs, finding):
    assert lab.shares(runs, what="answers").alt.startswith(finding + ".")


def test_nothing_measured_is_refused():
    with pytest.raises(LookupError, match="got no runs, expected at least one"):
        lab.shares([])


@pytest.mark.parametrize(
    ("labels", "answer", "off"),
    [(["P2", "P1"], [1, 3], "0%"), (["most", "least"], [3, 1], "0%"), (["most", "least"], [1, 1], "25%")],
)
def test_a_sketch_is_compared_by_name_or_by_size(labels, answer, off):
    lab.predict("04.3", "shares", sketch=labels, answer=answer)
    drawn = lab.shares({"P1": 30, "P2": 10}, prediction="04.3").drawn()
    assert f" {off} of the whole is in other bars" in drawn.alt


def test_a_sketch_of_other_bars_is_refused():
    lab.predict("04.3", "shares", sketch=["P1", "P2", "P3"], answer=[1, 1, 1])
    with pytest.raises(lab.PredictionError, match=r"got 2 processes .P1, P2., expected 3: P1, P2, P3"):
        lab.shares({"P1": 30, "P2": 10}, prediction="04.3")


def test_the_readers_own_run_decides_which_option_it_supports():
    with running_kernel() as kernel:
        kernel.run(
            f"import lab_support.notebook as lab; lab.predict('04.1', 'wake-ups', options={OPTIONS!r}, answer='b')"
        )
        _, error = kernel.run(CELL)
        assert not error, error
        found = float(kernel.run("run.wakeups_per_connection")[0])
        nearest = min("abcd", key=lambda letter: abs({"a": 1, "b": 2, "c": 3, "d": 0}[letter] - found))
        alt, error = kernel.run("print(lab.shares([run, run], prediction='04.1').drawn().alt)")
        assert not error, error
        assert "P1" in alt and "P3" in alt and "Your prediction: b" in alt
        verdict = "✔ The measurement supports it" if nearest == "b" else f"The measurement supports {nearest}"
        assert verdict in alt

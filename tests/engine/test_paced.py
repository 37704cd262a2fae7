"""The parts of the stand-in for a GPU: its clock and its tokens. The whole of it is in tests/server/test_paced.py."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.engine.paced.step_clock import MOST_BEHIND, StepClock
from lab_support.engine.paced.tokens import SeededTokens
from lab_support.engine.request import Request, Sequence
from lab_support.generation import SamplingParams
from lab_support.model_folder.token_ids import TokenIds
from lab_support.pace.pace import PaceCounts


def busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def clock_from_now() -> tuple[StepClock, PaceCounts, float]:
    begun, counts = time.monotonic(), PaceCounts()
    return StepClock(counts, lambda: begun), counts, begun


# ---- the clock ------------------------------------------------------------------------------------------------------


def test_python_between_two_steps_is_a_part_of_the_step() -> None:
    """With waits that begin when Python has ended, 200 steps of 2 ms would take 600 ms and more."""
    clock, counts, begun = clock_from_now()
    for _ in range(200):
        busy(0.001)
        clock.end_step(0.002)
    took = time.monotonic() - begun - counts.late_seconds
    assert took + 1e-6 >= 0.4
    assert took < 0.5


def test_no_step_ends_before_it_is_due() -> None:
    clock, counts, begun = clock_from_now()
    for count in range(1, 50):
        clock.end_step(0.001)
        assert time.monotonic() >= begun + count * 0.001 + counts.late_seconds - 1e-6


def test_where_python_takes_longer_than_a_step_it_is_late_and_nothing_is_made_up_for() -> None:
    clock, counts, begun = clock_from_now()
    for _ in range(20):
        busy(0.003)
        last = time.monotonic()
        clock.end_step(0.001)
    assert counts.late_steps == 20
    assert counts.late_seconds == pytest.approx(time.monotonic() - begun - 20 * 0.001, rel=0.05)
    before = counts.late_seconds
    clock.end_step(0.02)
    assert time.monotonic() - last > 0.015 or counts.late_seconds > before


def test_a_pause_without_work_is_not_late() -> None:
    woke = [time.monotonic()]
    counts = PaceCounts()
    clock = StepClock(counts, lambda: woke[-1])
    clock.end_step(0.001)
    busy(0.03)
    woke.append(time.monotonic())
    clock.end_step(0.02)
    assert time.monotonic() >= woke[-1] + 0.02
    assert counts.late_steps == 0


STEPS_IN_A_PROCESS = """
import time
from lab_support.engine.paced.step_clock import StepClock
from lab_support.pace.pace import PaceCounts
begun, counts = time.monotonic(), PaceCounts()
clock = StepClock(counts, lambda: begun)
for number in range(100):
    clock.end_step(0.01)
    print(number, flush=True)
print(time.monotonic() - begun - counts.late_seconds, counts.late_seconds)
"""


def test_after_a_long_stall_there_is_no_burst() -> None:
    """The process is stopped for much longer than a step; the time is lost, and counted."""
    command = [sys.executable, "-c", STEPS_IN_A_PROCESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stalled:
        assert stalled.stdout and stalled.stdout.readline() == "0\n"
        stalled.send_signal(signal.SIGSTOP)
        busy(5 * MOST_BEHIND)
        stalled.send_signal(signal.SIGCONT)
        in_time, late = map(float, stalled.stdout.read().splitlines()[-1].split())
    assert late > 3 * MOST_BEHIND
    assert in_time + 1e-6 >= 1.0
    assert in_time < 1.0 + 2 * MOST_BEHIND


def test_an_interrupt_ends_the_wait() -> None:
    clock, _, begun = clock_from_now()
    timer = threading.Timer(0.05, clock.interrupt)
    timer.start()
    clock.end_step(60)
    timer.join()
    assert time.monotonic() - begun < 30


# ---- the tokens -----------------------------------------------------------------------------------------------------


def sequence(prompt: list[int] | None = None, **sampling) -> Sequence:
    return Sequence(Request("a", prompt or [5, 6, 7], SamplingParams(**({"temperature": 0.0} | sampling))))


def draw(
    made: Sequence, count: int, ids: list[int], every: Callable[[Sequence], None] = lambda made: None
) -> list[int]:
    tokens = SeededTokens(ids)
    for _ in range(count):
        every(made)
        made.token_ids.append(tokens.next(made))
    return made.token_ids[made.num_prompt :]


IDS = list(range(100, 400))


def test_the_same_request_gets_the_same_tokens() -> None:
    assert draw(sequence(), 50, IDS) == draw(sequence(), 50, IDS)
    assert draw(sequence(temperature=1.0, seed=3), 50, IDS) == draw(sequence(temperature=0.5, seed=3), 50, IDS)


def test_other_requests_get_others() -> None:
    answers = [
        draw(sequence(), 50, IDS),
        draw(sequence([5, 6, 8]), 50, IDS),
        draw(sequence(temperature=1.0), 50, IDS),
        draw(sequence(temperature=1.0), 50, IDS),
        draw(sequence(temperature=1.0, seed=3), 50, IDS),
        draw(sequence(temperature=1.0, seed=4), 50, IDS),
    ]
    assert len(set(map(tuple, answers))) == len(answers)


def test_a_preempted_sequence_goes_on_with_the_same_tokens() -> None:
    def forget(made: Sequence) -> None:
        made.num_computed, made.block_table = 0, []

    assert draw(sequence(), 50, IDS, every=forget) == draw(sequence(), 50, IDS)


def test_before_min_tokens_no_stop_token_comes() -> None:
    stops = tuple(IDS[::2][:16])
    few = [*stops, 777]
    answer = draw(sequence(stop_token_ids=stops, min_tokens=40), 60, few)
    assert set(answer[:40]) == {777}
    assert set(answer[40:]) > {777}


def test_tokens_are_plain_text_of_the_folder_and_never_an_end_token() -> None:
    ids = TokenIds(MODEL_IN_THE_BOX).plain(2048, {0, 300})
    assert len(ids) > 1500 and not {0, 1, 2, 3, 300} & set(ids) and max(ids) < 2048


def test_a_folder_without_plain_tokens_gives_all_but_the_end_tokens(tmp_path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    assert TokenIds(tmp_path).plain(5, {2}) == [0, 1, 3, 4]
    assert TokenIds(tmp_path).plain(1, {0}) == [0]

"""--batching static: sequences join together, and nobody after them before all have ended."""

from lab_support.engine.scheduler import Scheduler
from tests.engine.test_scheduler import FakeRunner, expected_tokens, make, request, run_to_the_end, step_once


def running_by_step(scheduler: Scheduler, runner: FakeRunner) -> list[set]:
    """The ids in each step, to the end."""
    seen = []
    while scheduler.has_work():
        step = scheduler.schedule()
        seen.append({each.request_id for each in [*step.decodes, *(chunk.sequence for chunk in step.chunks)]})
        scheduler.update(step, runner.run(step))
    return seen


def test_the_next_batch_waits_for_the_last_of_the_one_before():
    scheduler, runner = make(static=True, max_num_seqs=2), FakeRunner(4, 16)
    for name, tokens in (("short", 2), ("long", 9), ("next", 2), ("after it", 3)):
        scheduler.add(request(name, max_tokens=tokens))
    steps = running_by_step(scheduler, runner)
    assert steps == [{"short", "long"}] * 2 + [{"long"}] * 7 + [{"next", "after it"}] * 2 + [{"after it"}]


def test_a_request_that_comes_later_finds_no_free_place():
    scheduler, runner = make(static=True), FakeRunner(4, 16)
    scheduler.add(request("first", max_tokens=6))
    step_once(scheduler, runner)
    scheduler.add(request("second", max_tokens=2))
    assert scheduler.stats.waiting == 1
    assert running_by_step(scheduler, runner) == [{"first"}] * 5 + [{"second"}] * 2


def test_a_batch_with_more_prompt_than_a_step_can_take_joins_over_several_steps():
    scheduler, runner = make(static=True, num_blocks=200), FakeRunner(4, 16)
    for number in range(8):
        scheduler.add(request(number, prompt=10, max_tokens=40))
    scheduler.add(request("late", max_tokens=2))
    steps = running_by_step(scheduler, runner)
    everyone = [step for step in steps if step == set(range(8))]
    assert len(everyone) > 30 and len(steps[0]) == 2
    assert all("late" not in step for step in steps[:-2]) and steps[-2:] == [{"late"}] * 2


def test_a_batch_that_is_aborted_makes_way_for_the_next():
    scheduler, runner = make(static=True, max_num_seqs=2), FakeRunner(4, 16)
    for name in ("a", "b", "c"):
        scheduler.add(request(name, max_tokens=30))
    step_once(scheduler, runner)
    scheduler.abort(["a"])
    step_once(scheduler, runner)
    assert scheduler.stats.waiting == 1, "a place that an abort frees stays empty"
    scheduler.abort(["b"])
    assert set(run_to_the_end(scheduler, runner)) == {"c"}


def test_a_preempted_sequence_comes_back_with_the_next_batch_and_loses_no_token():
    scheduler, runner = make(static=True, num_blocks=10), FakeRunner(4, 16)
    for name in ("old", "new"):
        scheduler.add(request(name, prompt=5, max_tokens=25))
    steps = running_by_step(scheduler, runner)
    assert scheduler.stats.preemptions > 0
    alone = steps.index({"old"})
    assert steps[:alone] == [{"old", "new"}] * alone
    assert steps[alone:25] == [{"old"}] * (25 - alone)
    assert len(steps) > 25 and all(step == {"new"} for step in steps[25:])


def test_its_tokens_are_those_of_continuous_batching():
    scheduler, runner = make(static=True, max_num_seqs=3), FakeRunner(4, 16)
    for number in range(10):
        scheduler.add(request(number, prompt=3 + number % 3, max_tokens=4 + number))
    answers = run_to_the_end(scheduler, runner)
    for number in range(10):
        prompt = list(range(100, 103 + number % 3))
        assert answers[number][0] == expected_tokens(prompt, 4 + number)


def test_nobody_gives_way_to_another_request():
    scheduler, runner = make(static=True, num_blocks=64, max_num_seqs=4), FakeRunner(4, 16)
    for number in range(4):
        scheduler.add(request(number, parent="many", max_tokens=30))
    for _ in range(4):
        step_once(scheduler, runner)
    scheduler.add(request("one", max_tokens=2))
    steps = running_by_step(scheduler, runner)
    assert scheduler.stats.preemptions == 0 and steps[-2:] == [{"one"}] * 2

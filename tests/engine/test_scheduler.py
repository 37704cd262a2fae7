"""The scheduler with a fake model: a token is made from its sequence alone, so every answer is known beforehand."""

import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field

import pytest

from lab_support.engine.blocks.block_pool import BlockPool
from lab_support.engine.request import Request, Sequence
from lab_support.engine.scheduler import Output, Scheduler
from lab_support.engine.step import Sampled, Step
from lab_support.generation import FinishReason, SamplingParams, TokenLogprobs

END = 7


def make(**changes) -> Scheduler:
    sizes = dict(
        block_size=4,
        num_blocks=16,
        max_num_seqs=8,
        max_num_batched_tokens=16,
        max_model_len=1000,
        end_token_ids=[END],
    )
    return Scheduler(**(sizes | changes))


def request(name, prompt=5, parent=None, **sampling) -> Request:
    return Request(name, list(range(100, 100 + prompt)), SamplingParams(**({"max_tokens": 5} | sampling)), parent)


def fake_token(sequence: Sequence) -> int:
    """Depends on everything before it, so a token computed from a wrong prefix is seen. Never the end token."""
    return 1000 + hash(tuple(sequence.token_ids)) % 1000


def expected_tokens(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(1000 + hash(tuple(tokens)) % 1000)
    return tokens[len(prompt) :]


@dataclass
class FakeRunner:
    """Checks of every step what a real runner relies on, and answers like a model would."""

    block_size: int
    max_tokens: int
    tokens: dict[object, list[int]] = field(default_factory=dict)

    def run(self, step: Step) -> Sampled:
        scheduled = step.decodes + [chunk.sequence for chunk in step.chunks]
        assert step.num_tokens <= self.max_tokens
        assert len(set(map(id, scheduled))) == len(scheduled), "a sequence twice in one step"
        owners = Counter(block for sequence in scheduled for block in sequence.block_table)
        assert all(count == 1 for count in owners.values()), "a block owned twice"
        assert [len(s.token_ids) for s in step.decodes] == sorted(len(s.token_ids) for s in step.decodes)
        for sequence in step.decodes:
            assert sequence.num_uncomputed == 1
            self._check_blocks(sequence, 1)
        for chunk in step.chunks:
            assert 0 < chunk.num_tokens <= chunk.sequence.num_uncomputed
            self._check_blocks(chunk.sequence, chunk.num_tokens)
        return Sampled([fake_token(sequence) for sequence in step.sampling])

    def _check_blocks(self, sequence: Sequence, count: int) -> None:
        assert len(sequence.block_table) * self.block_size >= sequence.num_computed + count


def step_once(scheduler: Scheduler, runner: FakeRunner) -> list[Output]:
    step = scheduler.schedule()
    return scheduler.update(step, runner.run(step))


def run_to_the_end(scheduler: Scheduler, runner: FakeRunner, most_steps: int = 10_000) -> dict:
    """{request id: (tokens, finish reason)}"""
    tokens: dict = {}
    reasons: dict = {}
    for _ in range(most_steps):
        if not scheduler.has_work():
            return {name: (tokens[name], reasons[name]) for name in tokens}
        for output in step_once(scheduler, runner):
            assert output.request_id not in reasons, "an Output after the last one"
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
            if output.finish_reason is not None:
                reasons[output.request_id] = output.finish_reason
    raise AssertionError(f"work left after {most_steps} steps: {scheduler.stats}")


# ---- one request ----------------------------------------------------------------------------------------------------


def test_a_request_gets_its_tokens_and_gives_its_blocks_back():
    scheduler = make()
    scheduler.add(request("a", prompt=5, max_tokens=6))
    answer = run_to_the_end(scheduler, FakeRunner(4, 16))
    assert answer == {"a": (expected_tokens(list(range(100, 105)), 6), FinishReason.LENGTH)}
    stats = scheduler.stats
    assert (stats.free_blocks, stats.running, stats.waiting) == (16, 0, 0)
    assert (stats.prompt_tokens, stats.generation_tokens, stats.steps) == (5, 6, 6)


@pytest.mark.parametrize(
    ("sampling", "reason", "count"),
    [
        ({}, FinishReason.STOP, 3),
        ({"ignore_eos": True}, FinishReason.LENGTH, 5),
        ({"ignore_eos": True, "stop_token_ids": (8,)}, FinishReason.STOP, 4),
        ({"stop_token_ids": (8,)}, FinishReason.STOP, 3),
        ({"max_tokens": 3}, FinishReason.STOP, 3),
        ({"max_tokens": 2}, FinishReason.LENGTH, 2),
    ],
)
def test_what_ends_a_request(sampling, reason, count):
    scheduler = make()
    scheduler.add(request("a", **sampling))
    tokens, outputs = [1, 2, END, 8, 9], []
    while scheduler.has_work():
        outputs += scheduler.update(scheduler.schedule(), Sampled([tokens[len(outputs)]]))
    assert [output.token_ids for output in outputs] == [[token] for token in tokens[:count]]
    assert [output.finish_reason for output in outputs] == [None] * (count - 1) + [reason]


def test_a_request_ends_at_the_length_limit():
    scheduler = make(max_model_len=9)
    scheduler.add(request("a", prompt=5, max_tokens=100))
    tokens, reason = run_to_the_end(scheduler, FakeRunner(4, 16))["a"]
    assert (len(tokens), reason) == (4, FinishReason.LENGTH)


def test_the_whole_cache_is_the_length_limit_of_a_lone_request():
    scheduler = make(num_blocks=3)
    scheduler.add(request("a", prompt=5, max_tokens=100))
    tokens, reason = run_to_the_end(scheduler, FakeRunner(4, 16))["a"]
    assert (len(tokens), reason, scheduler.stats.preemptions) == (7, FinishReason.LENGTH, 0)


@pytest.mark.parametrize("prompt", [0, 12, 13, 500])
def test_a_prompt_that_never_fits_is_ended_and_not_kept(prompt):
    scheduler = make(num_blocks=3)
    scheduler.add(request("a", prompt=prompt))
    assert scheduler.has_work()
    step = scheduler.schedule()
    assert step.num_tokens == 0
    assert scheduler.update(step, Sampled([])) == [Output("a", [], FinishReason.ABORT, None)]
    assert not scheduler.has_work()


def test_logprobs_travel_with_their_token():
    scheduler = make()
    scheduler.add(request("a", max_tokens=1, logprobs=0))
    scheduler.add(request("b", max_tokens=1))
    step = scheduler.schedule()
    found = TokenLogprobs(-0.5, 2, [])
    outputs = scheduler.update(step, Sampled([1, 2], [found, None]))
    assert [output.logprobs for output in outputs] == [[found], None]


# ---- several --------------------------------------------------------------------------------------------------------


def test_a_long_prompt_never_stalls_a_running_stream():
    scheduler, runner = make(num_blocks=64), FakeRunner(4, 16)
    scheduler.add(request("stream", prompt=3, max_tokens=20))
    step_once(scheduler, runner)
    scheduler.add(request("long", prompt=100, max_tokens=1))
    seen: list[list] = []
    while scheduler.has_work():
        step = scheduler.schedule()
        assert step.num_tokens <= 16
        seen.append([output.request_id for output in scheduler.update(step, runner.run(step))])
    assert all("stream" in names for names in seen[:19])
    # 15 prompt tokens a step in addition to the stream's one: 7 steps for 100.
    assert [index for index, names in enumerate(seen) if "long" in names] == [6]


def test_one_step_mixes_decodes_and_prompts():
    scheduler, runner = make(), FakeRunner(4, 16)
    scheduler.add(request("a"))
    step_once(scheduler, runner)
    scheduler.add(request("b"))
    step = scheduler.schedule()
    assert [s.request_id for s in step.decodes] == ["a"]
    assert [chunk.sequence.request_id for chunk in step.chunks] == ["b"]
    assert [s.request_id for s in step.sampling] == ["a", "b"]


def test_no_more_than_max_num_seqs_run_at_once():
    scheduler = make(max_num_seqs=2)
    for name in range(5):
        scheduler.add(request(name))
    scheduler.update(step := scheduler.schedule(), FakeRunner(4, 16).run(step))
    assert (scheduler.stats.running, scheduler.stats.waiting) == (2, 3)


def test_requests_start_in_the_order_of_arrival():
    """A small one doesn't overtake a large one that waits for blocks, which might then wait indefinitely."""
    scheduler, runner = make(num_blocks=8), FakeRunner(4, 16)
    scheduler.add(request("first", prompt=12, max_tokens=12))
    step_once(scheduler, runner)
    scheduler.add(request("large", prompt=24, max_tokens=2))
    scheduler.add(request("small", prompt=1, max_tokens=1))
    started = []
    while scheduler.has_work():
        started += [output.request_id for output in step_once(scheduler, runner)]
    assert list(dict.fromkeys(started)) == ["first", "large", "small"]


def test_preemption_takes_the_newest_and_changes_no_token():
    scheduler, runner = make(num_blocks=7), FakeRunner(4, 16)
    prompts = {name: list(range(10 * index, 10 * index + 5)) for index, name in enumerate("abc")}
    for name, prompt in prompts.items():
        scheduler.add(Request(name, prompt, SamplingParams(max_tokens=15)))
    answers = run_to_the_end(scheduler, runner)
    assert scheduler.stats.preemptions > 0
    assert {name: tokens for name, (tokens, _) in answers.items()} == {
        name: expected_tokens(prompt, 15) for name, prompt in prompts.items()
    }
    assert (scheduler.stats.prompt_tokens, scheduler.stats.generation_tokens) == (15, 45)


def test_the_oldest_is_never_preempted():
    scheduler, runner = make(num_blocks=8), FakeRunner(4, 16)
    for name in range(6):
        scheduler.add(request(name, prompt=6, max_tokens=20))
    steps = 0
    while scheduler.stats.running != 0 or steps == 0:
        outputs = step_once(scheduler, runner)
        steps += 1
        if any(output.request_id == 0 and output.finish_reason is not None for output in outputs):
            break
    assert steps == 20


def test_a_preempted_request_comes_back_before_those_behind_it():
    scheduler, runner = make(num_blocks=6, max_num_seqs=2), FakeRunner(4, 16)
    for name in ("first", "second", "third"):
        scheduler.add(request(name, prompt=7, max_tokens=12))
    ended = []
    while scheduler.has_work():
        ended += [output.request_id for output in step_once(scheduler, runner) if output.finish_reason is not None]
    assert scheduler.stats.preemptions > 0
    assert ended == ["first", "second", "third"]


# ---- requests for many sequences ------------------------------------------------------------------------------------


def crowd(scheduler: Scheduler, count: int, parent="crowd", **fields) -> list[tuple]:
    """One client's request for so many sequences: their names."""
    names = [(parent, number) for number in range(count)]
    for name in names:
        scheduler.add(request(name, parent=parent, **fields))
    return names


def names_in(step: Step) -> set:
    return {each.request_id for each in step.decodes} | {chunk.sequence.request_id for chunk in step.chunks}


@pytest.mark.parametrize("warm_up", [1, 30])
def test_one_sequence_starts_at_once_beside_a_thousand_of_another_request(warm_up: int):
    """Not only when one of those has ended: they are long, and all places are theirs."""
    scheduler, runner = make(num_blocks=200), FakeRunner(4, 16)
    names = crowd(scheduler, 100, max_tokens=50)
    for _ in range(warm_up):
        step_once(scheduler, runner)
    scheduler.add(request("one", max_tokens=3))
    steps = []
    while "one" in scheduler.request_ids:
        step = scheduler.schedule()
        steps.append("one" in names_in(step))
        scheduler.update(step, runner.run(step))
    assert len(steps) <= 4 and steps.count(True) == 3
    assert scheduler.stats.preemptions == (1 if warm_up > 10 else 0)
    answers = run_to_the_end(scheduler, runner)
    assert set(answers) == set(names)
    assert all(reason is FinishReason.LENGTH for _, reason in answers.values())


def test_one_that_gives_way_loses_no_token():
    scheduler, runner = make(num_blocks=200), FakeRunner(4, 16)
    crowd(scheduler, 20, max_tokens=30)
    tokens: dict = {}
    for turn in range(60):
        if turn > 10 and turn % 5 == 0:
            scheduler.add(request(turn, max_tokens=2))
        for output in step_once(scheduler, runner):
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
    while scheduler.has_work():
        for output in step_once(scheduler, runner):
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
    assert scheduler.stats.preemptions > 0
    prompt = list(range(100, 105))
    assert all(tokens["crowd", number] == expected_tokens(prompt, 30) for number in range(20))
    assert scheduler.stats.prompt_tokens == 29 * 5


def test_one_sequence_finds_blocks_where_another_request_has_them_all():
    scheduler, runner = make(num_blocks=40, max_num_seqs=64), FakeRunner(4, 16)
    crowd(scheduler, 30, max_tokens=60)
    for _ in range(40):
        step_once(scheduler, runner)
    before = scheduler.stats
    assert before.running < 64 and before.waiting
    scheduler.add(request("one", prompt=14, max_tokens=20))
    steps = []
    while "one" in scheduler.request_ids:
        steps.append(any(output.request_id == "one" for output in step_once(scheduler, runner)))
    assert True in steps[:6]
    assert steps.count(True) == 20 and all(steps[-20:])  # and it keeps them, though it is the newest
    run_to_the_end(scheduler, runner)
    assert scheduler.stats.free_blocks == 40


def test_two_large_requests_come_to_equal_shares():
    scheduler, runner = make(num_blocks=400, max_num_batched_tokens=64), FakeRunner(4, 64)
    crowd(scheduler, 100, "first", max_tokens=7)
    step_once(scheduler, runner)
    crowd(scheduler, 100, "second", max_tokens=7)
    shares = []
    for _ in range(60):
        step = scheduler.schedule()
        shares.append(sum(name[0] == "second" for name in names_in(step)))
        scheduler.update(step, runner.run(step))
    assert shares[0] == 1
    assert set(shares[20:]) <= {3, 4, 5}
    assert sum(shares[20:]) == pytest.approx(4 * 40, rel=0.1)


def test_requests_for_one_sequence_never_give_way_to_each_other():
    scheduler, runner = make(max_num_seqs=2, num_blocks=64), FakeRunner(4, 16)
    for name in range(30):
        scheduler.add(request(name, max_tokens=9))
    ended = []
    while scheduler.has_work():
        ended += [output.request_id for output in step_once(scheduler, runner) if output.finish_reason is not None]
    assert ended == list(range(30))
    assert scheduler.stats.preemptions == 0


@pytest.mark.parametrize("every", [1, 4])
def test_a_storm_of_small_requests_neither_starves_a_large_one_nor_makes_it_be_computed_again_and_again(every: int):
    """All the time they come, faster than there are places or so that each has to be given one. Half of all work is
    useful, and the large request's oldest sequence never waits."""
    scheduler, runner = make(num_blocks=2000, max_num_batched_tokens=32), FakeRunner(4, 32)
    names = crowd(scheduler, 8, prompt=3, max_tokens=800)
    for _ in range(4):
        step_once(scheduler, runner)
    ended = computed = turns = 0
    while names[0] in scheduler.request_ids:
        if turns % every == 0:
            crowd(scheduler, 1, turns, prompt=3, max_tokens=2)
        turns += 1
        step = scheduler.schedule()
        computed += step.num_tokens
        outputs = scheduler.update(step, runner.run(step))
        assert any(output.request_id == names[0] for output in outputs)
        ended += sum(output.finish_reason is not None for output in outputs)
    assert ended > 0.9 * turns / every
    assert 0 < scheduler.stats.preemptions <= 7 * 9  # log2(800): each gives way when it is twice as long
    while scheduler.has_work():
        step = scheduler.schedule()
        computed += step.num_tokens
        scheduler.update(step, runner.run(step))
    assert computed <= 2 * (scheduler.stats.prompt_tokens + scheduler.stats.generation_tokens)


def test_the_oldest_sequence_gets_on_whatever_else_is_asked_for():
    scheduler, runner = make(num_blocks=14), FakeRunner(4, 16)
    scheduler.add(request("oldest", parent="a", prompt=6, max_tokens=40))
    crowd(scheduler, 5, "a", prompt=6, max_tokens=40)
    for _ in range(3):
        step_once(scheduler, runner)
    steps = 0
    while "oldest" in scheduler.request_ids:
        scheduler.add(request(steps, prompt=6, max_tokens=20))
        outputs = step_once(scheduler, runner)
        steps += 1
        assert any(output.request_id == "oldest" for output in outputs), steps
    assert scheduler.stats.preemptions > 0


# ---- aborts ---------------------------------------------------------------------------------------------------------


def test_an_abort_frees_blocks_at_once():
    scheduler, runner = make(), FakeRunner(4, 16)
    scheduler.add(request("a"))
    scheduler.add(request("b"))
    step_once(scheduler, runner)
    before = scheduler.stats.free_blocks
    assert scheduler.abort(["a", "never heard of", "a"]) == 1
    assert scheduler.stats.free_blocks == before + 2
    assert list(run_to_the_end(scheduler, runner)) == ["b"]
    assert (scheduler.stats.free_blocks, scheduler.stats.aborts) == (16, 1)


def test_an_abort_of_a_waiting_request():
    scheduler = make(max_num_seqs=1)
    scheduler.add(request("a"))
    scheduler.add(request("b"))
    scheduler.update(step := scheduler.schedule(), FakeRunner(4, 16).run(step))
    assert scheduler.abort(["b"]) == 1
    assert list(run_to_the_end(scheduler, FakeRunner(4, 16))) == ["a"]


def test_an_abort_while_a_step_is_in_flight_frees_after_it():
    """The step still writes into these blocks, so no other sequence may get them before it has ended."""
    scheduler, runner = make(), FakeRunner(4, 16)
    scheduler.add(request("a"))
    step = scheduler.schedule()
    assert scheduler.abort(["a"]) == 1
    assert scheduler.stats.free_blocks < 16
    assert scheduler.update(step, runner.run(step)) == []
    assert scheduler.stats.free_blocks == 16
    assert not scheduler.has_work()


# ---- everything at random -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(90))
def test_any_mixture_ends_with_every_block_free(seed):
    rng = random.Random(seed)
    block_size = rng.choice([1, 2, 4, 16])
    capacity = rng.randrange(24, 80)
    budget = rng.choice([1, 3, 8, 64])
    max_model_len = rng.choice([20, 1000])
    scheduler = make(
        block_size=block_size,
        num_blocks=-(-capacity // block_size),
        max_num_seqs=rng.choice([1, 2, 7, 64]),
        max_num_batched_tokens=budget,
        max_model_len=max_model_len,
        static=seed >= 60,
    )
    total = scheduler.stats.total_blocks
    runner = FakeRunner(block_size, budget)
    wanted: dict[int, Request] = {}
    tokens: dict[int, list[int]] = {}
    reasons: dict[int, FinishReason] = {}
    aborted: set[int] = set()
    for number in range(40):
        prompt = [rng.randrange(100) for _ in range(rng.randrange(1, 30))]
        parent = rng.choice([None, "many", "few", number // 8])
        wanted[number] = Request(number, prompt, SamplingParams(max_tokens=rng.randrange(1, 30)), parent)
        scheduler.add(wanted[number])
        for _ in range(rng.randrange(0, 4)):
            step = scheduler.schedule()
            if rng.random() < 0.2:
                victim = rng.randrange(number + 1)
                aborted |= {victim} if scheduler.abort([victim]) else set()
            collect(scheduler.update(step, runner.run(step)), tokens, reasons, aborted)
        if rng.random() < 0.2:
            victim = rng.randrange(number + 1)
            aborted |= {victim} if scheduler.abort([victim]) else set()
    steps = 0
    while scheduler.has_work():
        collect(step_once(scheduler, runner), tokens, reasons, aborted)
        steps += 1
        assert steps < 40 * 60 * 40, "no end in sight"
    stats = scheduler.stats
    assert (stats.free_blocks, stats.running, stats.waiting) == (total, 0, 0)
    assert stats.aborts == len(aborted)
    assert set(reasons) | aborted == set(wanted) and not set(reasons) & aborted
    limit = min(max_model_len, total * block_size)
    for number, reason in reasons.items():
        prompt, asked = wanted[number].prompt_token_ids, wanted[number].sampling.max_tokens
        count = 0 if len(prompt) >= limit else min(asked, limit - len(prompt))
        assert reason is (FinishReason.LENGTH if count else FinishReason.ABORT)
        assert tokens.get(number, []) == expected_tokens(prompt, count)


def collect(outputs, tokens, reasons, aborted) -> None:
    for output in outputs:
        assert output.request_id not in reasons and output.request_id not in aborted
        tokens.setdefault(output.request_id, []).extend(output.token_ids)
        if output.finish_reason is not None:
            reasons[output.request_id] = output.finish_reason


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_a_block_freed_twice_is_refused():
    pool = BlockPool(4, 16)
    blocks = pool.allocate(2)
    pool.free(blocks)
    with pytest.raises(AssertionError, match="free already"):
        pool.free(blocks)


def test_freed_blocks_are_used_again_first():
    """So that the memory behind the cache is touched only as far as it is needed at once."""
    pool = BlockPool(1000, 16)
    for _ in range(50):
        blocks = pool.allocate(3)
        assert set(blocks) == {0, 1, 2}
        pool.free(blocks)


def test_the_scheduler_needs_no_torch():
    code = "import sys, lab_support.engine.scheduler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

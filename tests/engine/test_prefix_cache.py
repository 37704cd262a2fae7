"""Prefix caching with a fake model whose memory remembers what was written into each slot of each block.

A token is made from what the block table's slots hold, so a block that is shared too early, reused too early, or found
under a wrong key changes a token, and the slot that is wrong is named.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

import pytest

from lab_support.engine.blocks.block_keys import BlockKeys
from lab_support.engine.blocks.block_pool import BlockPool
from lab_support.engine.blocks.trial import Trial
from lab_support.engine.request import Request, Sequence
from lab_support.engine.scheduler import Output, Scheduler
from lab_support.engine.step import Sampled, Step
from lab_support.generation import FinishReason, SamplingParams

SIZE = 4


def make(**changes) -> Scheduler:
    sizes = dict(
        block_size=SIZE,
        num_blocks=32,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        max_model_len=1000,
        end_token_ids=[],
        block_keys=BlockKeys(changes.get("block_size", SIZE)),
    )
    return Scheduler(**(sizes | changes))


def request(name, prompt: list[int], parent=None, cache_salt: bytes = b"", **sampling) -> Request:
    return Request(name, prompt, SamplingParams(**({"max_tokens": 1} | sampling)), parent, cache_salt)


def extended(chain: int, token: int) -> int:
    """Stands for the keys and values of a token: they depend on all tokens before it."""
    return hash((chain, token))


def chains(tokens: list[int]) -> list[int]:
    return list(accumulate(tokens, extended, initial=0))[1:]


def next_token(chain: int) -> int:
    return 1000 + chain % 1000


def expected_tokens(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(chains(tokens)[-1]))
    return tokens[len(prompt) :]


@dataclass
class RememberingRunner:
    """Writes all of a step before it reads any of it, as every layer of the model does."""

    size: int = SIZE
    memory: dict[tuple[int, int], int] = field(default_factory=dict)
    computed: int = 0

    def run(self, step: Step) -> Sampled:
        rows = [(sequence, 1) for sequence in step.decodes] + list(step.chunks)
        for sequence, count in rows:
            self._write(sequence, count)
        for sequence, count in rows:
            self._read(sequence, sequence.num_computed + count)
        self.computed += step.num_tokens
        return Sampled([next_token(chains(sequence.token_ids)[-1]) for sequence in step.sampling])

    def _slot(self, sequence: Sequence, position: int) -> tuple[int, int]:
        return sequence.block_table[position // self.size], position % self.size

    def _write(self, sequence: Sequence, count: int) -> None:
        made = chains(sequence.token_ids)
        for position in range(sequence.num_computed, sequence.num_computed + count):
            self.memory[self._slot(sequence, position)] = made[position]

    def _read(self, sequence: Sequence, end: int) -> None:
        for position, chain in enumerate(chains(sequence.token_ids)[:end]):
            slot = self._slot(sequence, position)
            assert self.memory.get(slot) == chain, f"{sequence.request_id!r}: position {position}, slot {slot}"


def run(scheduler: Scheduler, runner: RememberingRunner) -> Iterator[Output]:
    while scheduler.has_work():
        step = scheduler.schedule()
        yield from scheduler.update(step, runner.run(step))


def answers(scheduler: Scheduler, runner: RememberingRunner) -> dict:
    tokens: dict = {}
    for output in run(scheduler, runner):
        tokens.setdefault(output.request_id, []).extend(output.token_ids)
    return tokens


def ask(scheduler: Scheduler, runner: RememberingRunner, prompt: list[int], **asked) -> tuple[int, int]:
    """Asks for one answer and checks it. Returns (its cached tokens, tokens that were computed)."""
    before, made, cached = runner.computed, [], []
    scheduler.add(request("only", prompt, **asked))
    for output in run(scheduler, runner):
        made += output.token_ids
        cached.append(output.cached_tokens)
    assert made == expected_tokens(prompt, asked.get("max_tokens", 1))
    assert not any(cached[1:])
    return cached[0], runner.computed - before


# ---- one after another ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "cached"),
    [(1, 0), (4, 0), (5, 4), (7, 4), (8, 4), (9, 8), (41, 40)],
)
def test_a_prompt_asked_again_is_computed_from_its_last_token_s_block(length: int, cached: int) -> None:
    """Full blocks only, and never the last token: its logits are needed."""
    scheduler, runner = make(), RememberingRunner()
    prompt = list(range(length))
    assert ask(scheduler, runner, prompt) == (0, length)
    assert ask(scheduler, runner, prompt) == (cached, length - cached)
    assert (scheduler.stats.prefix_cache_queries, scheduler.stats.prefix_cache_hits) == (2 * length, cached)
    assert scheduler.stats.prompt_tokens == 2 * length


def test_the_prefix_that_two_prompts_share_is_found_and_nothing_behind_it() -> None:
    scheduler, runner = make(), RememberingRunner()
    ask(scheduler, runner, [*range(10), 50, 51, 52])
    assert ask(scheduler, runner, [*range(10), 60, 51, 52])[0] == 8
    assert ask(scheduler, runner, [9, *range(1, 10), 50, 51, 52])[0] == 0, "the same blocks behind another beginning"
    assert ask(scheduler, runner, [*range(4, 10), 50, 51, 52])[0] == 0, "the second block as the first one"


def test_a_conversation_goes_on_from_its_answers() -> None:
    scheduler, runner = make(), RememberingRunner()
    prompt = list(range(6))
    ask(scheduler, runner, prompt, max_tokens=9)
    later = prompt + expected_tokens(prompt, 9) + [7, 8]
    assert ask(scheduler, runner, later)[0] == 12, "the last generated token was never computed"


def test_a_salt_separates_prefixes() -> None:
    scheduler, runner = make(), RememberingRunner()
    prompt = list(range(9))
    for salt in (b"", b"a", b"b"):
        assert ask(scheduler, runner, prompt, cache_salt=salt)[0] == 0
        assert ask(scheduler, runner, prompt, cache_salt=salt)[0] == 8


def test_a_prompt_whose_log_probabilities_are_wanted_is_computed_and_not_counted() -> None:
    scheduler, runner = make(), RememberingRunner()
    prompt = list(range(9))
    ask(scheduler, runner, prompt)
    assert ask(scheduler, runner, prompt, prompt_logprobs=0) == (0, 9)
    assert (scheduler.stats.prefix_cache_queries, scheduler.stats.prefix_cache_hits) == (9, 0)
    assert ask(scheduler, runner, prompt)[0] == 8


def test_without_keys_everything_is_computed() -> None:
    scheduler, runner = make(block_keys=None), RememberingRunner()
    for _ in range(2):
        assert ask(scheduler, runner, list(range(9)), max_tokens=9) == (0, 17)
    assert (scheduler.stats.prefix_cache_queries, scheduler.stats.prefix_cache_hits) == (0, 0)


def test_a_prompt_in_chunks_is_found_as_far_as_it_got() -> None:
    scheduler, runner = make(max_num_batched_tokens=6), RememberingRunner()
    prompt = list(range(30))
    scheduler.add(request("a", prompt))
    for _ in range(2):
        scheduler.update(step := scheduler.schedule(), runner.run(step))
    scheduler.abort(["a"])
    assert scheduler.stats.free_blocks == 32
    assert ask(scheduler, runner, prompt)[0] == 12


def test_the_least_recently_used_prefix_is_evicted_from_its_end() -> None:
    scheduler, runner = make(num_blocks=8), RememberingRunner()
    old, kept = list(range(13)), list(range(100, 113))
    ask(scheduler, runner, old)
    ask(scheduler, runner, kept)
    ask(scheduler, runner, list(range(200, 209)))  # of its 3 blocks 2 were never cached, and 1 was the last of `old`
    assert ask(scheduler, runner, old[:9])[0] == 8
    assert ask(scheduler, runner, old)[0] == 8
    assert scheduler.stats.free_blocks == 8


# ---- together -------------------------------------------------------------------------------------------------------


def test_sequences_that_start_together_share() -> None:
    """The same step computes the prefix once, for all of them; each has its own last token's block."""
    scheduler, runner = make(), RememberingRunner()
    prompt = list(range(42))
    for number in range(8):
        scheduler.add(request(number, prompt, parent="n", max_tokens=2))
    step = scheduler.schedule()
    assert [chunk.num_tokens for chunk in step.chunks] == [42] + [2] * 7
    assert scheduler.stats.free_blocks == 32 - 11 - 7
    scheduler.update(step, runner.run(step))
    assert set(map(tuple, answers(scheduler, runner).values())) == {tuple(expected_tokens(prompt, 2)[1:])}
    assert (scheduler.stats.preemptions, scheduler.stats.free_blocks) == (0, 32)


def test_one_that_shares_survives_the_other() -> None:
    scheduler, runner = make(num_blocks=8), RememberingRunner()
    prompt = list(range(9))
    scheduler.add(request("first", prompt, max_tokens=3))
    scheduler.add(request("second", prompt, max_tokens=12))
    scheduler.update(step := scheduler.schedule(), runner.run(step))
    scheduler.abort(["first"])
    scheduler.add(request("third", list(range(50, 57)), max_tokens=9))
    found = answers(scheduler, runner)
    assert found["second"] == expected_tokens(prompt, 12)[1:]
    assert found["third"] == expected_tokens(list(range(50, 57)), 9)
    assert scheduler.stats.free_blocks == 8


def test_a_preempted_sequence_finds_its_own_blocks_again() -> None:
    scheduler, runner = make(num_blocks=8), RememberingRunner()
    prompts = {name: [number * 100 + each for each in range(9)] for number, name in enumerate("ab")}
    for name, prompt in prompts.items():
        scheduler.add(request(name, prompt, max_tokens=14))
    found = answers(scheduler, runner)
    assert found == {name: expected_tokens(prompt, 14) for name, prompt in prompts.items()}
    assert scheduler.stats.preemptions > 0
    assert (scheduler.stats.prefix_cache_queries, scheduler.stats.prefix_cache_hits) == (18, 0), "counted at first only"
    assert runner.computed < 2 * 22 + 9, "its cached blocks were not computed again"


def test_the_blocks_of_one_that_gives_way_count_only_if_nobody_else_has_them() -> None:
    """A newcomer needs more blocks than the crowd's sequences have of their own, so all of it but the oldest gives way,
    and no more; one of the same prefix needs few, and takes one place."""
    scheduler, runner = make(num_blocks=24, max_num_seqs=6), RememberingRunner()
    prompt = list(range(42))
    for number in range(6):
        scheduler.add(request(number, prompt, parent="crowd", max_tokens=20))
    scheduler.update(step := scheduler.schedule(), runner.run(step))
    scheduler.add(request("same", prompt, max_tokens=1))
    scheduler.update(step := scheduler.schedule(), runner.run(step))
    assert "same" in {chunk.sequence.request_id for chunk in step.chunks}
    assert scheduler.stats.preemptions == 1
    found = answers(scheduler, runner)
    assert found[0] == expected_tokens(prompt, 20)[-len(found[0]) :]
    assert scheduler.stats.free_blocks == 24


def test_a_trial_counts_a_block_as_free_when_its_last_user_goes() -> None:
    trial = Trial([2, 1, 0])
    assert trial.give_back([0, 1]) == 1
    assert trial.take([1, 2]) == 2, "nobody has them, so a newcomer takes them from the free ones"
    assert trial.give_back([0, 1]) == 2


# ---- everything at random -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_any_mixture_gets_the_tokens_that_it_would_get_alone(seed: int) -> None:
    rng = random.Random(seed)
    block_size, budget = rng.choice([1, 2, 4, 16]), rng.choice([3, 8, 64])
    scheduler = make(
        block_size=block_size,
        num_blocks=-(-rng.randrange(70, 160) // block_size),
        max_num_seqs=rng.choice([2, 7, 64]),
        max_num_batched_tokens=budget,
    )
    total, runner = scheduler.stats.total_blocks, RememberingRunner(block_size)
    trunks = [[rng.randrange(3) for _ in range(40)] for _ in range(3)]
    wanted: dict[int, Request] = {}
    tokens: dict[int, list[int]] = {}
    gone: set[int] = set()

    def step_once() -> None:
        step = scheduler.schedule()
        gone.update(some_aborted(scheduler, rng, len(wanted)))
        for output in scheduler.update(step, runner.run(step)):
            tokens.setdefault(output.request_id, []).extend(output.token_ids)

    for number in range(60):
        trunk = rng.choice(trunks)
        prompt = trunk[: rng.randrange(1, 40)] + [rng.randrange(3) for _ in range(rng.randrange(0, 6))]
        wanted[number] = request(
            number,
            prompt,
            rng.choice([None, "many", number // 8]),
            rng.choice([b"", b"", b"salt"]),
            max_tokens=rng.randrange(1, 24),
            prompt_logprobs=rng.choice([None] * 9 + [0]),
        )
        scheduler.add(wanted[number])
        for _ in range(rng.randrange(0, 4)):
            step_once()
    while scheduler.has_work():
        step_once()
    stats = scheduler.stats
    assert (stats.free_blocks, stats.running, stats.waiting, stats.aborts) == (total, 0, 0, len(gone))
    assert 0 < stats.prefix_cache_hits < stats.prefix_cache_queries
    for number in wanted.keys() - gone:
        asked = wanted[number]
        assert tokens[number] == expected_tokens(asked.prompt_token_ids, asked.sampling.max_tokens)


def some_aborted(scheduler: Scheduler, rng: random.Random, count: int) -> set[int]:
    """Seldom one, while a step is in flight."""
    victim = rng.randrange(count)
    return {victim} if rng.random() < 0.03 and scheduler.abort([victim]) else set()


# ---- parts ----------------------------------------------------------------------------------------------------------


def keys_of(keys: BlockKeys, tokens: list[int], salt: bytes = b"", num_prompt: int = 0) -> list[bytes]:
    made = [keys.root(salt, num_prompt)]
    keys.extend(made, tokens, len(tokens) // SIZE)
    return made[1:]


def test_a_key_stands_for_all_tokens_up_to_its_block_s_end() -> None:
    keys = BlockKeys(SIZE)
    made = keys_of(keys, list(range(12)))
    assert made == keys_of(keys, [*range(12), 99])
    assert [a == b for a, b in zip(made, keys_of(keys, [*range(7), 99, *range(8, 12)]), strict=True)] == [
        True,
        False,
        False,
    ]
    assert all(len(key) == 32 for key in made) and len(set(made)) == 3


def test_nobody_can_know_a_key_beforehand() -> None:
    """Each process, and even each object, draws its own seed."""
    assert not set(keys_of(BlockKeys(SIZE), [1] * 8)) & set(keys_of(BlockKeys(SIZE), [1] * 8))


def test_under_dynamic_rope_only_prompts_of_one_length_share_beyond_the_own_context() -> None:
    keys, plain = BlockKeys(SIZE, own_context=20), BlockKeys(SIZE)
    assert keys.root(b"", 3) == keys.root(b"", 20) != keys.root(b"", 21) != keys.root(b"", 22)
    assert plain.root(b"", 3) == plain.root(b"", 22)


def test_a_block_with_two_users_is_free_after_both_and_found_until_it_is_taken() -> None:
    pool = BlockPool(2, SIZE)
    (block,) = pool.allocate(1)
    pool.cache([block], [b"key"])
    pool.share(pool.find([b"key", b"other"]))
    pool.free([block])
    assert pool.num_free == 1
    pool.free([block])
    assert (pool.num_free, pool.find([b"key"])) == (2, [block])
    with pytest.raises(AssertionError, match="free already"):
        pool.free([block])
    assert pool.allocate(1) != [block], "blocks that were never cached are taken first"
    assert pool.allocate(1) == [block]
    assert pool.find([b"key"]) == []


def test_a_second_block_of_the_same_tokens_is_not_cached() -> None:
    pool = BlockPool(3, SIZE)
    first, second = pool.allocate(2)
    pool.cache([first, second], [b"key", b"key"])
    pool.free([second])
    pool.free([first])
    assert pool.find([b"key"]) == [first]
    assert pool.allocate(2)[0] == second


def test_a_request_that_never_fits_counts_no_tokens() -> None:
    scheduler = make(num_blocks=2)
    scheduler.add(request("a", list(range(9))))
    outputs = scheduler.update(scheduler.schedule(), Sampled([]))
    assert [output.finish_reason for output in outputs] == [FinishReason.ABORT]
    assert scheduler.stats.prefix_cache_queries == 0

"""The sampler's choice of tokens, by its public functions, on logits made by hand, on every device.

Statistical tests draw 4,000 tokens and allow 5 standard deviations: a right sampler fails one in 10^6 runs.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from lab_support.engine.request import Request, Sequence
from lab_support.engine.sampler import FEW_CANDIDATES, Sampler
from lab_support.generation import SamplingParams
from tests.engine.devices import ON_ALL, Device, opened

DRAWS = 4000
END = 3
HERE: list[Device] = []


@pytest.fixture(autouse=True, params=ON_ALL)
def on_every_device(request: pytest.FixtureRequest) -> Iterator[None]:
    with opened(request.param) as device:
        HERE.append(device)
        yield
        HERE.pop()


def sequence(prompt=(0,), generated=(), **sampling) -> Sequence:
    made = Sequence(Request("a", list(prompt), SamplingParams(**sampling)))
    made.token_ids += generated
    return made


def sample(logits: list[list[float]] | torch.Tensor, *sequences: Sequence):
    rows = logits if isinstance(logits, torch.Tensor) else torch.tensor(logits)
    return Sampler(frozenset({END})).sample(HERE[-1].put(rows.float().clone()), list(sequences))


def token(logits: list[float], **sampling) -> int:
    """The one token that greedy sampling takes."""
    prompt, generated = sampling.pop("prompt", (0,)), sampling.pop("generated", ())
    return sample([logits], sequence(prompt, generated, temperature=0.0, **sampling)).token_ids[0]


def shares(logits: list[float] | torch.Tensor, **sampling) -> dict[int, float]:
    """The count of each token in DRAWS independent draws."""
    rows = torch.as_tensor(logits).expand(DRAWS, -1)
    drawn = sample(rows, *(sequence(seed=seed, **sampling) for seed in range(DRAWS))).token_ids
    return {token: count / DRAWS for token, count in Counter(drawn).items()}


def assert_shares(found: dict[int, float], probabilities: dict[int, float]) -> None:
    assert set(found) <= set(probabilities)
    for token, probability in probabilities.items():
        tolerance = 5 * math.sqrt(probability * (1 - probability) / DRAWS)
        assert abs(found.get(token, 0.0) - probability) <= tolerance


def logs(*probabilities: float) -> list[float]:
    return [math.log(probability) for probability in probabilities]


# ---- greedy ---------------------------------------------------------------------------------------------------------


def test_greedy_takes_the_best_of_each_row():
    rows = [[0.0, 2.0, 1.0, -1.0], [5.0, 2.0, 1.0, -1.0]]
    assert sample(rows, *(sequence(temperature=0.0) for _ in rows)).token_ids == [1, 0]


def test_presence_penalty_counts_a_generated_token_once():
    logits = [1.0, 0.0, 0.0, 0.0]
    assert token(logits, presence_penalty=0.9, generated=[0, 0, 0]) == 0
    assert token(logits, presence_penalty=1.1, generated=[0]) == 1
    assert token(logits, presence_penalty=1.1, prompt=[0]) == 0, "the prompt doesn't count"


def test_frequency_penalty_counts_every_generated_token():
    logits = [1.0, 0.0, 0.0, 0.0]
    assert token(logits, frequency_penalty=0.4, generated=[0, 0]) == 0
    assert token(logits, frequency_penalty=0.4, generated=[0, 0, 0]) == 1
    assert token(logits, frequency_penalty=0.4, prompt=[0, 0, 0]) == 0, "the prompt doesn't count"


def test_repetition_penalty_counts_prompt_and_generated_tokens():
    assert token([1.0, 0.6, 0.0, 0.0], repetition_penalty=2.0, prompt=[0]) == 1
    assert token([1.0, 0.6, 0.0, 0.0], repetition_penalty=2.0, prompt=[2], generated=[0]) == 1
    assert token([-1.0, -1.5, -9.0, -9.0], repetition_penalty=2.0, prompt=[0]) == 1, "negative logits are multiplied"


def test_penalties_of_one_row_leave_its_neighbours_alone():
    rows = [[1.0, 0.5, 0.0, 0.0]] * 3
    plain, punished = sequence(temperature=0.0), sequence((0,), (0,), temperature=0.0, presence_penalty=2.0)
    assert sample(rows, plain, punished, plain).token_ids == [0, 1, 0]


def test_min_tokens_forbids_end_and_stop_tokens_until_then():
    logits = [0.0, 1.0, 2.0, 3.0]
    assert token(logits) == END
    assert token(logits, min_tokens=2, generated=[0]) == 2
    assert token(logits, min_tokens=2, generated=[0, 0]) == END
    assert token(logits, min_tokens=2, stop_token_ids=(2,)) == 1
    assert token(logits, min_tokens=2, stop_token_ids=(2,), ignore_eos=True) == END, "there it ends nothing"
    assert token(logits, min_tokens=2, stop_token_ids=(999,)) == 2, "a stop token that the model doesn't have"


# ---- drawn ----------------------------------------------------------------------------------------------------------


def test_draws_follow_the_probabilities():
    assert_shares(shares(logs(0.5, 0.3, 0.15, 0.05)), {0: 0.5, 1: 0.3, 2: 0.15, 3: 0.05})


def test_temperature():
    hot = [math.sqrt(p) for p in (0.5, 0.3, 0.15, 0.05)]
    expected = {token: weight / sum(hot) for token, weight in enumerate(hot)}
    assert_shares(shares(logs(0.5, 0.3, 0.15, 0.05), temperature=2.0), expected)


def test_top_k():
    assert_shares(shares(logs(0.3, 0.5, 0.15, 0.05), top_k=2), {0: 3 / 8, 1: 5 / 8})
    assert set(shares(logs(0.3, 0.5, 0.15, 0.05), top_k=1)) == {1}


def test_top_p_keeps_the_token_that_crosses_it():
    assert_shares(shares(logs(0.3, 0.5, 0.15, 0.05), top_p=0.7), {0: 3 / 8, 1: 5 / 8})
    assert_shares(shares(logs(0.3, 0.5, 0.15, 0.05), top_p=0.9), {0: 30 / 95, 1: 50 / 95, 2: 15 / 95})
    assert set(shares(logs(0.3, 0.5, 0.15, 0.05), top_p=0.0)) == {1}


def test_top_p_is_a_share_of_what_top_k_leaves():
    # Of 0.5 and 0.3 the first has 62.5 %, which reaches 0.6; of all four it has only 50 %.
    assert set(shares(logs(0.3, 0.5, 0.15, 0.05), top_k=2, top_p=0.6)) == {1}
    assert set(shares(logs(0.3, 0.5, 0.15, 0.05), top_p=0.6)) == {0, 1}


def test_min_p():
    assert_shares(shares(logs(0.3, 0.5, 0.15, 0.05), min_p=0.5), {0: 3 / 8, 1: 5 / 8})


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 0.5), (0, 0.99), (100, 1.0), (150, 0.7), (30, 0.9)])
def test_limits_beyond_the_few_best_candidates(top_k, top_p):
    """Against the definition, on a flat distribution where the few best hold far less than top-p."""
    vocabulary = 5 * FEW_CANDIDATES
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(1)) * 0.3
    order = logits.argsort(descending=True).tolist()[: top_k or vocabulary]
    weights = logits[order].double().softmax(0)
    before = weights.cumsum(0) - weights
    allowed = {token for token, mass in zip(order, before.tolist(), strict=True) if mass < top_p}
    found = shares(logits, top_k=top_k, top_p=top_p)
    assert set(found) <= allowed
    assert len(found) > 0.8 * len(allowed)


def test_a_token_of_probability_0_never_comes():
    rows = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).expand(DRAWS, -1)
    drawn = sample(rows, *(sequence(seed=seed) for seed in range(DRAWS))).token_ids
    assert set(drawn) == {1, 3}


def test_the_ends_of_the_random_range_give_tokens_that_can_be():
    class Fixed(random.Random):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def random(self) -> float:
            return self.value

    for value in (0.0, 1.0 - 2**-53):
        fixed = sequence()
        fixed.random = Fixed(value)
        assert sample([[-math.inf, 0.0, 0.0, -math.inf]], fixed).token_ids[0] in (1, 2)


def test_settings_beyond_all_reason_give_a_token_of_the_vocabulary():
    """The rim allows some of them; a token that doesn't exist would end the engine core in its next step."""
    assert set(shares(logs(0.3, 0.5, 0.15, 0.05), temperature=1e-40)) == {1}
    everything = sequence(min_tokens=1, stop_token_ids=(0, 1, 2, 3))
    overflow = sequence((0, 1), temperature=1.0, repetition_penalty=1e-45)
    assert all(0 <= token < 4 for token in sample([[1.0, 2.0, 3.0, 4.0]] * 2, everything, overflow).token_ids)


# ---- seeds ----------------------------------------------------------------------------------------------------------


def draw_ten(chosen: Sequence, neighbours: int) -> list[int]:
    rng = torch.Generator().manual_seed(5)
    tokens = []
    for _ in range(10):
        row = torch.randn(50, generator=rng)
        others = [sequence(temperature=1.5, top_p=0.5) for _ in range(neighbours)]
        rows = torch.stack([row] * (neighbours + 1))
        tokens.append(sample(rows, *others, chosen).token_ids[-1])
    return tokens


def test_a_seed_gives_the_same_sequence_in_any_batch():
    assert draw_ten(sequence(seed=9), 0) == draw_ten(sequence(seed=9), 5)
    assert draw_ten(sequence(seed=9), 0) != draw_ten(sequence(seed=10), 0)


def test_without_a_seed_two_requests_differ():
    """50 tokens, ten draws: equal by chance about once in 10^12."""
    assert draw_ten(sequence(), 0) != draw_ten(sequence(), 0)


# ---- logprobs -------------------------------------------------------------------------------------------------------


def test_logprobs_are_the_models_own():
    """Before penalties and temperature, so the token taken may be far from the top."""
    logits = logs(0.5, 0.3, 0.15, 0.05)
    asked = sequence((2,), (0,), temperature=0.0, presence_penalty=5.0, logprobs=2)
    answer = sample([logits, logits], sequence(temperature=0.0), asked)
    assert answer.token_ids == [0, 1]
    assert answer.logprobs is not None
    assert answer.logprobs[0] is None
    found = answer.logprobs[1]
    assert found is not None
    assert found.rank == 2
    assert found.logprob == pytest.approx(math.log(0.3), abs=1e-6)
    assert [token for token, _ in found.top] == [0, 1]
    assert [logprob for _, logprob in found.top] == pytest.approx(logs(0.5, 0.3), abs=1e-6)


def test_logprobs_0_reports_the_token_alone():
    answer = sample([logs(0.5, 0.3, 0.15, 0.05)], sequence(temperature=0.0, logprobs=0))
    assert answer.logprobs is not None and answer.logprobs[0] is not None
    assert (answer.logprobs[0].rank, answer.logprobs[0].top) == (1, [])


def test_more_logprobs_than_the_vocabulary_has():
    answer = sample([logs(0.5, 0.3, 0.15, 0.05)], sequence(temperature=0.0, logprobs=20))
    assert answer.logprobs is not None and answer.logprobs[0] is not None
    assert len(answer.logprobs[0].top) == 4

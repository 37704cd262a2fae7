"""Tokens and logits of the engine against transformers on the same folder, in float32."""

import random
import resource
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from lab_support.config import MODEL_IN_THE_BOX, ConfigError
from lab_support.engine.blocks.block_keys import BlockKeys
from lab_support.engine.checkpoint import has_16_bits
from lab_support.engine.device import available_memory
from lab_support.engine.linear import LinearKind
from lab_support.engine.request import Request, Sequence
from lab_support.engine.runner import Runner
from lab_support.engine.step import Chunk, Step
from lab_support.generation import SamplingParams
from lab_support.model_folder import ModelFolder
from tests.engine.folders import edit_config, make_folder, oracle, oracle_logits
from tests.engine.greedy import (
    assert_greedy,
    config,
    generate,
    generate_with_logprobs,
    outputs_of,
    prompts,
    scheduler_for,
)
from tests.test_control_groups import tree

LOGITS = 1e-4
LOGPROBS = 1e-3

LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10_000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=128,
)
YARN = dict(rope_type="yarn", rope_theta=10_000.0, factor=4.0, original_max_position_embeddings=128)
ARCHITECTURES = {
    "grouped queries": {},
    "one query head for each key head": dict(num_key_value_heads=4),
    "one key head": dict(num_key_value_heads=1),
    "tied embeddings": dict(tie_word_embeddings=True),
    "biases": dict(attention_bias=True, mlp_bias=True),
    "head_dim of its own": dict(head_dim=24),
    "rope theta": dict(rope_parameters=dict(rope_type="default", rope_theta=500_000.0)),
    "rope linear": dict(rope_parameters=dict(rope_type="linear", rope_theta=10_000.0, factor=2.5)),
    "rope dynamic": dict(rope_parameters=dict(rope_type="dynamic", rope_theta=10_000.0, factor=2.0)),
    "rope llama3": dict(rope_parameters=LLAMA3),
    "rope yarn": dict(rope_parameters=YARN),
    "rope yarn, every option": dict(
        rope_parameters=YARN | dict(beta_fast=20.0, beta_slow=2.0, mscale=0.7, mscale_all_dim=1.2, truncate=False)
    ),
    "rope yarn, another magnitude": dict(rope_parameters=YARN | dict(attention_factor=1.3)),
    "shards": dict(shard_size="50KB"),
    "bfloat16 weights": dict(dtype=torch.bfloat16),
    "float16 weights": dict(dtype=torch.float16),
    "Mistral": dict(family="mistral", sliding_window=None),
    "Mistral with a wide window": dict(family="mistral", sliding_window=512, head_dim=24),
    "Qwen2": dict(family="qwen2"),
    "Qwen2, tied": dict(family="qwen2", tie_word_embeddings=True, use_sliding_window=False, sliding_window=8),
    "Qwen3": dict(family="qwen3", head_dim=24),
    "Qwen3 with biases": dict(family="qwen3", attention_bias=True, tie_word_embeddings=True, num_key_value_heads=1),
}
OLD_ROPES = {  # rope_scaling as versions of transformers before 5 wrote it, next to rope_theta
    "linear": dict(type="linear", factor=2.5),
    "dynamic": dict(type="dynamic", factor=2.0),
    "llama3": {key: value for key, value in LLAMA3.items() if key != "rope_theta"},
    "yarn": dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=128),
    "none": None,
}
SIZES_OF_BATCHES = {
    "all at once": {},
    "in chunks of 7 tokens": dict(max_num_batched_tokens=7),
    "one after another": dict(max_num_seqs=1),
    "preempted": dict(num_blocks=16),
    "preempted and in chunks": dict(num_blocks=12, max_num_batched_tokens=9),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"), dtype=torch.bfloat16)


# ---- what it computes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_tokens_are_those_of_transformers(name, tmp_path):
    folder = make_folder(tmp_path, **ARCHITECTURES[name])
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (name == "shards")
    runner, model = Runner(config(folder)), oracle(folder)
    question = prompts(1, 307, 100)[0] + list(range(250, 300))
    assert_logits(runner, model, question)
    assert_logits(runner, model, question, pieces=[1, 2, 20, 1])
    assert_tokens_and_logprobs(runner, model)


def assert_tokens_and_logprobs(runner: Runner, model, questions: list[list[int]] | None = None) -> None:
    """20 prompts × 32 tokens, all at once: greedy, and as likely as transformers finds them."""
    questions = questions or prompts(20, 307)
    answers = generate_with_logprobs(runner, questions, 32)
    logits = assert_greedy(model, questions, [[token for token, _ in answer] for answer in answers])
    for answer, rows in zip(answers, logits, strict=True):
        tokens, found = torch.tensor([token for token, _ in answer]), torch.tensor([logprob for _, logprob in answer])
        expected = rows.log_softmax(-1).gather(1, tokens.unsqueeze(1)).squeeze(1)
        torch.testing.assert_close(found, expected, atol=LOGPROBS, rtol=0)


def assert_logits(runner: Runner, model, tokens: list[int], pieces: Iterable[int] = ()) -> None:
    """After the prompt, computed in pieces and then what is left at once, and after each of a few tokens more."""
    sequence = Sequence(Request("a", tokens, SamplingParams()))
    sequence.block_table = list(range(-(-(len(tokens) + 8) // 16)))
    expected = oracle_logits(model, [*tokens, *range(8)])
    for count in pieces:
        assert not len(logits(runner, Step([], [Chunk(sequence, count)])))
        sequence.num_computed += count
    for extra in range(8):
        count = sequence.num_uncomputed
        found = logits(runner, Step([sequence], []) if count == 1 else Step([], [Chunk(sequence, count)]))
        torch.testing.assert_close(found, expected[len(tokens) - 1 + extra].unsqueeze(0), atol=LOGITS, rtol=0)
        sequence.num_computed += count
        sequence.token_ids.append(extra)


def logits(runner: Runner, step: Step) -> torch.Tensor:
    found = runner.logits(step)
    assert found is not None
    return found


def test_twenty_prompts_of_the_model_in_the_box():
    """The case that the course shows: 20 prompts × 64 tokens, all in one batch."""
    runner, model = Runner(config(MODEL_IN_THE_BOX)), oracle(MODEL_IN_THE_BOX)
    questions = prompts(20, 2048)
    assert_greedy(model, questions, generate(runner, questions, 64))


@pytest.mark.parametrize("kind", OLD_ROPES)
def test_config_as_older_transformers_wrote_it(kind, tmp_path):
    folder = make_folder(tmp_path)
    old = dict(rope_parameters=None, rope_theta=5000.0, rope_scaling=OLD_ROPES[kind])
    edit_config(folder, **old, torch_dtype="float32", dtype=None)
    runner, model = Runner(config(folder)), oracle(folder)
    assert_logits(runner, model, list(range(200)))
    assert_tokens_and_logprobs(runner, model)


def test_of_two_ways_to_say_it_the_older_one_counts(tmp_path):
    folder = make_folder(tmp_path, **ARCHITECTURES["rope llama3"])
    edit_config(folder, rope_scaling=dict(type="linear", factor=3.0), rope_theta=7000.0)
    assert_logits(Runner(config(folder)), oracle(folder), list(range(200)))


# ---- beyond the model's own context ---------------------------------------------------------------------------------


def stretched(kind: str) -> dict:
    rope = dict(rope_type=kind, rope_theta=10_000.0, factor=4.0)
    return dict(max_position_embeddings=48, rope_parameters=rope)


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory) -> tuple[Path, list[list[int]], list[list[tuple[int, float]]]]:
    """A model with dynamic RoPE; questions, of which some are longer than its own context; transformers' answers."""
    folder = make_folder(tmp_path_factory.mktemp("dynamic"), **stretched("dynamic"))
    questions, model = prompts(10, 307), oracle(folder)
    return folder, questions, [token_by_token(model, question, 32) for question in questions]


def token_by_token(model, question: list[int], count: int) -> list[tuple[int, float]]:
    """The result of transformers' `generate`, whose frequencies depend on the sequence's length at each pass."""
    with torch.inference_mode():
        model(torch.tensor([[0]]))  # a short sequence: forget the length of the one before
        answer, cache, tokens = [], None, question
        for _ in range(count):
            out = model(torch.tensor([tokens]), past_key_values=cache, use_cache=True)
            logprobs, cache = out.logits[0, -1].log_softmax(-1), out.past_key_values
            tokens = [int(logprobs.argmax())]
            answer.append((tokens[0], float(logprobs[tokens[0]])))
    return answer


@pytest.mark.parametrize("name", SIZES_OF_BATCHES)
def test_dynamic_rope_beyond_the_models_own_context(name, dynamic):
    """Whatever else is in the batch, and whether a prompt is computed whole, in pieces or again."""
    folder, questions, expected = dynamic
    assert min(map(len, questions)) + 32 < 48 < max(map(len, questions))
    runner = Runner(config(folder))
    assert runner.max_model_len == 4 * 48
    answers = generate_with_logprobs(runner, questions, 32, **SIZES_OF_BATCHES[name])
    for answer, other in zip(answers, expected, strict=True):
        assert [token for token, _ in answer] == [token for token, _ in other]
        torch.testing.assert_close([one for _, one in answer], [one for _, one in other], atol=LOGPROBS, rtol=0)


def test_dynamic_rope_shares_no_block_between_prompts_of_two_lengths_beyond_it(dynamic):
    """The same beginning is rotated otherwise in a longer prompt. Each prompt is asked twice, one after another."""
    folder, _, _ = dynamic
    runner, model, text = Runner(config(folder)), oracle(folder), prompts(1, 307, 150)[0] + list(range(100, 200))
    assert runner.own_context == 48
    scheduler = scheduler_for(runner, block_keys=BlockKeys(16, runner.own_context))
    sampling = SamplingParams(max_tokens=16, temperature=0.0, ignore_eos=True, logprobs=0)
    for length, cached in ((100, 0), (100, 96), (70, 0), (48, 0), (40, 32), (49, 0), (100, 96)):
        before = scheduler.stats.prefix_cache_hits
        ((*answer,),) = outputs_of(scheduler, runner, [text[:length]], sampling)
        assert scheduler.stats.prefix_cache_hits - before == cached
        expected = token_by_token(model, text[:length], 16)
        assert [token for token, _ in answer] == [token for token, _ in expected]
        torch.testing.assert_close([one for _, one in answer], [one for _, one in expected], atol=LOGPROBS, rtol=0)


def test_linear_rope_beyond_the_models_own_context(tmp_path):
    folder = make_folder(tmp_path, **stretched("linear"))
    runner, model = Runner(config(folder)), oracle(folder)
    assert runner.max_model_len == 4 * 48
    assert_logits(runner, model, list(range(180)), pieces=[50, 100])
    assert_tokens_and_logprobs(runner, model)


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
def test_other_ropes_name_the_stretched_context_themselves(kind, tmp_path):
    folder = make_folder(tmp_path, **ARCHITECTURES[f"rope {kind}"])
    assert Runner(config(folder)).max_model_len == 512


@pytest.mark.parametrize("kind", LinearKind)
def test_every_way_to_multiply_gives_the_same(kind, tmp_path, monkeypatch):
    """The plain one is what GPUs get; which one a CPU gets depends on the checkpoint and on how PyTorch was built."""
    folder = make_folder(tmp_path, dtype=torch.bfloat16, attention_bias=True)
    monkeypatch.setattr("lab_support.engine.runner.choose", lambda device, dtype, *, from_16_bits: kind)
    runner, model = Runner(config(folder)), oracle(folder)
    assert_logits(runner, model, list(range(70)))
    questions = prompts(4, 307)
    assert_greedy(model, questions, generate(runner, questions, 24, max_num_batched_tokens=9))


def test_which_checkpoints_have_no_more_than_16_bits(tmp_path):
    fine, coarse = make_folder(tmp_path / "fine"), make_folder(tmp_path / "coarse", dtype=torch.bfloat16)
    assert not has_16_bits(ModelFolder.open(fine)) and not has_16_bits(ModelFolder.open(fine, "dummy"))
    assert has_16_bits(ModelFolder.open(coarse)) and has_16_bits(ModelFolder.open(coarse, "dummy"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_decodes_in_16_bits_are_near_float32(dtype):
    """In bfloat16 it is 0.001 to 0.002 with random tokens, whose next ones the model finds hard to say."""
    text = prompts(1, 2048, 200)[0] * 200
    found, expected = (decoded(config(MODEL_IN_THE_BOX, dtype=each), text) for each in (dtype, "float32"))
    distances = (expected.exp() * (expected - found)).sum(-1)
    print(f"{dtype}: {distances.mean():.1e} on average, {distances.max():.1e} at most")
    assert distances.mean() < {"bfloat16": 4e-3, "float16": 1e-4}[dtype]


def decoded(settings, text: list[int]) -> torch.Tensor:
    """Log-probabilities [16 × 8, vocabulary]: 16 sequences of different lengths, 8 given tokens each after a prompt."""
    runner, found = Runner(settings), []
    sequences = [Sequence(Request(number, text[number : 20 + 7 * number], SamplingParams())) for number in range(16)]
    for number, sequence in enumerate(sequences):
        sequence.block_table = list(range(10 * number, 10 * number + 10))
        logits(runner, Step([], [Chunk(sequence, sequence.num_uncomputed)]))
    for step in range(8):
        for sequence in sequences:
            sequence.num_computed = len(sequence.token_ids)
            sequence.token_ids.append(text[sequence.num_computed + step])
        found.append(logits(runner, Step(sequences, [])).log_softmax(-1))
    return torch.cat(found)


def test_bfloat16_is_near_float32(folder):
    """Near-ties flip there, so logits are compared, by their direction."""
    runner, model = Runner(config(folder, dtype="bfloat16")), oracle(folder)
    tokens = list(range(100))
    sequence = Sequence(Request("a", tokens, SamplingParams()))
    sequence.block_table = list(range(7))
    found = logits(runner, Step([], [Chunk(sequence, 100)]))
    assert torch.cosine_similarity(found[0], oracle_logits(model, tokens)[-1], dim=0) > 0.995


# ---- what must not change it ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(folder) -> tuple[list[list[int]], list[list[int]]]:
    """Questions, and their answers each computed alone."""
    runner, questions = Runner(config(folder)), prompts(12, 307)
    answers = [generate(runner, [question], 40)[0] for question in questions]
    assert_greedy(oracle(folder), questions, answers)
    return questions, answers


@pytest.mark.parametrize("name", SIZES_OF_BATCHES)
def test_batch_composition_changes_no_token(name, folder, alone):
    questions, answers = alone
    again = generate(Runner(config(folder)), questions, 40, **SIZES_OF_BATCHES[name])
    assert_greedy(oracle(folder), questions, again)
    differing = sum(one != other for one, other in zip(answers, again, strict=True))
    print(f"{name}: {differing} of {len(questions)} answers differ (from a near-tie on)")


def test_block_size_changes_no_token(folder, alone):
    questions, _ = alone
    again = generate(Runner(config(folder, block_size=4)), questions, 40, block_size=4)
    assert_greedy(oracle(folder), questions, again)


@pytest.mark.parametrize("many_blocks", [1, 1 << 30])
def test_values_are_gathered_or_summed_up_where_they_lie(many_blocks, folder, monkeypatch):
    """Which of the two depends on how many blocks decode together."""
    monkeypatch.setattr("lab_support.engine.attention.MANY_BLOCKS", many_blocks)
    assert_tokens_and_logprobs(Runner(config(folder)), oracle(folder))


def test_a_step_takes_no_new_memory_from_the_kernel():
    """Each layer gathers megabytes. In new memory they would be a page fault every 4,096 bytes: 2,746 a step."""
    runner, sequences = Runner(config(MODEL_IN_THE_BOX, num_gpu_blocks_override=None)), []
    for number in range(64):
        sequence = Sequence(Request(number, [5] * 128, SamplingParams(temperature=0.0)))
        sequence.block_table, sequence.num_computed = list(range(8 * number, 8 * number + 8)), 127
        sequences.append(sequence)
    for _ in range(20):
        runner.run(Step(sequences, []))
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(20):
        runner.run(Step(sequences, []))
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before < 20 * 300


def test_lengths_far_apart_in_one_batch(folder):
    """Decodes of very different lengths are computed in several spans."""
    rng = random.Random(3)
    questions = [[rng.randrange(307) for _ in range(length)] for length in (1, 400, 3, 150, 130, 20, 290, 5)]
    answers = generate(Runner(config(folder)), questions, 30)
    assert_greedy(oracle(folder), questions, answers)


# ---- what the runner refuses ----------------------------------------------------------------------------------------


def test_dummy_weights_come_from_config_json_alone(tmp_path):
    folder = make_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    answers = [generate(Runner(config(folder, load_format="dummy")), [[1, 2, 3]], 5) for _ in range(2)]
    assert answers[0] == answers[1], "data-parallel engine cores would answer differently"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there(folder):
    with pytest.raises(ConfigError, match="--device cuda: got no GPU"):
        Runner(config(folder, device="cuda"))


def test_max_model_len(folder):
    assert Runner(config(folder)).max_model_len == 512
    assert Runner(config(folder, max_model_len=100)).max_model_len == 100
    assert Runner(config(folder, num_gpu_blocks_override=4)).max_model_len == 64
    with pytest.raises(ConfigError, match="at most 512, the model's context"):
        Runner(config(folder, max_model_len=513))
    with pytest.raises(ConfigError, match="at most 64, the capacity of the KV cache"):
        Runner(config(folder, max_model_len=100, num_gpu_blocks_override=4))


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3"])
def test_a_sliding_window_that_is_shorter_than_the_longest_sequence(family, tmp_path):
    """Up to its length every row looks at all before it, and beyond it this engine would do so too: wrongly."""
    folder = make_folder(tmp_path, family=family, sliding_window=100, use_sliding_window=True, max_window_layers=1)
    with pytest.raises(ConfigError, match=r"sliding_window of 100 tokens.* give --max-model-len 100 or less"):
        Runner(config(folder))
    with pytest.raises(ConfigError, match="sliding_window"):
        Runner(config(folder, max_model_len=101))
    runner, model = Runner(config(folder, max_model_len=100)), oracle(folder)
    assert_logits(runner, model, list(range(90)))


def test_the_kv_cache_is_sized_by_itself(folder):
    assert Runner(config(folder, num_gpu_blocks_override=None)).num_blocks == 1024


def test_weights_that_memory_cannot_hold(tmp_path):
    folder = make_folder(tmp_path)
    edit_config(folder, hidden_size=1 << 20, vocab_size=1 << 24)
    with pytest.raises(ConfigError, match=r"GB of free memory, expected at least \d+"):
        Runner(config(folder, load_format="dummy"))


def test_on_a_cpu_the_memory_that_can_be_had_is_also_that_of_the_control_group(tmp_path: Path) -> None:
    """Otherwise weights that fit the machine are loaded until the group's OOM killer comes."""
    group = {"memory.max": "3000000", "memory.current": "1000000", "memory.stat": "inactive_file 250000"}
    own = tree(tmp_path, groups="0::/box\n", mounts={"": ("/", "cgroup2 none rw")}, files={})
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    (tmp_path / "self").symlink_to(own)
    assert available_memory(torch.device("cpu"), tmp_path) == 8000 * 1024
    (tmp_path / "a place/box").mkdir(parents=True)
    for name, text in group.items():
        (tmp_path / "a place/box" / name).write_text(text + "\n")
    assert available_memory(torch.device("cpu"), tmp_path) == 2_250_000

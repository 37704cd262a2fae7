"""Tests for every device of the engine: the CPU, a GPU's code on a simulated device, and a real GPU.

`pytest -m gpu tests/engine` runs the last alone. The real server's part is in tests/server/test_on_a_gpu.py.
"""

import math
from pathlib import Path

import pytest
import torch
import transformers

from lab_support.config import MODEL_IN_THE_BOX, ConfigError
from lab_support.engine.blocks.block_keys import BlockKeys
from lab_support.engine.device import blocks_on_gpu
from lab_support.engine.request import Request, Sequence
from lab_support.engine.runner import Runner
from lab_support.engine.step import Chunk, Step
from lab_support.experiments.model_sizes import SIZES, write_folder
from lab_support.generation import SamplingParams
from lab_support.model_folder import ModelFolder
from tests.engine.devices import CPU, CUDA, ON_ALL, ON_GPUS, ON_REAL, PRETENDED, REAL, Device
from tests.engine.folders import make_folder, oracle, oracle_logits
from tests.engine.greedy import assert_greedy, config, generate, outputs_of, prompts, scheduler_for
from tests.engine.test_model import ARCHITECTURES, stretched, token_by_token
from tests.proofs.pytests import in_full

KINDS = ("grouped queries", "tied embeddings", "biases", "head_dim of its own", "rope llama3", "Qwen2", "Qwen3")
IN_EACH_KIND = [*KINDS[:2], *(pytest.param(kind, marks=in_full) for kind in KINDS[2:])]  # all: test_model.py
SIZES_OF_BATCHES = {
    "all at once": {},
    "in chunks of 7 tokens": dict(max_num_batched_tokens=7),
    "preempted": dict(num_blocks=12),
    "preempted and in chunks": dict(num_blocks=9, max_num_batched_tokens=9),
}
IN_SHORT = ("all at once", "preempted and in chunks")
IN_EACH_SIZE = pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(sizes, id=name, marks=() if name in IN_SHORT else in_full)
        for name, sizes in SIZES_OF_BATCHES.items()
    ],
)
MADE = ("0.1B", "1B", "8B")
EVERYTHING = dict(
    temperature=0.8, top_k=40, top_p=0.9, min_p=0.01, presence_penalty=0.3, frequency_penalty=0.2,
    repetition_penalty=1.1, min_tokens=4, logprobs=3, seed=5, stop_token_ids=(7, 9), ignore_eos=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"), dtype=torch.bfloat16)


def opened_runner(folder: Path, device: Device, dtype: str = "float32", **changes) -> Runner:
    return Runner(config(folder, device=device.flag, dtype=dtype, **changes))


def prompt_logits(runner: Runner, tokens: list[int], pieces: tuple[int, ...] = ()) -> torch.Tensor:
    """float32 [vocabulary], on the host: after the prompt, computed in pieces and then what is left."""
    sequence = Sequence(Request("a", tokens, SamplingParams()))
    sequence.block_table = list(range(-(-len(tokens) // 16)))
    for count in (*pieces, len(tokens) - sum(pieces)):
        found = runner.logits(Step([], [Chunk(sequence, count)]))
        sequence.num_computed += count
    assert found is not None
    return found.cpu()[0]


# ---- float32 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ON_ALL, indirect=True)
@pytest.mark.parametrize("kind", IN_EACH_KIND)
def test_in_float32_logits_and_greedy_tokens_are_those_of_transformers(kind, device, tmp_path):
    folder = make_folder(tmp_path, **ARCHITECTURES[kind])
    runner, model = opened_runner(folder, device), oracle(folder)
    tokens = prompts(1, 307, 100)[0] + list(range(250, 300))
    for pieces in ((), (1, 2, 20, 1)):
        found = prompt_logits(runner, tokens, pieces)
        torch.testing.assert_close(found, oracle_logits(model, tokens)[-1], atol=device.near, rtol=0)
    questions = prompts(4, 307)
    assert_greedy(model, questions, generate(runner, questions, 24), device.near)


@pytest.mark.parametrize("device", ON_ALL, indirect=True)
@IN_EACH_SIZE
def test_in_float32_neither_preemption_nor_mixed_batches_change_a_token(sizes, device, folder):
    questions = prompts(8, 307)
    answers = generate(opened_runner(folder, device), questions, 20, **sizes)
    assert_greedy(oracle(folder), questions, answers, device.near)


@pytest.mark.parametrize("device", ON_ALL, indirect=True)
@IN_EACH_SIZE
def test_in_float32_cached_blocks_change_no_token(sizes, device, folder):
    """Prompts that begin alike, in one batch and then again: blocks of the same step, of others, and of itself."""
    trunk, *others = prompts(5, 307)
    questions = [(trunk * 3)[:length] + other for length, other in zip((40, 40, 64, 75), others, strict=True)]
    runner, sampling = opened_runner(folder, device), SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True)
    scheduler = scheduler_for(runner, **sizes | dict(block_keys=BlockKeys(16), num_blocks=sizes.get("num_blocks", 64)))
    for _ in range(2):
        answers = outputs_of(scheduler, runner, questions, sampling)
        assert_greedy(oracle(folder), questions, [[token for token, _ in answer] for answer in answers], device.near)
    assert scheduler.stats.prefix_cache_hits >= 3 * 32
    assert scheduler.stats.free_blocks == scheduler.stats.total_blocks


@pytest.mark.parametrize("device", ON_GPUS, indirect=True)
def test_in_float32_dynamic_rope_beyond_the_models_own_context(device, tmp_path):
    """In graphs, and in mixed steps, in which a long prompt brings rotations of its own."""
    folder, questions = make_folder(tmp_path, **stretched("dynamic")), prompts(8, 307)
    expected = [[token for token, _ in token_by_token(oracle(folder), question, 20)] for question in questions]
    assert generate(opened_runner(folder, device), questions, 20, max_num_batched_tokens=30) == expected


@pytest.mark.slow
@pytest.mark.parametrize("device", ON_REAL, indirect=True)
def test_in_float32_twenty_prompts_of_the_model_in_the_box(device):
    questions = prompts(20, 2048)
    answers = generate(opened_runner(MODEL_IN_THE_BOX, device), questions, 64)
    assert_greedy(oracle(MODEL_IN_THE_BOX), questions, answers, device.near)


# ---- bfloat16 --------------------------------------------------------------------------------------------------------


def bfloat16_errors(folder: Path, device: Device, texts: list[list[int]]) -> tuple[list[torch.Tensor], float]:
    """transformers' float32 logits for each text [tokens, vocabulary], and the error of its own bfloat16 logits.

    The error on this device is a root mean square. It is the cost of bfloat16 on any device.
    """
    model = oracle(folder)
    exact = [oracle_logits(model, text) for text in texts]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device.torch)
    with torch.inference_mode():
        rounded = [model(torch.tensor([text], device=device.torch)).logits[0].float().cpu() for text in texts]
    return exact, rms(torch.cat([one - other for one, other in zip(exact, rounded, strict=True)]))


def rms(differences: torch.Tensor) -> float:
    return differences.pow(2).mean().sqrt().item()


@pytest.mark.slow
@pytest.mark.parametrize("device", ON_ALL, indirect=True)
@pytest.mark.parametrize("kind", IN_EACH_KIND)
def test_in_bfloat16_logits_are_within_bfloat16_s_error_of_float32_s(kind, device, tmp_path):
    folder = make_folder(tmp_path, **(ARCHITECTURES[kind] | dict(dtype=torch.bfloat16)))
    texts = prompts(16, 307, 120)
    exact, error = bfloat16_errors(folder, device, texts)
    runner = opened_runner(folder, device, "bfloat16")
    found = rms(torch.stack([prompt_logits(runner, text) - one[-1] for text, one in zip(texts, exact, strict=True)]))
    print(f"{found:.4f}, transformers' {error:.4f}")
    assert 0 < found < 2 * error, "0 would be no bfloat16"


@pytest.mark.slow
@pytest.mark.parametrize("device", ON_ALL, indirect=True)
@IN_EACH_SIZE
def test_in_bfloat16_preempted_and_mixed_batches_answer_within_its_error(sizes, device, folder):
    """Near-ties flip, so each token's float32 logit is compared with the best one's: it is no further off than two
    logits that are both wrong by 6 times bfloat16's mean error."""
    questions = prompts(8, 307)
    answers = generate(opened_runner(folder, device, "bfloat16"), questions, 20, **sizes)
    texts = [question + answer for question, answer in zip(questions, answers, strict=True)]
    exact, error = bfloat16_errors(folder, device, texts)
    furthest = 0.0
    for question, answer, logits in zip(questions, answers, exact, strict=True):
        rows = logits[len(question) - 1 : -1]
        chosen = rows.gather(1, torch.tensor(answer).unsqueeze(1)).squeeze(1)
        furthest = max(furthest, (rows.amax(1) - chosen).max().item())
    print(f"furthest below the best {furthest:.4f}, error {error:.4f}")
    assert furthest < 12 * error


# ---- one wait a step -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ON_GPUS, indirect=True)
@pytest.mark.parametrize("asked", [dict(temperature=0.0), dict(temperature=1.0, seed=1), EVERYTHING],
                         ids=["greedy", "drawn", "everything"])  # fmt: skip
def test_a_step_waits_for_the_device_once(asked, device, folder):
    """Prompts in chunks, decodes, and both in one step; every way to sample."""
    runner = opened_runner(folder, device)
    sampling = SamplingParams(max_tokens=12, **({"ignore_eos": True} | asked))
    generate(runner, prompts(3, 307), 12, sampling)  # what is loaded or reserved once
    steps: list[int] = []
    run = runner.run
    runner.run = lambda step: steps.append(len(step.sampling)) or run(step)  # type: ignore[method-assign]
    with device.waits() as waits:
        generate(runner, prompts(8, 307), 12, sampling, max_num_batched_tokens=40)
    assert len(waits) <= len(steps), waits[:5]
    assert waits, "tokens come to the host at some time"


@pytest.mark.parametrize("device", ON_GPUS, indirect=True)
def test_sampled_tokens_are_the_cpu_s(device, folder):
    """A real GPU rounds in another way, so a draw near the border between two tokens may fall on its other side: it is
    let off one answer in five, where about one run in fifty would have one."""
    sampling = SamplingParams(max_tokens=16, **EVERYTHING)
    questions = prompts(5, 307)
    expected = generate(Runner(config(folder, dtype="float32")), questions, 16, sampling)
    found = generate(opened_runner(folder, device), questions, 16, sampling)
    differing = sum(one != other for one, other in zip(expected, found, strict=True))
    assert differing <= (1 if device.name == CUDA else 0), (expected, found)


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_the_kv_cache_gets_what_is_free_less_what_a_step_and_others_need():
    shape = ModelFolder.open(MODEL_IN_THE_BOX).shape
    total, block = 80 * 10**9, 1 << 20

    def blocks(free: int, **choices) -> int:
        return blocks_on_gpu(config(MODEL_IN_THE_BOX, **choices), shape, block, free, total)

    cost = block * (1 + 2 / shape.num_layers)
    assert blocks(70 * 10**9) * cost <= 62 * 10**9, "a tenth of 80 GB is nobody's"
    assert blocks(70 * 10**9) * cost > 61 * 10**9, "and a step of this model needs little"
    assert blocks(70 * 10**9) - blocks(60 * 10**9) == pytest.approx(10**10 / cost, abs=2)
    assert blocks(70 * 10**9) - blocks(70 * 10**9, gpu_memory_utilization=0.5) == pytest.approx(32e9 / cost, abs=2)
    assert blocks(70 * 10**9, max_num_seqs=1024) < blocks(70 * 10**9)
    with pytest.raises(ConfigError, match=r"--gpu-memory-utilization: got 0\.9 with 1000 of 80000000000 bytes free"):
        blocks(1000)


@pytest.mark.parametrize("device", [REAL], indirect=True)
def test_on_a_gpu_the_kv_cache_leaves_free_what_it_was_told_to(device):
    """And it is smaller if other memory is in use: here by a tensor of this process."""
    choices = dict(device=device.flag, num_gpu_blocks_override=None, gpu_memory_utilization=0.5)
    total = torch.cuda.mem_get_info()[1]
    alone = Runner(config(MODEL_IN_THE_BOX, **choices))
    assert 0.45 * total < torch.cuda.mem_get_info()[0] < 0.75 * total, "a step's own tensors have their room, too"
    blocks = alone.num_blocks
    del alone
    held = torch.zeros(8 << 30, dtype=torch.uint8, device="cuda")
    beside = Runner(config(MODEL_IN_THE_BOX, **choices))
    assert beside.num_blocks < blocks
    assert torch.cuda.mem_get_info()[0] > 0.45 * total and held.device.type == "cuda"


# ---- weights that are made, not read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_the_sizes_of_made_models_are_what_their_names_say(name, tmp_path):
    """By the server's own reading of the folder, which holds no weights: some megabytes of text."""
    write_folder(tmp_path / "model", SIZES[name])
    folder = ModelFolder.open(tmp_path / "model", "dummy")
    parameters = sum(math.prod(size) for size in folder.shape.tensors().values())
    assert parameters == pytest.approx(float(name[:-1]) * 1e9, rel=0.36)
    assert parameters == pytest.approx(SIZES[name].parameters, rel=0.001), "but for the norms"
    assert folder.shape.dtype == "bfloat16"
    files = {path.name: path.stat().st_size for path in (tmp_path / "model").iterdir()}
    assert not any(name.endswith("safetensors") for name in files) and sum(files.values()) < 32e6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "size"),
    [(CPU, "0.1B"), (PRETENDED, "tiny"), *(pytest.param(CUDA, size, marks=pytest.mark.gpu) for size in MADE)],
    indirect=["device"],
)
def test_made_weights_are_made_on_the_device_and_nothing_is_written(device, size, tmp_path):
    write_folder(tmp_path / "model", SIZES[size])
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()}
    runner = Runner(config(tmp_path / "model", device=device.flag, load_format="dummy"))
    answers = generate(runner, [[1, 2, 3], list(range(100, 140))], 8)
    assert [len(answer) for answer in answers] == [8, 8]
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()} == before
    if device.name == CUDA:
        assert torch.cuda.memory_allocated() >= 2 * SIZES[size].parameters

"""Milliseconds of a decode step on a GPU, and how near that is to the card's memory bandwidth.

    python -m tests.benchmarks.decode_on_a_gpu [--models 8B,1B,0.1B,box] [--device cuda]

The engine's Runner in this process, without a server: sequences of one length, greedy, weights made on the device. A
step has to read every weight once and the keys and values of every token; these bytes over the step's time are
compared with a copy of 4 GiB, read and written, in the same run. On a CPU (`--device cpu --models tiny`) it is a
rehearsal.
"""

import argparse
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lab_support.config import MODEL_IN_THE_BOX, ServerConfig
from lab_support.engine.request import Request, Sequence
from lab_support.engine.runner import Runner
from lab_support.engine.step import Step
from lab_support.experiments.model_sizes import SIZES, write_folder
from lab_support.generation import SamplingParams
from lab_support.model_folder import ModelFolder, ModelShape

BATCHES, CONTEXTS = (1, 8, 64), (512, 4096)
STEPS, WARM_UP = 24, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="8B,1B,0.1B,box")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    bandwidth = copy_bandwidth(options.device)
    print(f"torch {torch.__version__}, {options.device}: a copy moves {bandwidth / 1e9:.0f} GB/s, read and written")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models.split(","):
            measure(name, Path(folder) / name, options.device, bandwidth)


def copy_bandwidth(device: str) -> float:
    """Bytes a second, the median of ten copies."""
    here = torch.empty(1 << (32 if device == "cuda" else 24), dtype=torch.uint8, device=device)
    there = torch.empty_like(here)

    def copy() -> None:
        there.copy_(here)
        if device == "cuda":
            torch.cuda.synchronize()

    copy()
    return 2 * here.numel() / statistics.median(timed(copy) for _ in range(10))


def timed(action: Callable[[], None]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def measure(name: str, folder: Path, device: str, bandwidth: float) -> None:
    """One model, at each batch and context; a line each."""
    if name == "box":
        folder = MODEL_IN_THE_BOX
    else:
        write_folder(folder, SIZES[name])
    shape = ModelFolder.open(folder, "dummy").shape
    contexts = [min(context, shape.context_length - STEPS - 1) for context in (CONTEXTS if device == "cuda" else (32,))]
    batches = BATCHES if device == "cuda" else (1, 2)
    config = ServerConfig(
        model=folder, load_format="dummy", device=device, max_num_seqs=max(batches),
        max_model_len=max(contexts) + STEPS + 1, gpu_memory_utilization=0.8,
    )  # fmt: skip
    runner = Runner(config)
    for context in contexts:
        for batch in batches:
            seconds = step_seconds(runner, batch, context, config.block_size)
            moved = bytes_of_a_step(shape, batch, context, 2 if device == "cuda" else 4)
            share = moved / seconds / bandwidth
            print(f"{name:>5} {batch:3} × {context:4}: {seconds * 1000:8.3f} ms, {moved / 1e9:7.3f} GB, {share:.1%}")


def step_seconds(runner: Runner, batch: int, context: int, block_size: int) -> float:
    """The median of `STEPS` decode steps of `batch` sequences, from `context` tokens on."""
    blocks_each = -(-(context + STEPS + 1) // block_size)
    free = random.Random(0).sample(range(runner.num_blocks), batch * blocks_each)
    decodes = [a_sequence(number, context, free[number::batch]) for number in range(batch)]
    seconds = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        sampled = runner.run(Step(decodes, []))
        seconds.append(time.perf_counter() - begun)
        for sequence, token in zip(decodes, sampled.token_ids, strict=True):
            sequence.token_ids.append(token)
            sequence.num_computed += 1
    return statistics.median(seconds[WARM_UP:])


def a_sequence(number: int, context: int, blocks: list[int]) -> Sequence:
    sequence = Sequence(Request(number, [number + 1] * context, SamplingParams(temperature=0.0)))
    sequence.block_table, sequence.num_computed = blocks, context - 1
    return sequence


def bytes_of_a_step(shape: ModelShape, batch: int, context: int, item: int) -> int:
    """Every layer's weights and the head's, and the keys and values of every token; embeddings are a few rows."""
    layers = sum(math.prod(size) for name, size in shape.tensors().items() if "layers." in name)
    token = 2 * shape.num_kv_heads * shape.head_dim * shape.num_layers
    return item * (layers + shape.vocab_size * shape.hidden_size + batch * (context + STEPS // 2) * token)


if __name__ == "__main__":
    main()

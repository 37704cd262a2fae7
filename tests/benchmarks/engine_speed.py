"""Tokens per second of the engine's loop and of transformers' `generate`, in alternating rounds of one process.

    python tests/benchmarks/engine_speed.py [--model DIR] [--rounds 5] [--requests 96] [--clients 16]

The engine has one thread and no HTTP around it; 16 requests are always running, a new one as one ends. Transformers
gets the same prompts and lengths sorted into batches of 16, SDPA and its cache, with one thread and with one for
each core; only tokens that were asked for count. The last line is JSON. Not a test: a figure of a busy machine is
worth nothing, so compare within one run.
"""

import argparse
import json
import os
import random
import statistics
import time
from functools import partial
from pathlib import Path

import torch

from lab_support.config import MODEL_IN_THE_BOX, ServerConfig
from lab_support.engine.request import Request
from lab_support.engine.runner import Runner
from lab_support.engine.scheduler import Scheduler
from lab_support.generation import SamplingParams

Work = list[tuple[list[int], int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_IN_THE_BOX)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--without-transformers", action="store_true")
    options = parser.parse_args()
    runner = Runner(ServerConfig(model=options.model))
    work = make_work(options.requests)
    sides = {"engine, 1 thread": lambda: engine(runner, work, options.clients)}
    if not options.without_transformers:
        model = load_transformers(options.model)
        for threads in sorted({1, os.cpu_count() or 1}):
            name = f"transformers, {threads} thread{'s' * (threads > 1)}"
            sides[name] = partial(transformers, model, work, options.clients, threads)
    speeds = measure(sides, options.rounds)
    for name, values in speeds.items():
        print(f"{name:25} {statistics.median(values):7.0f} tokens/s   ({', '.join(f'{v:.0f}' for v in values)})")
    medians = {name: round(statistics.median(values)) for name, values in speeds.items()}
    print(json.dumps({"tokens_per_second": medians, "clients": options.clients, "pss_mib": round(pss_mib())}))


def make_work(count: int) -> Work:
    """(prompt, length of the answer): 4 to 64 tokens each."""
    rng = random.Random(0)
    return [([rng.randrange(3, 2000) for _ in range(rng.randint(4, 64))], rng.randint(4, 64)) for _ in range(count)]


def measure(sides: dict, rounds: int) -> dict[str, list[float]]:
    for side in sides.values():
        side()
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            tokens = side()
            speeds[name].append(tokens / (time.perf_counter() - start))
    return speeds


def engine(runner: Runner, work: Work, clients: int) -> int:
    torch.set_num_threads(1)
    scheduler = Scheduler(
        block_size=16,
        num_blocks=runner.num_blocks,
        max_num_seqs=64,
        max_num_batched_tokens=512,
        max_model_len=runner.max_model_len,
        end_token_ids=runner.end_token_ids,
    )
    requests = iter(
        Request(number, prompt, SamplingParams(max_tokens=length, temperature=0.0, ignore_eos=True))
        for number, (prompt, length) in enumerate(work)
    )
    for _ in range(clients):
        scheduler.add(next(requests))
    while scheduler.has_work():
        step = scheduler.schedule()
        for output in scheduler.update(step, runner.run(step)):
            if output.finish_reason is not None and (request := next(requests, None)):
                scheduler.add(request)
    return scheduler.stats.generation_tokens


def load_transformers(path: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa").eval()


def transformers(model, work: Work, batch_size: int, threads: int) -> int:
    """Sorted by length of the answer, padded on the left: what a user who wants speed would do."""
    torch.set_num_threads(threads)
    ordered = sorted(work, key=lambda item: item[1])
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        longest = max(len(prompt) for prompt, _ in batch)
        tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt, _ in batch])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt, _ in batch])
        length = max(length for _, length in batch)
        with torch.inference_mode():
            model.generate(
                tokens, attention_mask=mask, max_new_tokens=length, do_sample=False, pad_token_id=0, eos_token_id=None
            )
    return sum(length for _, length in work)


def pss_mib() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()

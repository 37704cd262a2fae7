"""Two checkouts' decode steps, side by side: `python -m tests.benchmarks.step --before CHECKOUT [--pairs 20]`.

Each checkout's Runner is in a process of its own with one thread, as in an engine core, and they take turns: a few
steps here, a few there. A turn's figure is the median of its steps' CPU time, because waiting for a busy machine is
nobody's fault; but a busy machine's caches are cold too, so only the ratio of neighbouring turns is worth anything.
Sequences have 128 tokens each. With `--context 64` or so the products count for more, with 512 attention.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parents[2]
DTYPES, ROWS = ("bfloat16", "float32"), (1, 16, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", metavar="CHECKOUT", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--context", type=int, default=128)
    options = parser.parse_args()
    print(f"{'dtype':10}{'rows':>5}{'before, ms':>12}{'now, ms':>10}{'ratio':>8}   half of the ratios are within")
    for dtype in DTYPES:
        with timer(options.before, dtype, options.context) as before, timer(HERE, dtype, options.context) as now:
            for rows in ROWS:
                pairs = [(turn(before, rows), turn(now, rows)) for _ in range(options.pairs)]
                print(line(dtype, rows, pairs), flush=True)


def line(dtype: str, rows: int, pairs: list[tuple[float, float]]) -> str:
    before, now = (statistics.median(side) for side in zip(*pairs, strict=True))
    low, middle, high = statistics.quantiles([b / a for a, b in pairs], n=4)
    return f"{dtype:10}{rows:5}{before * 1e3:12.2f}{now * 1e3:10.2f}{middle:8.2f}   {low:.2f} to {high:.2f}"


@contextmanager
def timer(checkout: Path, dtype: str, context: int) -> Iterator[subprocess.Popen]:
    """A process that times steps of that checkout, which needs no installation."""
    command = [sys.executable, __file__, dtype, str(context)]
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=checkout
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def turn(process: subprocess.Popen, rows: int) -> float:
    """Seconds of CPU time of a step with that many rows."""
    assert process.stdin is not None and process.stdout is not None
    print(rows, file=process.stdin, flush=True)
    return json.loads(process.stdout.readline())


# ---- in each checkout's process, with what every checkout has --------------------------------------------------------


def answer(dtype: str, context: int) -> None:
    import torch

    from lab_support.config import MODEL_IN_THE_BOX, ServerConfig
    from lab_support.engine.runner import Runner
    from lab_support.engine.step import Step

    runner = Runner(ServerConfig(model=MODEL_IN_THE_BOX, device="cpu", dtype=dtype))
    torch.set_num_threads(1)
    steps = {rows: Step(decodes(rows, context), []) for rows in ROWS}
    for question in sys.stdin:
        print(seconds_of(runner, steps[int(question)], 16 if int(question) < 64 else 8), flush=True)


def decodes(count: int, context: int) -> list:
    """Sequences with `context` tokens each, all computed but the last."""
    from lab_support.engine.request import Request, Sequence
    from lab_support.generation import SamplingParams

    found, blocks = [], -(-context // 16)
    for number in range(count):
        tokens = [3 + (7 * number + place) % 2000 for place in range(context)]
        sequence = Sequence(Request(number, tokens, SamplingParams(temperature=0.0)))
        sequence.block_table = list(range(number * blocks, (number + 1) * blocks))
        sequence.num_computed = context - 1
        found.append(sequence)
    return found


def seconds_of(runner, step, count: int) -> float:
    """The first two only warm the caches that the other checkout's turn left cold."""
    taken = []
    for _ in range(2 + count):
        begun = time.thread_time()
        runner.run(step)
        taken.append(time.thread_time() - begun)
    return statistics.median(taken[2:])


if __name__ == "__main__":
    main() if sys.argv[1:2] not in (["bfloat16"], ["float32"]) else answer(sys.argv[1], int(sys.argv[2]))

"""Trains the model in the box on a CPU and writes its folder; every choice is a constant here, and all is seeded.

`python -m data.model.make.train --folder FOLDER`. Matrices learn by Muon, the embedding and the norms by AdamW.
First the model learns to copy random tokens, then to read the corpus. The last steps read rows as long as the
context, so that no position is new to the model.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from data.model.make import tokenizer as vocabulary
from data.model.make.corpus import documents
from data.model.make.llama import Llama, begin_with_an_induction_head

SEED = 2026
COPYING = [(64, 32, 120), (256, 16, 80)]  # (length of a row, rows, steps)
READING = [(256, 16, 800), (512, 8, 500), (2048, 2, 80)]
STEPS, WARM_UP, DECAY_FROM = sum(steps for _, _, steps in COPYING + READING), 40, 0.45
TOKENS = sum(length * count * steps for length, count, steps in COPYING + READING)
MUON_RATE, ADAM_RATE = 0.02, 0.003
DOCUMENTS_FOR_THE_TOKENIZER = 30_000


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made nearly orthogonal by five Newton-Schulz steps (Keller Jordan, 2024)."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        by_shape = itertools.groupby(sorted(group["params"], key=lambda each: each.shape), key=lambda each: each.shape)
        for shape, same in by_shape:
            parameters = list(same)
            updates = torch.stack([self._momentum(each, group["momentum"]) for each in parameters])
            rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, update in zip(parameters, orthogonal(updates), strict=True):
                parameter.add_(update, alpha=-rate)

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        assert parameter.grad is not None
        buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        buffer.lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum)


def orthogonal(matrices: Tensor) -> Tensor:
    """Push the singular values of every matrix (count, rows, columns) towards one."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.bfloat16()
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).float()


def rows(tokenizer: Tokenizer, texts: Iterator[str], length: int) -> Iterator[list[int]]:
    """Rows of `length` + 1 tokens. Each begins with a document, so position 0 is a beginning, as it is in use."""
    while True:
        row: list[int] = []
        while len(row) <= length:
            row += tokenizer.encode(next(texts)).ids
        yield row[: length + 1]


def copying(length: int, count: int) -> tuple[Tensor, Tensor]:
    """`count` rows of random tokens that repeat, and a mask (count, length) of what can be known: the repetitions."""
    ids = torch.empty(count, length + 1, dtype=torch.long)
    known = torch.zeros(count, length, dtype=torch.bool)
    for row in range(count):
        period = int(torch.randint(8, length // 2 + 1, ()))
        once = torch.randint(len(vocabulary.SPECIAL), vocabulary.VOCABULARY, (period,))
        ids[row] = once.repeat(length // period + 2)[: length + 1]
        known[row, period:] = True
    return ids, known


def batches(tokenizer: Tokenizer) -> Iterator[tuple[Tensor, Tensor]]:
    """(ids, mask of what counts) for every step: first copying, which makes recall easy to learn, then reading."""
    for length, count, steps in COPYING:
        for _ in range(steps):
            yield copying(length, count)
    texts = documents(SEED)
    for length, count, steps in READING:
        for _ in range(steps):
            ids = torch.tensor(list(itertools.islice(rows(tokenizer, texts, length), count)))
            yield ids, torch.ones(count, length, dtype=torch.bool)


def loss_of(model: Llama, ids: Tensor, counts: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids[:, :-1])
    return F.cross_entropy(logits.float()[counts], ids[:, 1:][counts])


def rate(step: int) -> float:
    """The share of the full learning rate: a short rise, a plateau, a straight line to zero."""
    decay = (STEPS - step) / (STEPS * (1 - DECAY_FROM))
    return min(1.0, (step + 1) / WARM_UP, decay)


def train(model: Llama, tokenizer: Tokenizer, folder: Path) -> Iterator[dict[str, float]]:
    """Train in place; yields (step, loss, seconds of CPU time) now and then and keeps what there is in `folder`."""
    matrices = [each for name, each in model.named_parameters() if each.ndim == 2 and "embed" not in name]
    others = [each for name, each in model.named_parameters() if each.ndim != 2 or "embed" in name]
    optimizers = [Muon(matrices, MUON_RATE), torch.optim.AdamW(others, ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0)]
    full_rates = [MUON_RATE, ADAM_RATE]
    began, smooth = time.process_time(), 0.0
    for step, (ids, counts) in enumerate(batches(tokenizer)):
        loss = loss_of(model, ids, counts)
        loss.backward()
        for optimizer, full in zip(optimizers, full_rates, strict=True):
            optimizer.param_groups[0]["lr"] = full * rate(step)
            optimizer.step()
            optimizer.zero_grad()
        smooth = loss.item() if step == 0 else 0.95 * smooth + 0.05 * loss.item()
        if step % 25 == 0 or step == STEPS - 1:
            yield {"step": step, "loss": round(smooth, 4), "cpu_seconds": round(time.process_time() - began)}
        if step % 100 == 99 or step == STEPS - 1:
            save(model, folder)


def save(model: Llama, folder: Path) -> None:
    """Write the weights in bfloat16, whole or not at all."""
    weights = {name: each.detach().bfloat16().contiguous() for name, each in model.named_parameters()}
    save_file(weights, folder / "model.part", metadata={"format": "pt"})
    (folder / "model.part").chmod(0o644)
    (folder / "model.part").rename(folder / "model.safetensors")


def run(folder: Path, threads: int) -> None:
    """Make the tokenizer, train, and leave the model and training.jsonl in `folder`."""
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = vocabulary.train(itertools.islice(documents(SEED), DOCUMENTS_FOR_THE_TOKENIZER))
    vocabulary.write(tokenizer, folder)
    model = Llama()
    begin_with_an_induction_head(model)
    with (folder / "training.jsonl").open("w") as log:
        for line in train(model, tokenizer, folder):
            print(json.dumps(line), file=log, flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the model in the box.")
    parser.add_argument("--folder", type=Path, required=True, help="where the model's folder is written")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    run(arguments.folder, arguments.threads)

"""Trains the model in the box on a CPU and writes its folder; every choice is a constant here, and all is seeded.

`python -m data.model.make.train --folder FOLDER`. Matrices learn by Muon, the embedding and the norms by AdamW.
There are six courses. In the first the model learns to copy random tokens and then to read the corpus. In the second
it reads a mixture with more questions, in which words that only the story so far can tell count several times. In the
third some rows are as long as the context, so that no position is new to it. In the fourth it reads more stories again,
because after the third it went on with a question where a story should end. In the fifth it reads more of the stories
that it recalls worst, and more questions about each. In the sixth a word that the story tells counts for less again,
because after the fifth it did not end its own stories but asked about them. `--course 6` goes on from what is there.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from data.model.make import tokenizer as vocabulary
from data.model.make.corpus import EVEN, MANY_HARD, MANY_QUESTIONS, MANY_STORIES, Mix, documents, unmarked
from data.model.make.llama import Llama, begin_with_an_induction_head

SEED = 2026


@dataclass(frozen=True, slots=True)
class Course:
    """`copying`, then `reading`: (length of a row, rows, steps). `rates`: (step, share of the full rate).

    `recall_weight`: how often a token counts that only the story so far can tell.
    """

    seed: int
    mix: Mix
    copying: list[tuple[int, int, int]]
    reading: list[tuple[int, int, int]]
    rates: list[tuple[int, float]]
    recall_weight: float

    @property
    def steps(self) -> int:
        return sum(steps for _, _, steps in self.copying + self.reading)

    @property
    def tokens(self) -> int:
        return sum(length * rows * steps for length, rows, steps in self.copying + self.reading)


COURSES = [
    Course(
        seed=SEED,
        mix=EVEN,
        copying=[(64, 32, 120), (256, 16, 80)],
        reading=[(256, 16, 800), (512, 8, 400)],
        rates=[(0, 0.025), (39, 1.0), (711, 1.0), (1400, 0.207)],
        recall_weight=1.0,
    ),
    Course(
        seed=SEED + 1,
        mix=MANY_QUESTIONS,
        copying=[],
        reading=[(512, 8, 400), (2048, 2, 40)],
        rates=[(0, 0.02), (20, 0.45), (440, 0.0)],
        recall_weight=4.0,
    ),
    Course(
        seed=SEED + 2,
        mix=MANY_QUESTIONS,
        copying=[],
        reading=[(512, 8, 5), (2048, 2, 2)] * 50,
        rates=[(0, 0.02), (20, 0.35), (350, 0.0)],
        recall_weight=4.0,
    ),
    Course(
        seed=SEED + 3,
        mix=MANY_STORIES,
        copying=[],
        reading=[(512, 8, 6), (2048, 2, 1)] * 20,
        rates=[(0, 0.02), (10, 0.25), (140, 0.0)],
        recall_weight=4.0,
    ),
    Course(
        seed=SEED + 4,
        mix=MANY_HARD,
        copying=[],
        reading=[(1024, 4, 6), (2048, 2, 1)] * 130,
        rates=[(0, 0.02), (30, 0.45), (200, 0.45), (910, 0.0)],
        recall_weight=8.0,
    ),
    Course(
        seed=SEED + 5,
        mix=replace(MANY_STORIES, hard=0.3, questions=(1, 2, 3, 3)),
        copying=[],
        reading=[(1024, 4, 6), (2048, 2, 1)] * 20,
        rates=[(0, 0.02), (10, 0.25), (140, 0.0)],
        recall_weight=2.0,
    ),
]
MUON_RATE, ADAM_RATE = 0.02, 0.003
DOCUMENTS_FOR_THE_TOKENIZER = 30_000
WEIGHTS = "model.safetensors"
MARKS = "\x01\x02"


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


def rows(
    tokenizer: Tokenizer, texts: Iterator[str], length: int, weight: float
) -> Iterator[tuple[list[int], list[float]]]:
    """(`length` + 1 tokens, what each counts). A row begins with a document: position 0 is a beginning, as in use."""
    while True:
        ids: list[int] = []
        counts: list[float] = []
        while len(ids) <= length:
            marked = next(texts)
            encoded = tokenizer.encode(unmarked(marked))
            ids += encoded.ids
            counts += weights(marked, encoded.offsets, weight)
        yield ids[: length + 1], counts[: length + 1]


def weights(marked: str, offsets: list[tuple[int, int]], weight: float) -> list[float]:
    """What each token counts: `weight` where it lies between marks, and else 1."""
    inside, between = [], False
    for character in marked:
        if character in MARKS:
            between = character == MARKS[0]
        else:
            inside.append(between)
    return [weight if any(inside[begin:end]) else 1.0 for begin, end in offsets]


def copying(length: int, count: int) -> tuple[Tensor, Tensor]:
    """`count` rows of random tokens that repeat, and what counts: the repetitions, (count, length)."""
    ids = torch.empty(count, length + 1, dtype=torch.long)
    known = torch.zeros(count, length)
    for row in range(count):
        period = int(torch.randint(8, length // 2 + 1, ()))
        once = torch.randint(len(vocabulary.SPECIAL), vocabulary.VOCABULARY, (period,))
        ids[row] = once.repeat(length // period + 2)[: length + 1]
        known[row, period:] = 1
    return ids, known


def batches(course: Course, tokenizer: Tokenizer) -> Iterator[tuple[Tensor, Tensor]]:
    """(ids, what each of them but the first counts) for every step of a course."""
    for length, count, steps in course.copying:
        for _ in range(steps):
            yield copying(length, count)
    texts = documents(course.seed, marked=True, mix=course.mix)
    for length, count, steps in course.reading:
        for _ in range(steps):
            batch = list(itertools.islice(rows(tokenizer, texts, length, course.recall_weight), count))
            yield torch.tensor([ids for ids, _ in batch]), torch.tensor([counts[1:] for _, counts in batch])


def loss_of(model: Llama, ids: Tensor, counts: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids[:, :-1])
    nats = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (nats * counts.flatten()).sum() / counts.sum()


def rate(step: int, points: list[tuple[int, float]]) -> float:
    """The share of the full learning rate, on straight lines between the points."""
    for (begin, low), (end, high) in itertools.pairwise(points):
        if step <= end:
            return low + (high - low) * (step - begin) / (end - begin)
    return points[-1][1]


def train(model: Llama, course: Course, tokenizer: Tokenizer, folder: Path) -> Iterator[dict[str, float]]:
    """Train in place; yields (step, loss, seconds of CPU time) now and then and keeps what there is in `folder`."""
    matrices = [each for name, each in model.named_parameters() if each.ndim == 2 and "embed" not in name]
    others = [each for name, each in model.named_parameters() if each.ndim != 2 or "embed" in name]
    optimizers = [Muon(matrices, MUON_RATE), torch.optim.AdamW(others, ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0)]
    full_rates = [MUON_RATE, ADAM_RATE]
    began, smooth = time.process_time(), 0.0
    for step, (ids, counts) in enumerate(batches(course, tokenizer)):
        loss = loss_of(model, ids, counts)
        loss.backward()
        for optimizer, full in zip(optimizers, full_rates, strict=True):
            optimizer.param_groups[0]["lr"] = full * rate(step, course.rates)
            optimizer.step()
            optimizer.zero_grad()
        smooth = loss.item() if step == 0 else 0.95 * smooth + 0.05 * loss.item()
        if step % 25 == 0 or step == course.steps - 1:
            yield {"step": step, "loss": round(smooth, 4), "cpu_seconds": round(time.process_time() - began)}
        if step % 100 == 99 or step == course.steps - 1:
            save(model, folder)


def save(model: Llama, folder: Path) -> None:
    """Write the weights in bfloat16, whole or not at all."""
    tensors = {name: each.detach().bfloat16().contiguous() for name, each in model.named_parameters()}
    save_file(tensors, folder / "model.part", metadata={"format": "pt"})
    (folder / "model.part").chmod(0o644)
    (folder / "model.part").rename(folder / WEIGHTS)


def run(folder: Path, courses: list[int], threads: int) -> None:
    """Train in `courses` (of 1 to 6) and leave the model and training.jsonl in `folder`."""
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = vocabulary.train(itertools.islice(documents(SEED), DOCUMENTS_FOR_THE_TOKENIZER))
    vocabulary.write(tokenizer, folder)
    model = Llama()
    begin_with_an_induction_head(model)
    with (folder / "training.jsonl").open("w" if 1 in courses else "a") as log:
        for number in courses:
            if number > 1:  # also within one run, so that it makes no difference where one begins
                model.load_state_dict({name: each.float() for name, each in load_file(folder / WEIGHTS).items()})
            for line in train(model, COURSES[number - 1], tokenizer, folder):
                print(json.dumps({"course": number, **line}), file=log, flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the model in the box.")
    parser.add_argument("--folder", type=Path, required=True, help="where the model's folder is written")
    parser.add_argument("--course", type=int, nargs="+", choices=range(1, 7), default=range(1, 7))
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    run(arguments.folder, arguments.course, arguments.threads)

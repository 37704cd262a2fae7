"""Log-probabilities of the prompts' own tokens, computed in the step that computes the prompts.

The logits of all of a step's rows at once would take 260 MB for 512 rows and a vocabulary of 128,000, and their
log-probabilities as much again, so they are made for a few rows at a time. Only the reported values are kept.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from lab_support.engine.linear import pad_rows
from lab_support.engine.logprobs import read, report
from lab_support.engine.model import LlamaModel
from lab_support.engine.step import ROWS_AT_ONCE, Chunk, Scored, Step
from lab_support.engine.transfer import to_device, to_host


class _Row(NamedTuple):
    """A row of the step's batch, and the prompt's next token after it."""

    number: int
    token: int


def score_prompts(model: LlamaModel, hidden: torch.Tensor, step: Step) -> list[Scored]:
    """Scores of each chunk that has some to report. hidden: [rows of the step, hidden], the last layer's output."""
    chunks = [(start, chunk) for start, chunk in _with_first_row(step) if chunk.scored]
    rows = [row for start, chunk in chunks for row in _rows(start, chunk)]
    most = max(_wanted(chunk) for _, chunk in chunks)
    told = iter(to_host(_report(model, hidden, rows, most)))
    return [Scored(chunk.sequence, [read(next(told), _wanted(chunk)) for _ in chunk.scored]) for _, chunk in chunks]


def _with_first_row(step: Step) -> Iterator[tuple[int, Chunk]]:
    start = len(step.decodes)
    for chunk in step.chunks:
        yield start, chunk
        start += chunk.num_tokens


def _rows(start: int, chunk: Chunk) -> list[_Row]:
    sequence = chunk.sequence
    first = start - sequence.num_computed
    return [_Row(first + position, sequence.token_ids[position + 1]) for position in chunk.scored]


def _wanted(chunk: Chunk) -> int:
    return chunk.sequence.sampling.prompt_logprobs or 0


def _report(model: LlamaModel, hidden: torch.Tensor, rows: list[_Row], most: int) -> torch.Tensor:
    """`logprobs.report` of all rows, [rows, …] on the device."""
    parts = []
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[begin : begin + ROWS_AT_ONCE]
        numbers, tokens = zip(*some, strict=True)
        padding = (0,) * (pad_rows(len(some)) - len(some))
        places, chosen = to_device([*numbers, *padding, *tokens], torch.int64, hidden.device).tensor_split(
            [len(some) + len(padding)]
        )
        raw = model.logits(hidden, places)[: len(some)].float().log_softmax(-1)
        parts.append(report(raw, chosen, most))
    return torch.cat(parts)

"""A step's lists turned into the tensors of one forward pass, with one copy to the device.

Rows that can be computed together form a span: decoding sequences of about one length (one row each, block tables
padded to the longest), or one piece of a prompt (many rows of one sequence).
"""

import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch

from lab_support.engine.attention import BlockMemory, Span
from lab_support.engine.decode_inputs import DecodeInputs
from lab_support.engine.kernels import DecodeRows
from lab_support.engine.linear import pad_rows
from lab_support.engine.request import Sequence
from lab_support.engine.rope import Rotations
from lab_support.engine.step import Chunk, Step
from lab_support.engine.transfer import send
from lab_support.model_folder import ModelShape

# One more span costs about as much time as gathering and multiplying this many blocks of padding (included model).
SPAN_COST = 24


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one step, padding rows last.

    token_ids, slots: int64 [rows]; slots say where in the KV cache a row's keys and values go.
    rotations: complex64 [rows, 1, head dim / 2]; with kernels [any number, 1, head dim / 2], indexed by positions,
        int64 [rows].
    decodes: the first rows, if kernels compute them. spans: cover the other rows in order, except the padding.
    sampling_rows: int64 [samples and padding], the rows that need logits; None if those are the first ones.
    With kernels, integers are int32.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    rotations: torch.Tensor
    decodes: DecodeRows | None
    spans: list[Span]
    sampling_rows: torch.Tensor | None


class BatchBuilder:
    """Holds the sizes that all steps share. `padded`: rows are padded to one of a few counts (linear.py).

    inputs: the place of decodes for kernels, which read their blocks in place; None if there are no kernels.
    """

    def __init__(
        self,
        shape: ModelShape,
        memory: BlockMemory,
        *,
        max_model_len: int,
        device: torch.device,
        dtype: torch.dtype,
        padded: bool,
        inputs: DecodeInputs | None,
    ) -> None:
        self._kv_heads, self._group = shape.num_kv_heads, shape.num_heads // shape.num_kv_heads
        self._memory = memory
        self._block_size, self._scratch_block = memory.block_size, memory.scratch_block
        self._device, self._padded, self._inputs = device, padded, inputs
        self._rope = Rotations(shape.rope, shape.head_dim, max_model_len, device)
        self.rotations = self._rope.table
        self.own_context = self._rope.own_context
        # Zeros, then minus infinities: every row's bias is a stretch of this, with a minus infinity at its end for
        # each token that the row may not see. So one gather makes a span's bias (3 µs; comparing and filling took 15).
        longest = max_model_len + memory.block_size
        self._window = torch.zeros(2 * longest, device=device, dtype=dtype)
        self._window[longest:] = float("-inf")
        self._last_zero = longest - 1

    def build(self, step: Step) -> Batch:
        token_ids, positions, slots = self._rows(step)
        rotations = self._with_prompts(step, positions) if self._rope.stretch else self.rotations
        plans, decodes = [], None
        if self._inputs is None:
            plans = [self._plan_decodes(span) for span in _similar(step.decodes)]
        elif step.decodes:
            decodes = self._inputs.put(step.decodes, len(step.decodes)).decodes
        plans += [self._plan_chunk(chunk) for chunk in step.chunks]
        lists = [token_ids, positions, slots, self._sampling_rows(step)]
        for plan in plans:
            lists += (plan.blocks, plan.stretches)
        token_tensor, position_tensor, slot_tensor, sampling_rows, *others = self._tensors(lists)
        return Batch(
            token_ids=token_tensor,
            positions=position_tensor,
            slots=slot_tensor,
            rotations=rotations if self._inputs else rotations.index_select(0, position_tensor),
            decodes=decodes,
            spans=[self._span(*parts) for parts in zip(plans, others[::2], others[1::2], strict=True)],
            sampling_rows=sampling_rows if step.chunks else None,
        )

    def _rows(self, step: Step) -> tuple[list[int], list[int], list[int]]:
        """Token, position and slot of every row. Padding rows write into the scratch block."""
        token_ids, positions, slots = [], [], []
        size = self._block_size
        for sequence in step.decodes:
            position = sequence.num_computed
            token_ids.append(sequence.token_ids[position])
            positions.append(position)
            slots.append(sequence.block_table[position // size] * size + position % size)
        for sequence, count in step.chunks:
            start, table = sequence.num_computed, sequence.block_table
            token_ids += sequence.token_ids[start : start + count]
            positions += range(start, start + count)
            slots += [table[position // size] * size + position % size for position in range(start, start + count)]
        padding = self._padding(len(token_ids))
        return (
            token_ids + [0] * padding,
            positions + [0] * padding,
            slots + [self._scratch_block * size] * padding,
        )

    def _with_prompts(self, step: Step, positions: list[int]) -> torch.Tensor:
        """The table, with long prompts' own rotations appended; their `positions` are changed to point there."""
        tables, length, row = [self.rotations], len(self.rotations), len(step.decodes)
        for sequence, count in step.chunks:
            start = sequence.num_computed
            there = range(start, max(start, min(start + count, sequence.num_prompt)))
            own = self._rope.of_prompt(sequence.num_prompt, there)
            if own is not None:
                tables.append(own)
                positions[row : row + len(own)] = range(length, length + len(own))
                length += len(own)
            row += count
        return torch.cat(tables) if len(tables) > 1 else self.rotations

    def _sampling_rows(self, step: Step) -> list[int]:
        rows = list(range(len(step.decodes)))
        end = len(step.decodes)
        for chunk in step.chunks:
            end += chunk.num_tokens
            if chunk.samples:
                rows.append(end - 1)
        return rows + [0] * self._padding(len(rows))

    def _plan_decodes(self, decodes: list[Sequence]) -> "_Plan":
        blocks_each = max(len(sequence.block_table) for sequence in decodes)
        blocks = []
        for sequence in decodes:
            blocks += sequence.block_table
            blocks += [self._scratch_block] * (blocks_each - len(sequence.block_table))
        stretches = [self._last_zero - sequence.num_computed for sequence in decodes for _ in range(self._kv_heads)]
        return _Plan(len(decodes), 1, blocks, stretches, shared_dim=1)

    def _plan_chunk(self, chunk: Chunk) -> "_Plan":
        start, end = chunk.sequence.num_computed, chunk.sequence.num_computed + chunk.num_tokens
        blocks = chunk.sequence.block_table[: -(-end // self._block_size)]
        stretches = [self._last_zero - position for position in range(start, end)]
        return _Plan(1, chunk.num_tokens, blocks, stretches * self._group, shared_dim=0)

    def _span(self, plan: "_Plan", blocks: torch.Tensor, stretches: torch.Tensor) -> Span:
        tokens_each = len(plan.blocks) // plan.num_sequences * self._block_size
        bias = self._window.unfold(0, tokens_each, 1).index_select(0, stretches)
        return self._memory.span(plan.num_sequences, plan.rows_each, blocks, bias.unsqueeze(plan.shared_dim))

    def _padding(self, rows: int) -> int:
        return pad_rows(rows) - rows if self._padded else 0

    def _tensors(self, lists: list[list[int]]) -> tuple[torch.Tensor, ...]:
        """All lists on the device, in one copy. They go through an array's memory, because torch.tensor is slow
        (14 against 2 µs for 128 numbers)."""
        code, dtype = ("i", torch.int32) if self._inputs else ("q", torch.int64)
        numbers = torch.frombuffer(array.array(code, chain.from_iterable(lists)), dtype=dtype)
        return send(numbers, self._device).split([len(numbers) for numbers in lists])


class _Plan(NamedTuple):
    """A span before its numbers are on the device.

    stretches: the start in the window of each row's bias, once for each head that needs its own. shared_dim: the
    dimension of `Span.bias` that has size 1: query rows when decoding, otherwise key-value heads.
    """

    num_sequences: int
    rows_each: int
    blocks: list[int]
    stretches: list[int]
    shared_dim: int


def _similar(decodes: list[Sequence]) -> Iterator[list[Sequence]]:
    """Cut decodes (shortest first) where padding to the longest would cost more than one more span."""
    start = used = 0
    for end, sequence in enumerate(decodes):
        blocks = len(sequence.block_table)
        if blocks * (end - start) - used > SPAN_COST:
            yield decodes[start:end]
            start, used = end, 0
        used += blocks
    if decodes:
        yield decodes[start:]

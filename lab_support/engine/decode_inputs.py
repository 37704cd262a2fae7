"""The inputs of a decode step on a GPU: token, position, slot of each row, and every sequence's block table.

They have a fixed place in the GPU's memory, as captured graphs need (decode_graphs.py), and a pinned twin on the host,
from which there is one copy per step. On the host a block table is written once and then only appended to: 64 sequences
of 4,096 tokens have 16,384 blocks, of which a step adds 4.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

from lab_support.engine.kernels import DecodeRows
from lab_support.engine.request import Sequence
from lab_support.engine.transfer import pinned


class Inputs(NamedTuple):
    """int32 [rows] each, on the GPU: views of the fixed memory."""

    token_ids: torch.Tensor
    slots: torch.Tensor
    decodes: DecodeRows


class DecodeInputs:
    """For at most `most_rows` sequences. The host's twin may be written again once the step that read it has ended.
    That is when its tokens are on the host, because every step with decodes has some.
    """

    def __init__(
        self, most_rows: int, max_model_len: int, block_size: int, scratch_block: int, device: torch.device
    ) -> None:
        columns = -(-max_model_len // block_size)
        self.most_rows = most_rows
        self._block_size, self._scratch_slot = block_size, scratch_block * block_size
        self._head = 4 * most_rows
        self._here = pinned(torch.zeros(self._head + columns * (most_rows + 1), dtype=torch.int32), device)
        self._there = torch.zeros(len(self._here), dtype=torch.int32, device=device)
        numbers = self._here.numpy()
        self._rows = numbers[: self._head].reshape(4, most_rows)
        self._tables = BlockTables(numbers[self._head :].reshape(columns, most_rows + 1), scratch_block)

    def put(self, decodes: list[Sequence], rows: int) -> Inputs:
        """Put decodes in the first rows. The rest up to `rows` is padding: one token each, in the scratch block."""
        size = self._block_size
        places = self._tables.places(decodes)
        padding = rows - len(decodes)
        positions = [sequence.num_computed for sequence in decodes]
        slots = [
            sequence.block_table[position // size] * size + position % size
            for sequence, position in zip(decodes, positions, strict=True)
        ]
        self._rows[:, :rows] = (
            [sequence.token_ids[position] for sequence, position in zip(decodes, positions, strict=True)]
            + [0] * padding,
            positions + [0] * padding,
            slots + [self._scratch_slot] * padding,
            places + [self.most_rows] * padding,
        )
        columns = max((len(sequence.block_table) for sequence in decodes), default=1)
        used = self._head + columns * (self.most_rows + 1)
        self._there[:used].copy_(self._here[:used], non_blocking=True)
        return self.first(rows)

    def first(self, rows: int) -> Inputs:
        """Views of the first rows, with whatever they hold at the time."""
        head = self._there[: self._head].view(4, self.most_rows)
        token_ids, positions, slots, table_rows = head[:, :rows].unbind(0)
        tables = self._there[self._head :].view(-1, self.most_rows + 1)
        return Inputs(token_ids, slots, DecodeRows(positions, table_rows, tables))


class BlockTables:
    """On the host: one place (a column of `tables`, int32 [blocks, places]) for each sequence, the last for padding."""

    def __init__(self, tables: np.ndarray, scratch_block: int) -> None:
        self._tables = tables
        self._tables[:, -1] = scratch_block
        self._free = list(range(tables.shape[1] - 1))
        self._known: dict[Sequence, _Written] = {}

    def places(self, decodes: list[Sequence]) -> list[int]:
        """The place of each one's block table. Writes the blocks that were added since the last call."""
        if sum(sequence not in self._known for sequence in decodes) > len(self._free):
            self._forget_all_but(decodes)
        return [self._place(sequence) for sequence in decodes]

    def _forget_all_but(self, decodes: Iterable[Sequence]) -> None:
        for sequence in self._known.keys() - set(decodes):
            self._free.append(self._known.pop(sequence).place)

    def _place(self, sequence: Sequence) -> int:
        blocks, known = sequence.block_table, self._known.get(sequence)
        # A sequence that was preempted comes back with another list: the old one's blocks are no longer valid.
        if known is None or known.blocks is not blocks:
            known = _Written(known.place if known else self._free.pop(), blocks, 0)
        if known.written < len(blocks):
            self._tables[known.written : len(blocks), known.place] = blocks[known.written :]
            self._known[sequence] = known._replace(written=len(blocks))
        return known.place


class _Written(NamedTuple):
    """The first `written` blocks of the list `blocks` are in the table at `place`."""

    place: int
    blocks: list[int]
    written: int

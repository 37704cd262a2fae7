"""The rows of a decode step, as the kernels and the batch see them."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """Rows with one token each, whose sequences' blocks are read in place.

    positions: int32 [rows], of each row's token. table_rows: int32 [rows], where in `tables` its block table is.
    tables: int32 [columns, sequences]: a sequence's blocks below each other, so that the first columns of all lie
        together, and a step copies to the GPU only as many as its longest sequence has.
    """

    positions: torch.Tensor
    table_rows: torch.Tensor
    tables: torch.Tensor

    @property
    def count(self) -> int:
        return len(self.positions)

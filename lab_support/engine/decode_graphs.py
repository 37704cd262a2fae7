"""Decode steps as CUDA graphs: captured once for each of a few row counts, and then launched as one.

A step of 32 layers is about 350 launches, which take the host longer than the GPU takes to compute (kernels.py). A
graph repeats them with the same addresses, so everything that changes lies where decode_inputs.py puts it. A step with
a number of rows in between uses the next larger graph, with padding.
"""

from collections.abc import Callable
from typing import Any

import torch

from lab_support.engine.batch import Batch
from lab_support.engine.decode_inputs import DecodeInputs
from lab_support.engine.device import graph_sizes
from lab_support.engine.model import LlamaModel
from lab_support.engine.request import Sequence


class DecodeGraphs:
    """Made once, after weights, KV memory and inputs have been allocated."""

    def __init__(
        self,
        model: LlamaModel,
        inputs: DecodeInputs,
        rotations: torch.Tensor,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        """on_progress: called before each capture."""
        self._inputs = inputs
        self._sizes = graph_sizes(inputs.most_rows)
        device = inputs.put([], inputs.most_rows).token_ids.device
        self._logits = torch.empty(inputs.most_rows, model.vocab_size, device=device)
        pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self._launch: dict[int, Callable[[], None]] = {}
        for rows in reversed(self._sizes):  # the largest first: the others reuse its memory
            on_progress()
            token_ids, slots, decodes = inputs.first(rows)
            batch = Batch(token_ids, decodes.positions, slots, rotations, decodes, [], None)
            self._launch[rows] = _record(model, batch, self._logits[:rows], pool)

    def logits(self, decodes: list[Sequence]) -> torch.Tensor:
        """float32 [len(decodes), vocabulary]: the same memory in every step."""
        rows = next(size for size in self._sizes if size >= len(decodes))
        self._inputs.put(decodes, rows)
        self._launch[rows]()
        return self._logits[: len(decodes)]


def _record(model: LlamaModel, batch: Batch, logits: torch.Tensor, pool: Any) -> Callable[[], None]:
    """The function that computes this batch's logits from now on. They are computed once before the capture, because
    what libraries do at their first call (compile, load, choose) can't be captured."""
    if logits.device.type != "cuda":
        return lambda: _compute(model, batch, logits)
    _compute(model, batch, logits)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        _compute(model, batch, logits)
    return graph.replay


def _compute(model: LlamaModel, batch: Batch, logits: torch.Tensor) -> None:
    logits.copy_(model.forward(batch))

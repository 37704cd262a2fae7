"""A Llama-like decoder: one forward pass over the rows of a mixed batch, in plain torch.

It knows no requests: rows come with a token, a position and a slot in the KV cache, grouped in spans. On a GPU, the
operations between the matrix products are left to kernels.py.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from lab_support.engine.attention import BlockMemory
from lab_support.engine.batch import Batch
from lab_support.engine.kernels import Kernels
from lab_support.engine.linear import Linear
from lab_support.engine.norm import HeadNorm, Norm
from lab_support.model_folder import ModelShape


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer. `qkv` and `gate_up` are several of the checkpoint's matrices in one product.

    head_norm: for queries and keys, before they are rotated; None if the architecture has none.
    """

    attention_norm: Norm
    qkv: Linear
    head_norm: HeadNorm | None
    output: Linear
    mlp_norm: Norm
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Weights:
    """embedding [vocabulary, hidden]; head maps hidden to logits."""

    embedding: torch.Tensor
    layers: list[Layer]
    norm: Norm
    head: Linear


class LlamaModel:
    """Weights and KV memory; `forward` computes a whole step. `kernels`: None unless a GPU can run them."""

    def __init__(self, shape: ModelShape, weights: Weights, memory: BlockMemory, kernels: Kernels | None) -> None:
        self._shape, self._weights, self._memory, self._kernels = shape, weights, memory, kernels
        self.vocab_size = shape.vocab_size
        self._num_rotated = shape.num_heads + shape.num_kv_heads

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [samples, vocabulary], as exact as the weights; writes the rows' keys and values into the KV cache."""
        return self.logits(self.hidden(batch), batch.sampling_rows)

    def hidden(self, batch: Batch) -> torch.Tensor:
        """[rows, hidden]: the last layer's output, before the norm. Writes into the KV cache as `forward` does."""
        weights = self._weights
        x = F.embedding(batch.token_ids, weights.embedding)
        for index, layer in enumerate(weights.layers):
            x = layer.output.add_to(x, self._attention(index, layer, layer.attention_norm(x), batch))
            x = layer.down.add_to(x, self._gate(layer.gate_up(layer.mlp_norm(x))))
        return x

    def logits(self, hidden: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        """Logits [rows, vocabulary] for these rows of the result of `hidden`; for all if `rows` is None."""
        x = hidden if rows is None else hidden.index_select(0, rows)
        return self._weights.head(self._weights.norm(x))

    def _attention(self, index: int, layer: Layer, x: torch.Tensor, batch: Batch) -> torch.Tensor:
        """[rows, heads × head dim]: every row looks at its sequence's rows so far, itself included."""
        shape = self._shape
        qkv = layer.qkv(x).view(x.shape[0], -1, shape.head_dim)
        if layer.head_norm is not None:
            layer.head_norm(qkv[:, : self._num_rotated])
        parts, start = [], 0
        if self._kernels is None:
            _rotate(qkv[:, : self._num_rotated], batch.rotations)
            self._memory.write(index, qkv[:, shape.num_heads :], batch.slots)
        else:
            keys_values = self._memory.layer(index)
            self._kernels.rotate_and_write(qkv, keys_values, batch.rotations, batch.positions, batch.slots)
            if batch.decodes is not None:
                start = batch.decodes.count
                parts.append(self._kernels.attend(qkv[:start], keys_values, batch.decodes, self._memory.block_size))
        queries = qkv[:, : shape.num_heads]
        for span in batch.spans:
            end = start + span.num_sequences * span.rows_each
            parts.append(self._memory.attend(index, queries[start:end], span))
            start = end
        if start < x.shape[0]:
            parts.append(x.new_zeros(x.shape[0] - start, shape.num_heads * shape.head_dim))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        if self._kernels is not None:
            return self._kernels.gate(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)


def _rotate(heads: torch.Tensor, rotations: torch.Tensor) -> None:
    """RoPE in place on heads [rows, heads, head dim], whose pairs lie side by side."""
    if heads.dtype == torch.float32:
        heads.view(torch.complex64).mul_(rotations)
        return
    wide = heads.float()
    wide.view(torch.complex64).mul_(rotations)
    heads.copy_(wide)

"""Rotary position embedding: the angle by which each pair of a head's numbers is rotated at each position.

The pairs lie side by side (Meta's original layout; checkpoint.py converts Hugging Face's halves to it), so that the
rotation is one complex multiplication. The formulas are those of transformers' modeling_rope_utils.py.
"""

import math

import torch

from lab_support.engine.transfer import send
from lab_support.model_folder import Rope


class Rotations:
    """table: complex64 [num_positions, 1, head_dim / 2], e^(i · position · frequency), times yarn's attention factor.

    Under dynamic RoPE the frequencies beyond the model's own context depend on the sequence's length when a token is
    computed. As in transformers, computed tokens are not rotated again. So a generated token's row is the same in every
    sequence, and is in the table, but all of a prompt's tokens are rotated by the length of the prompt.

    own_context: a prompt longer than this has rotations of its own; None if none has.
    """

    def __init__(self, rope: Rope, head_dim: int, num_positions: int, device: torch.device) -> None:
        self._rope, self._head_dim = rope, head_dim
        self._own_context = rope.original_context if rope.kind == "dynamic" else num_positions
        self.stretch = num_positions > self._own_context
        self.own_context = self._own_context if self.stretch else None
        table = self._turned(torch.arange(num_positions), frequencies(rope, head_dim))
        if self.stretch:
            beyond = torch.arange(self._own_context, num_positions)
            table[self._own_context :] = self._turned(beyond, self._stretched(beyond + 1))
        self.table = table.to(device)

    def of_prompt(self, length: int, positions: range) -> torch.Tensor | None:
        """complex64 [positions, 1, head_dim / 2] of a prompt of `length` tokens; None if the table has them."""
        if length <= self._own_context:
            return None
        there = torch.arange(positions.start, positions.stop)
        return send(self._turned(there, self._stretched(torch.tensor([length]))), self.table.device)

    def _stretched(self, lengths: torch.Tensor) -> torch.Tensor:
        """float32 [lengths, head_dim / 2]: the frequencies at each length of the sequence."""
        factor, dim = self._rope.factor, self._head_dim
        grown = factor * lengths / self._own_context - (factor - 1)
        base = self._rope.theta * grown ** (dim / (dim - 2))
        return 1.0 / base.unsqueeze(1) ** _exponents(dim)

    def _turned(self, positions: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
        angles = positions.float().unsqueeze(1) * frequencies
        return torch.polar(torch.full_like(angles, self._rope.attention_factor), angles).unsqueeze(1)


def frequencies(rope: Rope, head_dim: int) -> torch.Tensor:
    """float32 [head_dim / 2]: radians per position, within the model's own context."""
    plain = 1.0 / rope.theta ** _exponents(head_dim)
    if rope.kind == "linear":
        return plain / rope.factor
    if rope.kind == "llama3":
        return _llama3(rope, plain)
    return _yarn(rope, plain, head_dim) if rope.kind == "yarn" else plain


def _exponents(head_dim: int) -> torch.Tensor:
    return torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim


def _llama3(rope: Rope, plain: torch.Tensor) -> torch.Tensor:
    """Long wavelengths are stretched by `factor`, short ones left alone, those in between blended."""
    turns = rope.original_context * plain / (2 * math.pi)
    blend = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blend = blend.clamp(0, 1)
    return (1 - blend) * plain / rope.factor + blend * plain


def _yarn(rope: Rope, plain: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Dimensions that turn often within the original context are left alone, the others stretched by `factor`."""

    def dimension(num_turns: float) -> float:
        return head_dim * math.log(rope.original_context / (num_turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    high = high + 0.001 if low == high else high
    stretched = ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return plain / rope.factor * stretched + plain * (1 - stretched)

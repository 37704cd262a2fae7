"""Rotary position embedding: the angle by which each pair of a head's numbers is turned at each position.

The pairs lie side by side (Meta's original layout; checkpoint.py brings Hugging Face's halves into it), so that the
rotation is one complex multiplication. The formulas are those of transformers' modeling_rope_utils.py.
"""

import math

import torch

from lab_support.model_folder import Rope


def rotations(rope: Rope, head_dim: int, num_positions: int) -> torch.Tensor:
    """complex64 [num_positions, 1, head_dim / 2]: e^(i · position · frequency), times yarn's attention factor."""
    angles = torch.outer(torch.arange(num_positions, dtype=torch.float32), frequencies(rope, head_dim))
    return torch.polar(torch.full_like(angles, rope.attention_factor), angles).unsqueeze(1)


def frequencies(rope: Rope, head_dim: int) -> torch.Tensor:
    """float32 [head_dim / 2]: radians per position.

    "dynamic" stretches only beyond the context that the model was made for, and no sequence here goes beyond it.
    """
    plain = 1.0 / rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    if rope.kind == "linear":
        return plain / rope.factor
    if rope.kind == "llama3":
        return _llama3(rope, plain)
    return _yarn(rope, plain, head_dim) if rope.kind == "yarn" else plain


def _llama3(rope: Rope, plain: torch.Tensor) -> torch.Tensor:
    """Long waves are stretched by `factor`, short ones left alone, those between blended."""
    turns = rope.original_context * plain / (2 * math.pi)
    blend = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blend = blend.clamp(0, 1)
    return (1 - blend) * plain / rope.factor + blend * plain


def _yarn(rope: Rope, plain: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Dimensions that turn often within the original context are left alone, rare ones stretched by `factor`."""

    def dimension(num_turns: float) -> float:
        return head_dim * math.log(rope.original_context / (num_turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    high = high + 0.001 if low == high else high
    stretched = ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return plain / rope.factor * stretched + plain * (1 - stretched)

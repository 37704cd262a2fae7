"""Rotary position embedding as config.json describes it, in every format that transformers has written."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab_support.model_folder.json_object import ModelFolderError, ObjectReader

ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn")


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding: its base, and the scaling of its frequencies for long contexts.

    `attention_factor` multiplies cos and sin; it differs from 1 only for yarn. `original_context` is the context length
    of the model's original training, in tokens.
    """

    kind: str = "default"
    theta: float = 10_000.0
    factor: float = 1.0
    original_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    truncate: bool = True

    def context(self, positions: int) -> int:
        """The longest sequence, in tokens, of a model whose config.json says max_position_embeddings `positions`.

        For linear and dynamic RoPE that number has yet to be scaled; for llama3 and yarn it is already scaled (vLLM's
        config/model.py, _get_and_verify_max_len).
        """
        return int(positions * self.factor) if self.kind in ("linear", "dynamic") else positions


def parse_rope(config: dict[str, Any], source: Path, positions: int) -> Rope:
    """RoPE as transformers 5 writes it (`rope_parameters`) or as older versions do (`rope_theta`, `rope_scaling`).

    positions: max_position_embeddings. If both formats are there, the older one counts, as in transformers.
    """
    given = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(given, dict):
        raise ModelFolderError(f"{source}: got rope parameters {given!r}, expected an object; fix the file")
    kind = _kind(given, source)
    if given.get("partial_rotary_factor", config.get("partial_rotary_factor") or 1.0) != 1.0:
        raise ModelFolderError(f"{source}: got a partial_rotary_factor, expected 1 (the whole head is rotated)")
    read = ObjectReader(given, source)
    theta = read.number("rope_theta", ObjectReader(config, source).number("rope_theta", 10_000.0))
    if kind == "default":
        return Rope(theta=theta)
    original = _original_context(config, read, kind, positions)
    factor = read.number("factor", positions / original if kind == "yarn" else None)
    rope = Rope(kind=kind, theta=theta, factor=factor, original_context=original)
    if kind == "llama3":
        return _llama3(rope, read)
    return _yarn(rope, read, given) if kind == "yarn" else rope


def _kind(given: dict[str, Any], source: Path) -> str:
    if any(isinstance(value, dict) for value in given.values()):
        raise ModelFolderError(
            f"{source}: got rope parameters for {', '.join(given)}, expected the same for all layers; "
            "give another model"
        )
    kind = given.get("rope_type") or given.get("type") or "default"
    if kind not in ROPE_TYPES:
        raise ModelFolderError(f"{source}: got rope type {kind!r}, expected one of {', '.join(ROPE_TYPES)}")
    return kind


def _original_context(config: dict[str, Any], read: ObjectReader, kind: str, positions: int) -> int:
    if kind in ("linear", "dynamic"):  # transformers reads no other number there
        return positions
    name = "original_max_position_embeddings"
    return ObjectReader(config, read.source).size(name, read.size(name, positions))


def _llama3(rope: Rope, read: ObjectReader) -> Rope:
    low, high = read.number("low_freq_factor"), read.number("high_freq_factor")
    return replace(rope, low_freq_factor=low, high_freq_factor=high)


def _yarn(rope: Rope, read: ObjectReader, given: dict[str, Any]) -> Rope:
    def magnitude(weight: float) -> float:
        return 0.1 * weight * math.log(rope.factor) + 1.0 if rope.factor > 1 else 1.0

    attention = magnitude(1.0)
    if given.get("mscale") and given.get("mscale_all_dim"):
        attention = magnitude(read.number("mscale")) / magnitude(read.number("mscale_all_dim"))
    return replace(
        rope,
        beta_fast=read.number("beta_fast", 32.0),
        beta_slow=read.number("beta_slow", 1.0),
        attention_factor=read.number("attention_factor", attention),
        truncate=read.flag("truncate", True),
    )

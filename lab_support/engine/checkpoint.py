"""Weights from a model folder's safetensors files, or random ones, converted to the form that model.py computes with.

The files are mapped, not read: the kernel loads each page as it is converted, and nothing stays mapped.
model_folder.py has checked names, shapes and sizes before this runs.
"""

import mmap
from collections.abc import Callable
from pathlib import Path

import torch

from lab_support.engine.linear import Linear, LinearKind, make
from lab_support.engine.model import Layer, Weights
from lab_support.engine.norm import HeadNorm, Norm, norm_class
from lab_support.model_folder import ModelFolder, ModelShape, StoredTensor

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_OWN_DTYPES = {"float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}

Source = Callable[[str], torch.Tensor]


def has_16_bits(folder: ModelFolder) -> bool:
    """Whether no weight has more than 16 bits; random ones are made in the dtype that config.json names."""
    stored = {tensor.dtype for tensor in folder.stored.values()} or {folder.shape.dtype}
    return stored <= {"F16", "BF16", "float16", "bfloat16"}


def load(
    folder: ModelFolder,
    device: torch.device,
    dtype: torch.dtype,
    kind: LinearKind,
    on_progress: Callable[[], None] = lambda: None,
) -> Weights:
    """All weights on `device` in `dtype`; random ones for a folder without tensors. Runs in engine cores.

    on_progress: called before each tensor is read.
    """
    maps: dict[Path, mmap.mmap] = {}

    def stored(name: str) -> torch.Tensor:
        return _read(folder.stored[name], maps).to(device=device, dtype=dtype, copy=True)

    made = stored if folder.stored else _random_source(folder.shape, device, dtype)

    def source(name: str) -> torch.Tensor:
        on_progress()
        return made(name)

    return _Assembly(folder.shape, source, device, dtype, kind).weights()


def _read(tensor: StoredTensor, maps: dict[Path, mmap.mmap]) -> torch.Tensor:
    """A view of the mapped file. ACCESS_COPY: torch wants writable memory; nobody writes, so no page is copied."""
    if tensor.file not in maps:
        with open(tensor.file, "rb") as opened:
            maps[tensor.file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    dtype = _DTYPES[tensor.dtype]
    count = tensor.nbytes // dtype.itemsize
    return torch.frombuffer(maps[tensor.file], dtype=dtype, count=count, offset=tensor.start).view(tensor.shape)


def _random_source(shape: ModelShape, device: torch.device, dtype: torch.dtype) -> Source:
    """Weights of --load-format dummy: the same in every engine core, so that data-parallel ones answer alike."""
    shapes, own_dtype = shape.tensors(), _OWN_DTYPES.get(shape.dtype, torch.float32)
    generator = torch.Generator(device).manual_seed(0)

    def source(name: str) -> torch.Tensor:
        if name.endswith("norm.weight"):
            return torch.ones(shapes[name], device=device, dtype=dtype)
        weight = torch.empty(shapes[name], device=device, dtype=own_dtype).normal_(std=0.02, generator=generator)
        return weight.to(dtype)

    return source


class _Assembly:
    """Assembles a source's tensors, in the form that this machine computes fastest with."""

    def __init__(
        self, shape: ModelShape, source: Source, device: torch.device, dtype: torch.dtype, kind: LinearKind
    ) -> None:
        self._shape, self._source = shape, source
        self._kind = kind
        self._norm_class = norm_class(device, dtype)

    def weights(self) -> Weights:
        shape, embedding = self._shape, self._source("model.embed_tokens.weight")
        layers = [self._layer(f"model.layers.{index}.") for index in range(shape.num_layers)]
        head = make(self._kind, embedding if shape.tied_embeddings else self._source("lm_head.weight"), None)
        return Weights(embedding, layers, self._norm("model.norm"), head)

    def _layer(self, prefix: str) -> Layer:
        shape, mlp = self._shape, self._shape.mlp_bias
        return Layer(
            attention_norm=self._norm(prefix + "input_layernorm"),
            qkv=self._fused(prefix, ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], shape.qkv_bias),
            head_norm=self._head_norm(prefix) if shape.query_key_norm else None,
            output=self._fused(prefix, ["self_attn.o_proj"], shape.output_bias),
            mlp_norm=self._norm(prefix + "post_attention_layernorm"),
            gate_up=self._fused(prefix, ["mlp.gate_proj", "mlp.up_proj"], mlp),
            down=self._fused(prefix, ["mlp.down_proj"], mlp),
        )

    def _norm(self, name: str) -> Norm:
        return self._norm_class(self._source(name + ".weight"), self._shape.norm_epsilon)

    def _head_norm(self, prefix: str) -> HeadNorm:
        shape, names = self._shape, ("self_attn.q_norm", "self_attn.k_norm")
        query, key = (self._paired(self._source(f"{prefix}{name}.weight")) for name in names)
        weight = torch.cat([query.expand(shape.num_heads, -1), key.expand(shape.num_kv_heads, -1)])
        return HeadNorm(weight, shape.norm_epsilon)

    def _fused(self, prefix: str, names: list[str], has_bias: bool) -> Linear:
        weights = [self._part(f"{prefix}{name}", ".weight") for name in names]
        biases = [self._part(f"{prefix}{name}", ".bias") for name in names] if has_bias else []
        return make(self._kind, torch.cat(weights), torch.cat(biases) if biases else None)

    def _part(self, name: str, kind: str) -> torch.Tensor:
        part = self._source(name + kind)
        return self._paired(part) if name.endswith(("q_proj", "k_proj")) else part

    def _paired(self, weight: torch.Tensor) -> torch.Tensor:
        """Reorder queries' or keys' weights from Hugging Face's layout, which rotates the two halves of a head
        together, into pairs side by side. Both are reordered alike, so their products don't change.
        """
        halves = weight.view(-1, 2, self._shape.head_dim // 2, *weight.shape[1:])
        return halves.transpose(1, 2).reshape(weight.shape)

"""The sizes of a decoder, as config.json gives them, for Llama and its nearest relatives.

They differ from Llama in three ways: which linear layers have a bias, whether queries and keys are normalised, and
which values replace missing keys. The values are those of transformers' configuration_mistral.py,
configuration_qwen2.py and configuration_qwen3.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab_support.model_folder.json_object import ModelFolderError, ObjectReader
from lab_support.model_folder.rope import Rope, parse_rope


@dataclass(frozen=True, slots=True)
class Family:
    """Properties that an architecture fixes, and its defaults for missing keys.

    A string in place of True or False is the key in config.json that decides. window: whether sliding_window counts.
    """

    model_type: str
    qkv_bias: bool | str = False
    output_bias: bool | str = False
    mlp_bias: bool | str = False
    query_key_norm: bool = False
    window: bool | str = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


_QWEN = {"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28}
FAMILIES = {
    "LlamaForCausalLM": Family("llama", "attention_bias", "attention_bias", "mlp_bias"),
    "MistralForCausalLM": Family("mistral", window=True, defaults={"num_key_value_heads": 8, "sliding_window": 4096}),
    "Qwen2ForCausalLM": Family("qwen2", qkv_bias=True, window="use_sliding_window", defaults=_QWEN),
    "Qwen3ForCausalLM": Family(
        "qwen3",
        "attention_bias",
        "attention_bias",
        query_key_norm=True,
        window="use_sliding_window",
        defaults=_QWEN | {"head_dim": 128},
    ),
}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a decoder of Llama's kind; a `ModelShape` that exists makes sense by itself.

    context_length: the longest sequence, in tokens. sliding_window: how many tokens a token attends to, including
    itself; None if to all before it.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    norm_epsilon: float
    rope: Rope
    tied_embeddings: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    query_key_norm: bool
    sliding_window: int | None
    dtype: str

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each tensor that the folder must hold, by Hugging Face's names."""
        tensors: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab_size, self.hidden_size),
            "model.norm.weight": (self.hidden_size,),
        }
        if not self.tied_embeddings:
            tensors["lm_head.weight"] = (self.vocab_size, self.hidden_size)
        for index in range(self.num_layers):
            tensors |= {f"model.layers.{index}.{name}": shape for name, shape in self._layer_tensors().items()}
        return tensors

    def _layer_tensors(self) -> dict[str, tuple[int, ...]]:
        hidden, wide = self.hidden_size, self.intermediate_size
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        products = {
            "self_attn.q_proj": ((queries, hidden), self.qkv_bias),
            "self_attn.k_proj": ((keys, hidden), self.qkv_bias),
            "self_attn.v_proj": ((keys, hidden), self.qkv_bias),
            "self_attn.o_proj": ((hidden, queries), self.output_bias),
            "mlp.gate_proj": ((wide, hidden), self.mlp_bias),
            "mlp.up_proj": ((wide, hidden), self.mlp_bias),
            "mlp.down_proj": ((hidden, wide), self.mlp_bias),
        }
        tensors: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (hidden,)}
        tensors["post_attention_layernorm.weight"] = (hidden,)
        if self.query_key_norm:
            tensors["self_attn.q_norm.weight"] = tensors["self_attn.k_norm.weight"] = (self.head_dim,)
        for name, (shape, has_bias) in products.items():
            tensors[name + ".weight"] = shape
            if has_bias:
                tensors[name + ".bias"] = shape[:1]
        return tensors


def parse_shape(config: dict[str, Any], source: Path) -> ModelShape:
    """The sizes that `config` (a parsed config.json) describes. Raises `ModelFolderError`."""
    family = _family(config, source)
    _check_kind(config, source)
    config = dict(family.defaults) | config
    read = ObjectReader(config, source)
    heads, hidden = read.size("num_attention_heads"), read.size("hidden_size")
    positions = read.size("max_position_embeddings")
    rope = parse_rope(config, source, positions)
    return ModelShape(
        vocab_size=read.size("vocab_size"),
        hidden_size=hidden,
        intermediate_size=read.size("intermediate_size"),
        num_layers=read.size("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=_kv_heads(read, heads),
        head_dim=_head_dim(read, hidden, heads, rope),
        context_length=max(1, rope.context(positions)),
        norm_epsilon=read.number("rms_norm_eps", 1e-6),
        rope=rope,
        tied_embeddings=read.flag("tie_word_embeddings"),
        qkv_bias=_decided(family.qkv_bias, read),
        output_bias=_decided(family.output_bias, read),
        mlp_bias=_decided(family.mlp_bias, read),
        query_key_norm=family.query_key_norm,
        sliding_window=_sliding_window(family, read),
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch."),
    )


def _family(config: dict[str, Any], source: Path) -> Family:
    known = {family.model_type: name for name, family in FAMILIES.items()}
    found = config.get("architectures")
    if not found and config.get("model_type") in known:
        found = [known[config["model_type"]]]
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], str) and found[0] in FAMILIES:
        return FAMILIES[found[0]]
    name = ", ".join(map(str, found)) if isinstance(found, list) and found else config.get("model_type", "none")
    raise ModelFolderError(
        f"{source}: got architecture {name}, expected one of {', '.join(FAMILIES)}; give another model"
    )


def _check_kind(config: dict[str, Any], source: Path) -> None:
    if config.get("hidden_act", "silu") != "silu":
        raise ModelFolderError(f"{source}: got hidden_act {config['hidden_act']!r}, expected 'silu'")
    if config.get("quantization_config"):
        raise ModelFolderError(f"{source}: got quantized weights, expected plain ones; give the unquantized model")


def _kv_heads(read: ObjectReader, heads: int) -> int:
    kv_heads = read.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise ModelFolderError(
            f"{read.source}: got {heads} attention heads over {kv_heads} key-value heads, expected a multiple; "
            "fix the file"
        )
    return kv_heads


def _head_dim(read: ObjectReader, hidden: int, heads: int, rope: Rope) -> int:
    if read.values.get("head_dim") is None and hidden % heads:
        raise ModelFolderError(
            f"{read.source}: got hidden_size {hidden} over {heads} attention heads, expected a multiple; "
            "give head_dim or fix the file"
        )
    head_dim = read.size("head_dim", hidden // heads)
    if head_dim % 2:
        raise ModelFolderError(f"{read.source}: got head_dim {head_dim}, expected an even number; fix the file")
    if rope.kind == "dynamic" and head_dim == 2:
        raise ModelFolderError(f"{read.source}: got head_dim 2 with dynamic RoPE, expected at least 4; fix the file")
    return head_dim


def _decided(answer: bool | str, read: ObjectReader) -> bool:
    return read.flag(answer) if isinstance(answer, str) else answer


def _sliding_window(family: Family, read: ObjectReader) -> int | None:
    if read.values.get("sliding_window") is None or not _decided(family.window, read):
        return None
    layers = read.values.get("layer_types") if isinstance(family.window, str) else None
    some_slide = "sliding_attention" in layers if isinstance(layers, list) else _any_above_full_layers(family, read)
    return read.size("sliding_window") if some_slide else None


def _any_above_full_layers(family: Family, read: ObjectReader) -> bool:
    """Whether any layer uses the window: in Qwen's models the first max_window_layers attend to everything."""
    if not isinstance(family.window, str):
        return True
    full = read.values["max_window_layers"]
    return not isinstance(full, int) or full < read.size("num_hidden_layers")

"""A Hugging Face model folder, read and checked without torch: config.json and the headers of its safetensors files.

Used by the launcher (so that a broken folder is refused before any process is started), by API servers (context
length, end tokens, where the tokenizer is) and by engine cores (which tensor lies where in which file). It reads
no weight: a few kilobytes of JSON and a few file sizes, in a few milliseconds. Only the Llama architecture is known.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_support.config import ConfigError

ARCHITECTURE = "LlamaForCausalLM"
ROPE_TYPES = ("default", "linear", "dynamic", "llama3", "yarn")
ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
LONGEST_HEADER = 100_000_000  # the format's own limit, so that a wrong first 8 bytes can't ask for all memory


class ModelFolderError(ConfigError):
    """The folder can't be served. The text says what was got, what was expected and what to do."""


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding: its base and how its frequencies are stretched for long contexts.

    `attention_factor` multiplies cos and sin; it differs from 1 under yarn only. `original_context` is the context
    length that the model was first trained with, in tokens.
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


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a Llama-architecture decoder; a `ModelShape` that exists makes sense by itself."""

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
    attention_bias: bool
    mlp_bias: bool
    dtype: str

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor that the folder has to hold, by Hugging Face's names."""
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
        weights = {
            "self_attn.q_proj": (queries, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_proj": (wide, hidden),
            "mlp.up_proj": (wide, hidden),
            "mlp.down_proj": (hidden, wide),
        }
        tensors: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (hidden,)}
        tensors["post_attention_layernorm.weight"] = (hidden,)
        for name, shape in weights.items():
            tensors[name + ".weight"] = shape
            if self.attention_bias if name.startswith("self_attn") else self.mlp_bias:
                tensors[name + ".bias"] = shape[:1]
        return tensors


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: `nbytes` bytes of `file` from byte `start` on. dtype is safetensors' name (F32, BF16, …)."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that can be served. `stored` is empty under `--load-format dummy`."""

    path: Path
    shape: ModelShape
    bos_token_id: int | None
    end_token_ids: frozenset[int]
    tokenizer: Path
    stored: Mapping[str, StoredTensor]

    @staticmethod
    def open(path: Path, load_format: str = "auto") -> "ModelFolder":
        """Read and check `path`. Runs in any process. Raises `ModelFolderError` with one sentence."""
        if not path.is_dir():
            raise ModelFolderError(f"--model: got {path}, which is not a folder; give a Hugging Face model folder")
        config = _read_json(path / "config.json")
        shape = parse_shape(config, path / "config.json")
        tokenizer = path / "tokenizer.json"
        if not tokenizer.is_file():
            raise ModelFolderError(f"{path}: got no tokenizer.json, expected one beside config.json; copy it there")
        stored = {} if load_format == "dummy" else find_tensors(path)
        if load_format != "dummy":
            _check_tensors(path, shape.tensors(), stored)
        ends, bos = _special_tokens(path, config, shape.vocab_size)
        return ModelFolder(path, shape, bos, ends, tokenizer, stored)


# ---- config.json ----------------------------------------------------------------------------------------------------


def parse_shape(config: dict[str, Any], source: Path) -> ModelShape:
    """The sizes that `config` (a parsed config.json) describes. Raises `ModelFolderError`."""
    _check_architecture(config, source)
    read = _Reader(config, source)
    heads, hidden = read.size("num_attention_heads"), read.size("hidden_size")
    kv_heads = read.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise ModelFolderError(
            f"{source}: got {heads} attention heads over {kv_heads} key-value heads, expected a multiple; mend the file"
        )
    if config.get("head_dim") is None and hidden % heads:
        raise ModelFolderError(
            f"{source}: got hidden_size {hidden} over {heads} attention heads, expected a multiple; "
            "give head_dim or mend the file"
        )
    head_dim = read.size("head_dim", hidden // heads)
    if head_dim % 2:
        raise ModelFolderError(f"{source}: got head_dim {head_dim}, expected an even number; mend the file")
    context = read.size("max_position_embeddings")
    return ModelShape(
        vocab_size=read.size("vocab_size"),
        hidden_size=hidden,
        intermediate_size=read.size("intermediate_size"),
        num_layers=read.size("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        context_length=context,
        norm_epsilon=read.number("rms_norm_eps", 1e-6),
        rope=parse_rope(config, source, context),
        tied_embeddings=read.flag("tie_word_embeddings"),
        attention_bias=read.flag("attention_bias"),
        mlp_bias=read.flag("mlp_bias"),
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch."),
    )


def _check_architecture(config: dict[str, Any], source: Path) -> None:
    found = config.get("architectures") or ([ARCHITECTURE] if config.get("model_type") == "llama" else [])
    if found != [ARCHITECTURE]:
        name = ", ".join(map(str, found)) if isinstance(found, list) and found else config.get("model_type", "none")
        raise ModelFolderError(f"{source}: got architecture {name}, supported is {ARCHITECTURE}; give another model")
    if config.get("hidden_act", "silu") != "silu":
        raise ModelFolderError(f"{source}: got hidden_act {config['hidden_act']!r}, supported is 'silu'")
    if config.get("quantization_config"):
        raise ModelFolderError(f"{source}: got quantized weights, supported are plain ones; give the unquantized model")


def parse_rope(config: dict[str, Any], source: Path, context: int) -> Rope:
    """RoPE as transformers 5 writes it (`rope_parameters`) or as older versions do (`rope_theta`, `rope_scaling`)."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise ModelFolderError(f"{source}: got rope parameters {given!r}, expected an object; mend the file")
    read = _Reader(given, source)
    kind = given.get("rope_type") or given.get("type") or "default"
    if kind not in ROPE_TYPES:
        raise ModelFolderError(f"{source}: got rope type {kind!r}, supported are {', '.join(ROPE_TYPES)}")
    if given.get("partial_rotary_factor", config.get("partial_rotary_factor") or 1.0) != 1.0:
        raise ModelFolderError(f"{source}: got a partial_rotary_factor, supported is 1 (the whole head is rotated)")
    theta = read.number("rope_theta", _Reader(config, source).number("rope_theta", 10_000.0))
    if kind == "default":
        return Rope(theta=theta)
    original = read.size("original_max_position_embeddings", context)
    factor = read.number("factor", context / original if kind == "yarn" else None)
    rope = Rope(kind=kind, theta=theta, factor=factor, original_context=original)
    if kind == "llama3":
        return _llama3(rope, read)
    return _yarn(rope, read, given) if kind == "yarn" else rope


def _llama3(rope: Rope, read: "_Reader") -> Rope:
    low, high = read.number("low_freq_factor"), read.number("high_freq_factor")
    return Rope("llama3", rope.theta, rope.factor, rope.original_context, low, high)


def _yarn(rope: Rope, read: "_Reader", given: dict[str, Any]) -> Rope:
    def magnitude(weight: float) -> float:
        return 0.1 * weight * math.log(rope.factor) + 1.0 if rope.factor > 1 else 1.0

    attention = magnitude(1.0)
    if given.get("mscale") and given.get("mscale_all_dim"):
        attention = magnitude(read.number("mscale")) / magnitude(read.number("mscale_all_dim"))
    return Rope(
        kind="yarn",
        theta=rope.theta,
        factor=rope.factor,
        original_context=rope.original_context,
        beta_fast=read.number("beta_fast", 32.0),
        beta_slow=read.number("beta_slow", 1.0),
        attention_factor=read.number("attention_factor", attention),
        truncate=read.flag("truncate", True),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Takes typed values out of a parsed JSON object; null counts as missing, as it does in transformers."""

    values: dict[str, Any]
    source: Path

    def size(self, key: str, default: int | None = None) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ModelFolderError(f"{self.source}: got {key} {value!r}, expected a whole number from 1; mend the file")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ModelFolderError(f"{self.source}: got {key} {value!r}, expected a number above 0; mend the file")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise ModelFolderError(f"{self.source}: got {key} {value!r}, expected true or false; mend the file")
        return value

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None and default is None:
            raise ModelFolderError(f"{self.source}: got no {key}, expected one; give a complete config.json")
        return default if value is None else value


def _special_tokens(path: Path, config: dict[str, Any], vocab_size: int) -> tuple[frozenset[int], int | None]:
    """End tokens and the first token. generation_config.json, where there is one, has the last word on the ends."""
    source = path / "generation_config.json"
    generation = _read_json(source) if source.is_file() else {}
    ends = generation.get("eos_token_id")
    ends = config.get("eos_token_id") if ends is None else ends
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    for token in ends:
        if not isinstance(token, int) or not 0 <= token < vocab_size:
            raise ModelFolderError(f"{path}: got eos_token_id {token!r}, expected 0 to {vocab_size - 1}; mend the file")
    bos = config.get("bos_token_id")
    return frozenset(ends), bos if isinstance(bos, int) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        parsed = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelFolderError(f"{path.parent}: got no {path.name}, expected one; give a whole model folder") from None
    except OSError as error:
        raise ModelFolderError(f"{path}: can't be read ({error.strerror}); mend its permissions") from None
    except ValueError as error:
        raise ModelFolderError(f"{path}: got text that is not JSON ({error}); download the file again") from None
    if not isinstance(parsed, dict):
        raise ModelFolderError(f"{path}: got JSON that is not an object, expected an object; download the file again")
    return parsed


# ---- safetensors ----------------------------------------------------------------------------------------------------


def find_tensors(path: Path) -> dict[str, StoredTensor]:
    """Every tensor in the folder's model.safetensors, or in the shards that model.safetensors.index.json names."""
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if single.is_file():
        return read_header(single)
    if not index.is_file():
        raise ModelFolderError(
            f"{path}: got no model.safetensors, expected that or model.safetensors.index.json with its shards; "
            "download the weights, or give --load-format dummy for random ones"
        )
    stored: dict[str, StoredTensor] = {}
    for shard in _shards(index):
        stored |= read_header(shard)
    return stored


def _shards(index: Path) -> list[Path]:
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ModelFolderError(f"{index}: got no weight_map of names, expected one; download the file again")
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if Path(name).name != name or not (index.parent / name).is_file()]
    if missing:
        raise ModelFolderError(
            f"{index.parent}: got {len(names) - len(missing)} of {len(names)} shards; download {missing[0]} as well"
        )
    return [index.parent / name for name in names]


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The table of contents of one safetensors file: 8 bytes of length, that much JSON, then the tensors' bytes."""
    with open(file, "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise _broken(file, f"{size} bytes with a header of {length}")
        text = opened.read(length)
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        return {name: _stored(file, size, 8 + length, name, entry) for name, entry in entries.items()}
    except ModelFolderError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(file, f"a header that can't be read ({error!r})") from None


def _stored(file: Path, size: int, data: int, name: str, entry: dict[str, Any]) -> StoredTensor:
    begin, end = entry["data_offsets"]
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    if not all(isinstance(number, int) and number >= 0 for number in (begin, end, *shape)):
        raise _broken(file, f"offsets {[begin, end]} and shape {list(shape)} for {name}")
    if end > size - data:
        raise _broken(file, f"{size} bytes, expected at least {data + end} ({name} ends there)")
    if dtype in ITEM_SIZES and end - begin != math.prod(shape) * ITEM_SIZES[dtype]:
        raise _broken(file, f"{end - begin} bytes for {name} of shape {list(shape)} in {dtype}")
    return StoredTensor(file, dtype, shape, data + begin, end - begin)


def _broken(file: Path, got: str) -> ModelFolderError:
    return ModelFolderError(f"{file}: truncated or broken safetensors file: got {got}; download it again")


def _check_tensors(path: Path, expected: dict[str, tuple[int, ...]], stored: Mapping[str, StoredTensor]) -> None:
    missing = [name for name in expected if name not in stored]
    if missing:
        raise ModelFolderError(
            f"{path}: got {len(expected) - len(missing)} of {len(expected)} tensors, {missing[0]} is missing; "
            "give weights that belong to this config.json"
        )
    for name, shape in expected.items():
        found = stored[name]
        if found.shape != shape:
            raise ModelFolderError(
                f"{found.file}: got {name} of shape {list(found.shape)}, expected {list(shape)} by config.json; "
                "give weights that belong to this config.json"
            )
        if found.dtype not in ITEM_SIZES:
            raise ModelFolderError(
                f"{found.file}: got {name} in {found.dtype}, supported are {', '.join(ITEM_SIZES)}; convert the weights"
            )

"""Reads and checks the headers of a folder's safetensors files: the place of each tensor. It reads no weights."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_support.model_folder.json_object import ModelFolderError, read_object

ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
LONGEST_HEADER = 100_000_000  # the format's own limit, so that a wrong length can't take all memory


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """The place of a tensor: `nbytes` bytes of `file` from byte `start` on. dtype: safetensors' name (F32, BF16, …)."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


def find_tensors(path: Path) -> dict[str, StoredTensor]:
    """All tensors in the folder's model.safetensors, or in the shards that model.safetensors.index.json names."""
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
    weight_map = read_object(index).get("weight_map")
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


def check_tensors(path: Path, expected: dict[str, tuple[int, ...]], stored: Mapping[str, StoredTensor]) -> None:
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
                f"{found.file}: got {name} in {found.dtype}, expected one of {', '.join(ITEM_SIZES)}; convert it"
            )


def unused_tensors(expected: Mapping[str, object], stored: Mapping[str, StoredTensor]) -> list[str]:
    """Names of stored tensors that the model does not use, except those that older checkpoints hold besides weights."""
    return [
        name for name in stored if name not in expected and name != "lm_head.weight" and not name.endswith(_BUFFERS)
    ]

"""A model folder is read right, and every way of being broken is refused with a sentence that names it."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from lab_support.config import MODEL_IN_THE_BOX, ConfigError
from lab_support.model_folder import ModelFolder, ModelFolderError, Rope, parse_rope, parse_shape

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 20,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
}
SOURCE = Path("config.json")


def shapes(config: dict) -> dict[str, tuple[int, ...]]:
    return parse_shape(config, SOURCE).tensors()


def write_safetensors(file: Path, tensors: dict[str, tuple[int, ...]], dtype: str = "BF16") -> None:
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "tokenizer.json").write_text("{}")
    write_safetensors(tmp_path / "model.safetensors", shapes(CONFIG))
    return tmp_path


def edit(folder: Path, **changes) -> None:
    config = {key: value for key, value in (CONFIG | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))


def shard(folder: Path) -> None:
    """The same weights in two files and an index."""
    names = list(shapes(CONFIG))
    weight_map = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(names)}
    for file in set(weight_map.values()):
        write_safetensors(folder / file, {n: shapes(CONFIG)[n] for n in names if weight_map[n] == file})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


# ---- what it reads --------------------------------------------------------------------------------------------------


def test_the_model_in_the_box():
    folder = ModelFolder.open(MODEL_IN_THE_BOX)
    assert (folder.shape.vocab_size, folder.shape.context_length) == (2048, 2048)
    assert (folder.shape.num_heads, folder.shape.num_kv_heads, folder.shape.head_dim) == (4, 2, 64)
    assert folder.end_token_ids and folder.tokenizer.is_file()


def test_sizes_and_tokens(folder):
    opened = ModelFolder.open(folder)
    shape = opened.shape
    assert (shape.hidden_size, shape.intermediate_size, shape.num_layers) == (8, 12, 2)
    assert (shape.head_dim, shape.norm_epsilon, shape.dtype) == (2, 1e-5, "bfloat16")
    assert (opened.bos_token_id, opened.end_token_ids) == (1, {2})
    assert set(opened.stored) == set(shape.tensors())


def test_stored_tensors_say_where_their_bytes_are(folder):
    opened = ModelFolder.open(folder)
    first, second = list(opened.stored.values())[:2]
    header = int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")
    assert (first.start, first.nbytes) == (8 + header, 2 * math.prod(first.shape))
    assert second.start == first.start + first.nbytes


def test_shards(folder):
    expected = set(ModelFolder.open(folder).stored)
    shard(folder)
    stored = ModelFolder.open(folder).stored
    assert set(stored) == expected
    assert len({tensor.file for tensor in stored.values()}) == 2


def test_generation_config_has_the_last_word_on_end_tokens(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": [4, 5]}')
    assert ModelFolder.open(folder).end_token_ids == {4, 5}
    (folder / "generation_config.json").write_text('{"eos_token_id": null}')
    assert ModelFolder.open(folder).end_token_ids == {2}


def test_a_model_without_end_token(folder):
    edit(folder, eos_token_id=None)
    assert ModelFolder.open(folder).end_token_ids == set()


def test_dummy_weights_need_no_weight_file(folder):
    (folder / "model.safetensors").unlink()
    assert not ModelFolder.open(folder, "dummy").stored


@pytest.mark.parametrize("key", ["num_key_value_heads", "rms_norm_eps", "torch_dtype", "bos_token_id"])
def test_what_may_be_left_out(folder, key):
    edit(folder, **{key: ...})
    shape = ModelFolder.open(folder, "dummy").shape
    assert shape.num_kv_heads == (4 if key == "num_key_value_heads" else 2)


def test_biases_and_untied_heads_are_expected_tensors():
    names = shapes(CONFIG | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True})
    assert names["model.layers.1.self_attn.k_proj.bias"] == (4,)
    assert names["model.layers.0.mlp.down_proj.bias"] == (8,)
    assert "lm_head.weight" not in names
    assert shapes(CONFIG)["lm_head.weight"] == (20, 8)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Rope()),
        ({"rope_theta": 5e5}, Rope(theta=5e5)),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, Rope(theta=5e5)),
        ({"rope_scaling": None, "rope_theta": 5e5}, Rope(theta=5e5)),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}},
            Rope(kind="linear", theta=5e5, factor=2.0, original_context=64),
        ),
        (
            {"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 16, "attention_factor": 1.5}},
            Rope(kind="yarn", factor=4.0, original_context=16, attention_factor=1.5),
        ),
    ],
)
def test_rope_as_old_and_new_configs_write_it(changes, expected):
    assert parse_rope(CONFIG | changes, SOURCE, 64) == expected


def test_it_is_read_without_torch_numpy_or_safetensors():
    code = (
        "import sys; from pathlib import Path; from lab_support.model_folder import ModelFolder;"
        f"ModelFolder.open(Path({str(MODEL_IN_THE_BOX)!r}));"
        "sys.exit(bool({'torch', 'numpy', 'safetensors', 'msgspec'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- what it refuses ------------------------------------------------------------------------------------------------


def refused(folder: Path, text: str) -> None:
    with pytest.raises(ModelFolderError, match=text) as caught:
        ModelFolder.open(folder)
    assert isinstance(caught.value, ConfigError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"architectures": ["GemmaForCausalLM"]},
            "got architecture GemmaForCausalLM, supported are LlamaForCausalLM, Mis",
        ),
        ({"architectures": ..., "model_type": "gpt2"}, "got architecture gpt2, supported are LlamaForCausalLM"),
        ({"architectures": "LlamaForCausalLM"}, "got architecture"),
        ({"hidden_act": "gelu"}, "got hidden_act 'gelu', supported is 'silu'"),
        ({"quantization_config": {"bits": 4}}, "got quantized weights"),
        ({"vocab_size": ...}, "got no vocab_size"),
        ({"max_position_embeddings": ...}, "got no max_position_embeddings"),
        ({"hidden_size": "8"}, "got hidden_size '8', expected a whole number"),
        ({"num_hidden_layers": 0}, "got num_hidden_layers 0"),
        ({"num_hidden_layers": True}, "got num_hidden_layers True"),
        ({"intermediate_size": -1}, "got intermediate_size -1"),
        ({"num_key_value_heads": 3}, "got 4 attention heads over 3 key-value heads"),
        ({"hidden_size": 10}, "got hidden_size 10 over 4 attention heads"),
        ({"head_dim": 3}, "got head_dim 3, expected an even number"),
        ({"rms_norm_eps": "small"}, "got rms_norm_eps 'small'"),
        ({"tie_word_embeddings": "yes"}, "got tie_word_embeddings 'yes'"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "got rope type 'longrope', supported are default, linear"),
        ({"rope_scaling": {"rope_type": "linear"}}, "got no factor"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "got no low_freq_factor"),
        ({"rope_scaling": [1]}, "got rope parameters"),
        ({"partial_rotary_factor": 0.5}, "got a partial_rotary_factor"),
        ({"eos_token_id": 20}, "got eos_token_id 20, expected 0 to 19"),
        ({"vocab_size": 21}, "got model.embed_tokens.weight of shape"),
        ({"num_hidden_layers": 3}, "tensors, model.layers.2"),
        ({"attention_bias": True}, "tensors, model.layers.0.self_attn.q_proj.bias is missing"),
    ],
)
def test_a_config_that_cannot_be_served(folder, changes, text):
    edit(folder, **changes)
    refused(folder, text)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\x00\xff"])
def test_a_config_that_is_not_a_json_object(folder, text):
    (folder / "config.json").write_text(text)
    refused(folder, "config.json: got")


def test_a_config_that_is_not_text(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x80")
    refused(folder, "got text that is not JSON")


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ("config.json", "got no config.json"),
        ("tokenizer.json", "got no tokenizer.json"),
        ("model.safetensors", "got no model.safetensors, .* --load-format dummy"),
    ],
)
def test_a_file_that_is_missing(folder, missing, text):
    (folder / missing).unlink()
    refused(folder, text)


def test_no_folder_at_all(tmp_path):
    refused(tmp_path / "nowhere", "which is not a folder")


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_a_truncated_weight_file(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused(folder, "model.safetensors: truncated or broken")


@pytest.mark.parametrize(
    "header",
    [
        b"not JSON",
        b"[]",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32"}}',
        b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]}}',
        b'{"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}',
    ],
)
def test_a_broken_weight_header(folder, header):
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    refused(folder, "model.safetensors: truncated or broken")


def test_a_header_longer_than_any_memory(folder):
    (folder / "model.safetensors").write_bytes((2**63).to_bytes(8, "little") + bytes(100))
    refused(folder, "truncated or broken")


def test_weights_of_a_type_that_is_not_computed_with(folder):
    write_safetensors(folder / "model.safetensors", shapes(CONFIG), "I16")
    refused(folder, "in I16, supported are F64, F32, F16, BF16")


def test_a_missing_shard(folder):
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "got 1 of 2 shards; download model-00002-of-00002.safetensors")


@pytest.mark.parametrize("index", ["{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', "x"])
def test_a_broken_index(folder, index):
    shard(folder)
    (folder / "model.safetensors.index.json").write_text(index)
    refused(folder, "index.json: got")


def test_an_index_that_points_out_of_the_folder(folder):
    shard(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../config.json"}}')
    refused(folder, "got 0 of 1 shards")

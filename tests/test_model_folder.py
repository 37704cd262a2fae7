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
    assert opened.end_token_ids == {2}
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


BYTE_LEVEL = {"type": "BPE", "vocab": {"a": 0, "b": 3, "</s>": 6}}
UNIGRAM = {"type": "Unigram", "vocab": [["a", 0.0], ["b", -1.0], ["</s>", -2.0]]}


@pytest.mark.parametrize(
    ("files", "end"),
    [
        ({"tokenizer": {"added_tokens": [{"id": 7, "content": "</s>", "special": False}]}}, 7),
        ({"tokenizer": {"model": BYTE_LEVEL}}, 6),
        ({"tokenizer": {"model": UNIGRAM}}, 2),
        ({"tokenizer": {"added_tokens": [{"id": 7, "content": "</s>"}], "model": BYTE_LEVEL}}, 7),
        ({"tokenizer_config": {"eos_token": "</s>", "added_tokens_decoder": {"8": {"content": "</s>"}}}}, 8),
        ({"tokenizer_config": {"eos_token": {"content": "</s>"}}, "added_tokens": {"</s>": 9}}, 9),
        (
            {"tokenizer_config": {}, "special_tokens_map": {"eos_token": {"content": "</s>"}}}
            | {"added_tokens": {"</s>": 9}},
            9,
        ),
        ({"tokenizer_config": {"eos_token": None}, "added_tokens": {"</s>": 9}}, None),
        ({"tokenizer": {"added_tokens": [{"id": 20, "content": "</s>"}]}}, None),  # beyond the vocabulary
        ({}, None),
    ],
)
def test_the_tokenizers_own_end_token_ends_answers_too(folder, files, end):
    for name, content in ({"tokenizer_config": {"eos_token": "</s>"}} | files).items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    assert ModelFolder.open(folder).end_token_ids == ({2} if end is None else {2, end})


@pytest.mark.parametrize(("choice", "ends"), [("auto", {4}), ("vllm", {4}), ("other", {5})])
def test_end_tokens_come_from_the_generation_config_that_is_named(folder, tmp_path_factory, choice, ends):
    (folder / "generation_config.json").write_text('{"eos_token_id": 4}')
    other = tmp_path_factory.mktemp("other")
    (other / "generation_config.json").write_text('{"eos_token_id": [5]}')
    named = str(other) if choice == "other" else choice
    assert ModelFolder.open(folder, generation_config=named).end_token_ids == ends


GENERATION = {"temperature": 1, "top_k": 50, "top_p": 0.9, "max_new_tokens": 7, "min_p": None, "do_sample": False}


def test_sampling_defaults_are_those_of_generation_config(folder, tmp_path_factory):
    file = folder / "generation_config.json"
    assert ModelFolder.open(folder).sampling.given == {}
    file.write_text(json.dumps(GENERATION))
    expected = {"temperature": 1.0, "top_p": 0.9, "top_k": 50, "max_new_tokens": 7}
    sampling = ModelFolder.open(folder).sampling
    assert (sampling.given, sampling.is_limit, sampling.source) == (expected, False, str(file))
    assert ModelFolder.open(folder, generation_config="vllm").sampling.given == {}
    other = tmp_path_factory.mktemp("other") / "generation_config.json"
    other.write_text('{"top_k": 3}')
    for named in (other, other.parent):
        sampling = ModelFolder.open(folder, generation_config=str(named)).sampling
        assert (sampling.given, sampling.is_limit) == ({"top_k": 3}, True)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"temperature": -1}, "got temperature -1, expected a number from 0 to 2; fix the file, or give --gen"),
        ({"temperature": "warm"}, "got temperature 'warm'"),
        ({"top_p": 0}, "got top_p 0"),
        ({"top_k": 1.5}, "got top_k 1.5, expected a whole number from -1"),
        ({"min_p": True}, "got min_p True"),
        ({"repetition_penalty": 0}, "got repetition_penalty 0"),
        ({"max_new_tokens": 0}, "got max_new_tokens 0"),
        ({"eos_token_id": 20}, "got eos_token_id 20, expected 0 to 19"),
        ({"eos_token_id": [1, "2"]}, "got eos_token_id '2'"),
    ],
)
def test_a_generation_config_that_makes_no_sense(folder, values, text):
    (folder / "generation_config.json").write_text(json.dumps(values))
    refused(folder, text)


def test_a_generation_config_that_is_not_there(folder, tmp_path_factory):
    for named, text in ((folder / "nowhere", "--generation-config: got .*nowhere"), (folder, "got no generation_con")):
        with pytest.raises(ModelFolderError, match=text):
            ModelFolder.open(folder, generation_config=str(named))


def test_what_does_not_fit_or_is_not_used_is_noticed(folder):
    assert list(ModelFolder.open(folder).notices()) == []
    beyond = {"added_tokens": [{"id": 20, "content": "[PAD]"}], "model": BYTE_LEVEL}
    (folder / "tokenizer.json").write_text(json.dumps(beyond))
    (folder / "generation_config.json").write_text('{"num_beams": 4, "typical_p": 1.0, "early_stopping": false}')
    norm = "model.layers.0.self_attn.q_norm.weight"
    buffers = {"model.layers.0.self_attn.rotary_emb.inv_freq": (4,)}
    write_safetensors(folder / "model.safetensors", shapes(CONFIG) | buffers | {norm: (2,)})
    notices = list(ModelFolder.open(folder).notices())
    assert len(notices) == 3
    assert "token '[PAD]' with id 20, but the model's vocab_size is 20" in notices[0]
    assert f"tensors that config.json does not name are not used: 1, first {norm}" in notices[1]
    assert "got num_beams, which" in notices[2]


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


def relative(family: str, **changes) -> dict:
    config = {key: value for key, value in CONFIG.items() if key not in ("architectures", "num_key_value_heads")}
    return config | {"model_type": family, "num_attention_heads": 32, "hidden_size": 64} | changes


@pytest.mark.parametrize(
    ("family", "biased", "normalised", "kv_heads", "head_dim"),
    [
        ("llama", "", False, 32, 2),
        ("mistral", "", False, 8, 2),
        ("qwen2", "qkv", False, 32, 2),
        ("qwen3", "", True, 32, 128),
    ],
)
def test_what_relatives_of_llama_fix_and_what_a_missing_key_stands_for(family, biased, normalised, kv_heads, head_dim):
    shape = parse_shape(relative(family), SOURCE)
    names = shape.tensors()
    assert "".join(each for each in "qkvo" if f"model.layers.0.self_attn.{each}_proj.bias" in names) == biased
    assert [names.get(f"model.layers.1.self_attn.{each}_norm.weight") for each in "qk"] == [
        (head_dim,) if normalised else None
    ] * 2
    assert (shape.num_kv_heads, shape.head_dim, shape.mlp_bias) == (kv_heads, head_dim, False)


@pytest.mark.parametrize(
    ("family", "changes", "window"),
    [
        ("llama", {"sliding_window": 9}, None),
        ("mistral", {}, 4096),
        ("mistral", {"sliding_window": None}, None),
        ("mistral", {"sliding_window": 9}, 9),
        ("qwen2", {"sliding_window": 9}, None),
        ("qwen2", {"sliding_window": 9, "use_sliding_window": True}, None),  # from layer 28 on, and there are 2
        ("qwen3", {"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 1}, 9),
        ("qwen3", {"sliding_window": 9, "use_sliding_window": True, "layer_types": ["full_attention"] * 2}, None),
        ("qwen2", {"sliding_window": 9, "use_sliding_window": True, "layer_types": ["sliding_attention"] * 2}, 9),
    ],
)
def test_sliding_windows(family, changes, window):
    assert parse_shape(relative(family, **changes), SOURCE).sliding_window == window


@pytest.mark.parametrize(
    ("rope", "context"),
    [
        ({"type": "linear", "factor": 2.5}, 160),
        ({"rope_type": "dynamic", "factor": 4}, 256),
        ({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 16}, 64),
        ({"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}, 64),
        (None, 64),
    ],
)
def test_the_context_is_the_stretched_one(rope, context):
    for key in ("rope_scaling", "rope_parameters"):
        assert parse_shape(CONFIG | {key: rope, "head_dim": 4}, SOURCE).context_length == context


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
            {"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "default"}},
            Rope(kind="linear", factor=2.0, original_context=64),
        ),
        (
            {
                "original_max_position_embeddings": 16,
                "rope_scaling": {"type": "yarn", "original_max_position_embeddings": 8, "attention_factor": 1.5},
            },
            Rope(kind="yarn", factor=4.0, original_context=16, attention_factor=1.5),
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
            "got architecture GemmaForCausalLM, expected one of LlamaForCausalLM, Mis",
        ),
        ({"architectures": ..., "model_type": "gpt2"}, "got architecture gpt2, expected one of LlamaForCausalLM"),
        ({"architectures": "LlamaForCausalLM"}, "got architecture"),
        ({"hidden_act": "gelu"}, "got hidden_act 'gelu', expected 'silu'"),
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
        ({"rope_scaling": {"rope_type": "longrope"}}, "got rope type 'longrope', expected one of default, linear"),
        ({"rope_scaling": {"rope_type": "linear"}}, "got no factor"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "got no low_freq_factor"),
        ({"rope_scaling": [1]}, "got rope parameters"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "got rope parameters for full_attention"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2}}, "got head_dim 2 with dynamic RoPE"),
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
    refused(folder, "in I16, expected one of F64, F32, F16, BF16")


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

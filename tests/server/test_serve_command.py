"""The arguments of `lab serve`: those of vLLM's command are accepted, with a notice of what they mean here."""

import os
from pathlib import Path

import pytest

from lab_support.config import MODEL_IN_THE_BOX, ServerConfig, words_for
from lab_support.serve_command import read_words
from lab_support.vllm_flags import FOREIGN
from tests.running_server import running_server


def config(*words: str) -> ServerConfig:
    made, said = read_words(list(words))
    assert said == []
    return made


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        read_words(list(words))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("lab serve: error: ")
    assert said.count("\n") == 1
    return said


def test_the_model_may_be_the_first_word_or_the_last() -> None:
    for words in (["here", "--port", "1"], ["--port", "1", "here"], ["--model", "here", "--port", "1"]):
        assert config(*words) == ServerConfig(model=Path("here"), port=1)
    assert config("here", "--model", "here").model == Path("here")
    assert config().model == MODEL_IN_THE_BOX


def test_two_models_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert "got the model here and --model there" in refused(capsys, "here", "--model", "there")
    assert "unrecognized arguments: there" in refused(capsys, "here", "there")


def test_names_have_dashes_or_underscores() -> None:
    assert config("--max_model_len", "256", "--max_num_seqs=3", "--no-restart_api_servers") == ServerConfig(
        max_model_len=256, max_num_seqs=3, restart_api_servers=False
    )
    assert config("--served-model-name", "a_b").served_model_name == ("a_b",), "a value is left as it is"


@pytest.mark.parametrize(
    ("text", "number"), [("1k", 1000), ("1K", 1024), ("25.6k", 25600), ("2m", 2_000_000), ("1M", 1 << 20), ("7", 7)]
)
def test_counts_as_vllm_writes_them(text: str, number: int) -> None:
    assert config("--max-model-len", text).max_model_len == number
    assert config("--max-num-batched-tokens", text).max_num_batched_tokens == number


def test_a_model_length_that_fits_is_the_default() -> None:
    assert config("--max-model-len", "auto") == config("--max-model-len", "-1") == ServerConfig()


@pytest.mark.parametrize("text", ["many", "1.5K", "1.0001k", "k", "1x", "", "--port"])
def test_no_count(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--max-num-seqs" in refused(capsys, "--max-num-seqs", text)


def test_short_names_and_other_words_for_values() -> None:
    assert config("-asc", "3", "-dp", "2") == ServerConfig(api_server_count=3, data_parallel_size=2)
    assert config("--dtype", "half").dtype == config("--dtype=float16").dtype == "float16"
    assert config("--dtype", "float") == config("--dtype", "float32")
    assert config("--load-format", "safetensors") == config("--load-format=safetensors") == ServerConfig()
    assert config("--enforce-eager").enforce_eager
    assert not config("--no-enforce-eager").enforce_eager


def test_flags_of_vllm_that_change_nothing_are_said_one_by_one() -> None:
    words = "-tp 1 --disable-log-requests --swap-space 4 -O3 -cc.mode 3 --cuda-graph-sizes 1 2 4"
    made, said = read_words([*words.split(), "--tensor_parallel_size=1", "here", "--port", "1"])
    assert made == ServerConfig(model=Path("here"), port=1)
    assert [line.split(": ")[0] for line in said] == [
        "-tp",
        "--disable-log-requests",
        "--swap-space",
        "-O",
        "-cc",
        "--cuda-graph-sizes",
        "--tensor-parallel-size",
    ]
    assert all("accepted, but changes nothing here: " in line for line in said)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-tp", "2"], "-tp: got 2, expected 1: each engine core has one GPU here"),
        (["--kv-cache-dtype=fp8"], "--kv-cache-dtype: got fp8, expected auto"),
        (["--quantization", "awq"], "--quantization: weights are used as they are here"),
        (["--seed", "7"], "--seed: each request has its own random numbers here"),
        (["--enable_lora"], "--enable-lora: adapters are not supported here"),
        (["--no-such-flag"], "unrecognized arguments: --no-such-flag (lab serve --help names all)"),
        (["--port", "99999"], "--port: got 99999"),
        (["--dtype", "int4"], "invalid choice: 'int4'"),
        (["--served-model-name", ""], "--served-model-name: got an empty name"),
        (["--frontend", "nginx"], "--frontend: got 'nginx', expected lab, vllm-rs or vllm-rs:PATH"),
        (["--frontend", "vllm-rs", "--accept", "handoff"], "use --accept shared"),
        (["--frontend", "vllm-rs", "--api-key", "one", "two"], "--api-key: got 2 keys, but vllm-rs takes several on"),
    ],
)
def test_what_would_change_something_is_refused_with_the_reason(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in refused(capsys, *words)


def test_no_flag_of_vllm_hides_one_of_ours() -> None:
    own = {"--" + name.replace("_", "-") for name in ServerConfig.__dataclass_fields__}
    assert not own & set(FOREIGN)
    assert all(each.why and not each.why.endswith(".") for each in FOREIGN.values())


def test_the_words_of_a_config_make_it_again() -> None:
    choices = {"served_model_name": ("a", "b"), "api_key": ("x", "y"), "allowed_origins": ("*",), "max_model_len": 9}
    assert config(*words_for(choices)) == ServerConfig(**choices)


@pytest.mark.parametrize("given", [".", "..", "../my-model", "inside/.."])
def test_a_folder_has_a_name_however_it_is_given(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "my-model" / "inside"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside if given == ".." else inside.parent)
    assert ServerConfig(model=Path(given)).model_name == "my-model"


def test_a_link_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "4f2a9").mkdir()
    os.symlink(tmp_path / "4f2a9", tmp_path / "my-model")
    assert ServerConfig(model=tmp_path / "my-model").model_name == "my-model"
    assert ServerConfig(model=Path("/")).model_name == "model"


def test_several_names_and_keys_and_vllms_own_words() -> None:
    words = ["-tp", "1", "--disable-log-requests", "--enforce-eager", "--trust-remote-code"]
    names, keys = ("first", "second"), ("one", "two")
    with running_server(
        *words, served_model_name=names, api_key=keys, api_server_count=1, load_format="dummy"
    ) as server:
        for key, status in (("one", 200), ("two", 200), ("three", 401), ("one two", 401)):
            answer = server.get("/v1/models", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == status
        allowed = {"headers": {"authorization": "Bearer two"}}
        cards = server.get("/v1/models", **allowed).json()["data"]
        assert [(card["id"], card["root"]) for card in cards] == [("first", "first"), ("second", "first")]
        for name in names:
            answer = server.post("/v1/completions", {"model": name, "prompt": "a"}, **allowed)
            assert answer.json()["model"] == "first"
            assert server.get(f"/v1/models/{name}", **allowed).json()["id"] == name
        refused = server.post("/v1/completions", {"model": "third", "prompt": "a"}, **allowed)
        assert "served is 'first' or 'second'" in refused.json()["error"]["message"]
        for word in words[:3:2]:
            assert server.said().count(f"{word}: accepted, but changes nothing here: ") == 1

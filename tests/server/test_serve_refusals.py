"""A start that can't work is refused in one clear sentence with exit code 2, and leaves nothing."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from tests.running_server import launched, running_server


def refusal(*words: str, env: dict[str, str] | None = None, **choices: object) -> str:
    """The refusal of `lab serve`; it must be one line, and no file may be left afterwards."""
    with launched(*words, env=env, **choices) as (process, ready, log, directory):
        assert ready.read() == ""
        assert process.wait(30) == 2
        assert list(directory.iterdir()) == []
        said = [line for line in log.read_text().splitlines() if " INFO " not in line]
    assert len(said) == 1, said
    assert "Traceback" not in "".join(said)
    return said[-1]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the model in the box, to be broken."""
    return Path(shutil.copytree(MODEL_IN_THE_BOX, tmp_path / "copy", ignore=shutil.ignore_patterns("make")))


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}: Address already in use" in refusal(port=port)


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("port", 70000, "got 70000, expected 0"),
        ("api-server-count", 0, "--api-server-count: got 0, expected at least 1"),
        ("dtype", "int4", "invalid choice: 'int4'"),
        ("max-num-seqs", "many", "got 'many', expected a whole number"),
        ("port", "1k", "invalid int value: '1k'"),
        ("max-model-len", 100_000, "--max-model-len: got 100000, expected at most"),
        ("ready-fd", 999, "--ready-fd: got 999, which is not open here"),
        ("host", "256.1.1.1", "--host: got '256.1.1.1'"),
        ("no-such-flag", 1, "unrecognized arguments: --no-such-flag"),
    ],
)
def test_a_flag_that_makes_no_sense(flag: str, value: object, says: str) -> None:
    assert says in refusal(f"--{flag}", str(value))


@pytest.mark.parametrize("running", ["shared", "reuseport"])
def test_a_second_server_on_a_port_that_is_served(running: str) -> None:
    """With SO_REUSEPORT alone the second one would start and take half the connections."""
    with running_server(accept=running, api_server_count=1, load_format="dummy") as server:
        port = server.url.rsplit(":", 1)[1]
        assert f"port {port}: Address already in use" in refusal(port=port, accept="reuseport")


def test_sockets_of_their_own_on_a_path() -> None:
    assert "Unix sockets have no SO_REUSEPORT" in refusal(accept="reuseport", uds="/tmp/never-made")


def test_a_start_method_that_there_is_not() -> None:
    said = refusal(env={"LAB_START_METHOD": "vfork"})
    assert said.endswith("LAB_START_METHOD: got 'vfork' as a start method, expected one of spawn, forkserver, fork")


def test_a_device_that_is_not_there() -> None:
    torch = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"], capture_output=True
    )
    if torch.stdout == b"True\n":
        pytest.skip("this machine has a GPU")
    assert "--device cuda" in refusal(device="cuda")


def test_a_folder_that_is_not_there() -> None:
    assert "/nowhere" in refusal(model="/nowhere")


def test_a_folder_without_a_config(model: Path) -> None:
    (model / "config.json").unlink()
    assert "config.json" in refusal(model=model)


def test_another_architecture_is_named(model: Path) -> None:
    config = json.loads((model / "config.json").read_text()) | {"architectures": ["FalconForCausalLM"]}
    (model / "config.json").write_text(json.dumps(config | {"model_type": "falcon"}))
    said = refusal(model=model)
    assert "FalconForCausalLM" in said
    assert "LlamaForCausalLM" in said


def test_a_sliding_window_that_would_count(model: Path) -> None:
    """The engine core sees it, which knows how long sequences can be."""
    config = json.loads((model / "config.json").read_text()) | {"architectures": ["MistralForCausalLM"]}
    (model / "config.json").write_text(json.dumps(config | {"model_type": "mistral", "sliding_window": 100}))
    said = refusal(model=model)
    assert "got a sliding_window of 100 tokens" in said and "--max-model-len 100" in said


def test_sampling_defaults_that_make_no_sense(model: Path) -> None:
    (model / "generation_config.json").write_text('{"top_p": 7}')
    assert "generation_config.json: got top_p 7, expected a number from" in refusal(model=model)


def test_code_of_a_folder_is_never_run(model: Path) -> None:
    """The flag that would allow it is refused there, and accepted where there is none."""
    (model / "modeling.py").write_text(f"open({str(model / 'was-run')!r}, 'w')")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "modeling.Model"}}))
    said = refusal("--trust-remote-code", model=model)
    assert "--trust-remote-code" in said
    assert "config.json names code of the folder's own (auto_map)" in said
    with running_server(model=model, load_format="dummy", api_server_count=1) as server:
        assert server.post("/v1/completions", {"prompt": "a"}).ok
    assert not (model / "was-run").exists()


def test_a_flag_of_vllm_that_would_change_something_is_refused_with_the_reason(model: Path) -> None:
    assert "--quantization: weights are used as they are here" in refusal("--quantization", "awq")
    assert "-tp: got 2, expected 1: each engine core has one GPU here" in refusal(str(model), "-tp", "2")


def test_a_truncated_safetensors_file(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "model.safetensors" in refusal(model=model)


def test_a_broken_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").write_text("{}")
    assert "tokenizer.json" in refusal(model=model)


def test_a_full_temporary_folder(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        (small / "filling").write_bytes(bytes(960 * 1024))
        assert "No space left on device" in refusal(env={"TMPDIR": str(small)})
        assert [path.name for path in small.iterdir()] == ["filling"]
    finally:
        subprocess.run(["umount", str(small)], check=True)

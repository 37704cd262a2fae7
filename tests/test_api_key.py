"""Where the key comes from: a flag, a file, the environment; and what is no key."""

from pathlib import Path

import pytest

from lab_support.api_key import ApiKeyError, find_api_key
from lab_support.config import ConfigError, ServerConfig
from tests.running_server import running_server


@pytest.mark.parametrize("text", ["abc", "abc\n", " abc ", "\tabc\r\n"])
def test_white_space_at_the_ends_is_no_part_of_a_key(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    assert find_api_key(text, None, {}) == "abc"
    assert find_api_key(None, str(tmp_path / "key"), {}) == "abc"
    assert find_api_key(None, None, {"VLLM_API_KEY": text}) == "abc"
    assert ServerConfig(api_key=text).api_key == "abc"


def test_the_flags_come_before_the_environment_and_our_variable_before_vllms(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("file")
    both = {"LAB_API_KEY": "lab", "VLLM_API_KEY": "vllm"}
    assert find_api_key("flag", None, both) == "flag"
    assert find_api_key(None, str(tmp_path / "key"), both) == "file"
    assert find_api_key(None, None, both) == "lab"
    assert find_api_key(None, None, {}) is None


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_an_empty_key_is_refused_wherever_it_stands(text: str, tmp_path: Path) -> None:
    """A secret that was not filled in must not make an open server."""
    (tmp_path / "key").write_text(text)
    for given, file, environment, where in (
        (text, None, {}, "--api-key: "),
        (None, str(tmp_path / "key"), {}, f"--api-key-file: {tmp_path / 'key'}: "),
        (None, None, {"LAB_API_KEY": text}, "LAB_API_KEY: "),
    ):
        with pytest.raises(ApiKeyError, match="^" + where + "got an empty key"):
            find_api_key(given, file, environment)
    with pytest.raises(ConfigError, match="--api-key: got an empty key"):
        ServerConfig(api_key=text)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for file, words in (("missing", "No such file"), ("", "Is a directory"), ("bytes", "no UTF-8")):
        with pytest.raises(ApiKeyError, match=words):
            find_api_key(None, str(tmp_path / file), {})
    with pytest.raises(ApiKeyError, match="expected one of them"):
        find_api_key("a", "b", {})


def test_a_key_in_a_file_stands_in_no_process_table(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame-of-a-test\n")
    with running_server(api_key_file=tmp_path / "key", api_server_count=1, load_format="dummy") as server:
        assert server.get("/v1/models").status_code == 401
        assert server.get("/v1/models", headers={"authorization": "Bearer sesame-of-a-test"}).ok
        for pid in server.pids.values():
            assert b"sesame-of-a-test" not in Path(f"/proc/{pid}/cmdline").read_bytes()

"""The sources of keys: a flag, a file, the environment; and invalid keys."""

from pathlib import Path

import pytest

from lab_support.api_key import ApiKeyError, find_api_keys
from lab_support.config import ConfigError, ServerConfig
from tests.running_server import running_server


@pytest.mark.parametrize("text", ["abc", "abc\n", " abc ", "\tabc\r\n"])
def test_white_space_at_the_ends_is_no_part_of_a_key(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    assert find_api_keys([text], None, {}) == ("abc",)
    assert find_api_keys([], str(tmp_path / "key"), {}) == ("abc",)
    assert find_api_keys([], None, {"VLLM_API_KEY": text}) == ("abc",)
    assert ServerConfig(api_key=(text,)).api_key == ("abc",)


def test_the_flags_come_before_the_environment_and_our_variable_before_vllms(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("file")
    both = {"LAB_API_KEY": "lab", "VLLM_API_KEY": "vllm"}
    assert find_api_keys(["flag", "other"], None, both) == ("flag", "other")
    assert find_api_keys([], str(tmp_path / "key"), both) == ("file",)
    assert find_api_keys([], None, both) == ("lab",)
    assert find_api_keys([], None, {}) == ()


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "an empty key"),
        (" ", "an empty key"),
        ("\n", "an empty key"),
        ("a b", "a key that contains ' '"),
        ("one\ntwo\n", r"a key that contains '\\n'"),
        ("a\u00a0b", r"a key that contains '\\xa0'"),
        ("a\x1bb", r"a key that contains '\\x1b'"),
    ],
)
def test_what_no_client_can_show_is_refused_wherever_it_stands(text: str, got: str, tmp_path: Path) -> None:
    """A secret that was not filled in must not make an open server, nor one with two lines a closed one."""
    (tmp_path / "key").write_text(text)
    for given, file, environment, where in (
        (["fine", text], None, {}, "--api-key: "),
        ([], str(tmp_path / "key"), {}, f"--api-key-file: {tmp_path / 'key'}: "),
        ([], None, {"LAB_API_KEY": text}, "LAB_API_KEY: "),
    ):
        with pytest.raises(ApiKeyError, match="^" + where + "got " + got):
            find_api_keys(given, file, environment)
    with pytest.raises(ConfigError, match="--api-key: got " + got):
        ServerConfig(api_key=(text,))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for file, words in (("missing", "No such file"), ("", "Is a directory"), ("bytes", "not UTF-8")):
        with pytest.raises(ApiKeyError, match=words):
            find_api_keys([], str(tmp_path / file), {})
    with pytest.raises(ApiKeyError, match="expected one of them"):
        find_api_keys(["a"], "b", {})


def test_a_key_in_a_file_stands_in_no_process_table(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sesame-of-a-test\n")
    with running_server(api_key_file=tmp_path / "key", api_server_count=1, load_format="dummy") as server:
        assert server.get("/v1/models").status_code == 401
        assert server.get("/v1/models", headers={"authorization": "Bearer sesame-of-a-test"}).ok
        for pid in server.pids.values():
            assert b"sesame-of-a-test" not in Path(f"/proc/{pid}/cmdline").read_bytes()

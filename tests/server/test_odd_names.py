"""A name may be any bytes, and what leaves a server is UTF-8: it starts and says U+FFFD, or refuses in one sentence."""

import os
import shutil
from pathlib import Path

import pytest

from lab_support.config import MODEL_IN_THE_BOX, ConfigError, ServerConfig
from tests.running_server import running_server
from tests.server.test_serve_refusals import refusal

ODD = os.fsdecode(b"odd-\xe9")
TOLD = "odd-\N{REPLACEMENT CHARACTER}"


def odd_copy(folder: Path) -> Path:
    return Path(shutil.copytree(MODEL_IN_THE_BOX, folder / ODD, ignore=shutil.ignore_patterns("make")))


def test_a_model_folder_is_served_under_a_name_in_utf8(tmp_path: Path) -> None:
    """On a stdout that has no such character, too."""
    model = odd_copy(tmp_path)
    with running_server(model=model, api_server_count=1, env={"PYTHONIOENCODING": "ascii"}) as server:
        assert server.facts["model"] == TOLD
        assert any(f"Ready: {server.url} serves '{told}'" in server.said() for told in (TOLD, "odd-\\ufffd"))
        assert server.get("/v1/models").json()["data"][0]["id"] == TOLD
        assert f'model_name="{TOLD}"' in server.get("/metrics").text
        assert server.get("/openapi.json").status_code == 200
        answer = server.post("/v1/completions", {"model": TOLD, "prompt": "x", "max_tokens": 1})
        assert answer.json()["model"] == TOLD
        assert server.stop() == 0
        assert "Traceback" not in server.said()


def test_what_a_child_says_of_an_odd_folder_reaches_the_launcher(tmp_path: Path) -> None:
    model = odd_copy(tmp_path)
    (model / "tokenizer.json").write_text("{}")
    assert f"{TOLD}/tokenizer.json: not a tokenizer" in refusal(model=model)


def test_a_template_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    model = odd_copy(tmp_path)
    (model / "chat_template.jinja").write_bytes(b"\xe9")
    assert f"{TOLD}/chat_template.jinja: got text that is not UTF-8" in refusal(model=model)


@pytest.mark.parametrize("flag", ["uds", "host", "model", "TMPDIR"])
def test_other_names_are_refused(tmp_path: Path, flag: str) -> None:
    path = tmp_path / ODD
    if flag == "TMPDIR":
        path.mkdir()
        assert f"{TOLD}, which is not UTF-8" in refusal(env={"TMPDIR": str(path)})
    else:
        refusal(f"--{flag}", str(path))


@pytest.mark.parametrize("choice", ["served_model_name", "api_key"])
def test_what_clients_must_say_is_in_utf8(choice: str) -> None:
    with pytest.raises(ConfigError, match="not UTF-8") as refused:
        ServerConfig(**{choice: ODD})
    str(refused.value).encode()

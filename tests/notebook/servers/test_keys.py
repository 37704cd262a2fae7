"""A notebook's server asks for a key that no other user can read, and everything of `lab` sends it."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

import lab_support.notebook as lab
from lab_support.config import ConfigError
from lab_support.instruments import proc
from lab_support.notebook.servers.key_of_its_own import in_environment, take_key
from lab_support.notebook.servers.look import MetricError


@pytest.fixture(scope="module")
def live():
    with lab.live_server(api_server_count=1) as server:
        yield server


def test_only_who_has_the_key_is_answered(live):
    assert requests.get(f"{live.url}/version", timeout=10).status_code == 401
    assert live.session.get(f"{live.url}/version", timeout=10).status_code == 200
    assert lab.drive(live, clients=1, requests=2, output_tokens="2").completed == 2
    assert lab.metric(live, "lab_engine_steps_total") > 0


def command_lines() -> list[bytes]:
    """Of this process's descendants; those that end meanwhile are left out."""
    found = []
    for process in proc.process_tree(os.getpid()):
        try:
            found.append(Path(f"/proc/{process.pid}/cmdline").read_bytes())
        except OSError:
            continue
    return found


def test_no_command_line_and_no_output_has_the_key_also_while_a_load_runs(live):
    load = threading.Thread(target=lab.drive, args=(live,), kwargs={"clients": 1, "requests": 4, "output_tokens": "8"})
    load.start()
    seen = []
    while load.is_alive():
        seen += command_lines()
    load.join()
    assert [line for line in seen if b"\0load\0" in line and b"--progress-fd" in line]
    assert not [line for line in seen if live.api_key.encode() in line]
    assert live.api_key not in repr(live) + live.log


def test_its_environment_is_for_the_same_user_alone_and_no_file_has_the_key(live):
    modes = {os.stat(f"/proc/{pid}/environ").st_mode & 0o777 for pid in live.pids.values()}
    assert modes == {0o400}
    files = [path for path in live._supervised.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if live.api_key.encode() in path.read_bytes()]


def authorization_for(session: requests.Session, url: str, **headers: str) -> object:
    return session.prepare_request(requests.Request("GET", url, headers=headers)).headers.get("Authorization")


def test_the_session_gives_the_key_to_its_server_alone(live, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert authorization_for(live.session, live.url + "/version") == f"Bearer {live.api_key}".encode()
    assert authorization_for(live.session, live.url + "/version", Authorization="own") == "own"
    assert authorization_for(live.session, "http://127.0.0.1:1/version") is None
    assert authorization_for(live.session, "http://example.org/") is None
    assert live.session.get(f"{live.url}/version", timeout=10).ok


def test_the_sessions_requests_open_a_connection_each(live):
    with live.session.get(f"{live.url}/version", timeout=10) as answer:
        assert answer.headers["connection"] == "close"


def load_with(live, key: str | None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab_support", "load", live.url, "--clients", "1", "--requests", "1"]
    environment = {name: value for name, value in (os.environ | in_environment(key)).items() if value is not None}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_lab_load_takes_the_key_from_the_environment_and_says_so_if_it_is_missing(live):
    assert load_with(live, live.api_key).returncode == 0
    refused = load_with(live, None)
    assert refused.returncode == 1
    assert "failed: 1 × status 401; give the server's key by LAB_API_KEY" in refused.stdout
    assert "LAB_API_KEY: got an empty key" in load_with(live, " ").stderr


def test_another_key_is_a_sentence_that_says_what_to_do(live):
    assert lab.drive(live, clients=1, requests=1, api_key="other").errors == {"status 401": 1}
    with pytest.raises(MetricError, match=r"got 401 .* `server\.api_key` must be the key"):
        lab.metric(dataclasses.replace(live, api_key="other", _session=None), "lab_engine_steps_total")


def test_each_server_has_a_new_key_unless_one_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_API_KEY", "exported")
    assert len({take_key({}), take_key({}), "exported"}) == 3
    assert [take_key({"api_key": given}) for given in ("a", ("a",), ["a\n"], (), None)] == ["a", "a", "a", None, None]
    (tmp_path / "key").write_text("of a file\n".replace(" ", "-"))
    assert take_key({"api_key_file": str(tmp_path / "key")}) == "of-a-file"
    for wrong in ({"api_key": ("a", "b")}, {"api_key": ""}, {"api_key": "a", "api_key_file": "b"}):
        with pytest.raises(ConfigError, match=r"api.key"):
            take_key(wrong)

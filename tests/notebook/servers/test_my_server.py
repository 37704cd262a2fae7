"""`lab.my_server()` starts the reader's server if that is finished and answers, else the reference, and says which."""

import os
import signal
import subprocess
import sys
import time

import pytest
import requests

from lab_support.instruments import proc
from lab_support.notebook.page import own_server, record
from lab_support.notebook.servers.drive import drive
from lab_support.notebook.servers.look import look
from lab_support.notebook.servers.my_server import THE_REFERENCE, YOURS, my_server

REFERENCE = own_server.REFERENCE.read_text()
WRONG_TOKENS = REFERENCE.replace(
    "inbox.send_multipart([client, token])", 'inbox.send_multipart([client, token and b"x "])'
)


@pytest.fixture
def file(empty_record, tmp_path, monkeypatch):
    monkeypatch.setenv(own_server.VARIABLE, str(tmp_path / "my_server.py"))
    return tmp_path / "my_server.py"


def test_the_readers_own_server_is_started_driven_and_stopped(file, capsys):
    labelled = REFERENCE.replace("# ---- step 3 ", "# ---- step 3, the reference's ")
    file.write_text(labelled.replace('"""My server:', '"""Mine:'))
    with my_server() as server:
        assert (server.whose, server.why) == (YOURS, "")
        assert list(server.pids) == ["launcher", "engine-0", "api-0", "api-1"] == [view.role for view in look(server)]
        assert repr(server).startswith("ready: http://127.0.0.1:")
        report = drive(server, live=False, clients=8, requests=40, output_tokens="8")
        assert (report.completed, report.errors, report.tokens) == (40, {}, 320)
        assert "yours: my_server.py" in repr(server.program) and '"""Mine:' in repr(server.program)
    assert not server.stop() and server.survivors() == []
    assert "── my server: yours, my_server.py, but step 3 from the reference" in capsys.readouterr().out


@pytest.mark.parametrize("first", ["", "engine-0"], ids=["all at once", "a child first"])
def test_ctrl_c_in_a_terminal_ends_all_of_it_without_a_traceback(file, first):
    """A terminal signals every process, in no order that one could rely on."""
    file.write_text(REFERENCE)
    command = [sys.executable, str(file)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True
    ) as launcher:
        pids = dict(word.split("=") for word in launcher.stdout.readline().split()[2:])
        family = [each.identity for each in proc.process_tree(launcher.pid) if str(each.pid) in pids.values()]
        if first:
            os.kill(int(pids[first]), signal.SIGINT)
        else:
            os.killpg(launcher.pid, signal.SIGINT)
        _, said = launcher.communicate(timeout=20)
    assert len(pids) == 4 == len(family) and launcher.returncode in (1, 130), "1 if it sees the end of a child first"
    assert "Traceback" not in said and len(said.splitlines()) <= 1, said
    assert not any(map(proc.is_running, family))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "there is no my_server.py yet: 07 and 07a build it"),
        ("# ---- step 1 ----\n# ---- step 2, the reference's ----\n", "yours has not come to step 5 yet"),
        ("import nothing_of_that_name\n", "yours has ended before it was ready: ModuleNotFoundError: No module named"),
        ("def main(:\n", "yours has ended before it was ready: SyntaxError"),
        (WRONG_TOKENS, "yours answers 'x x x ' where '"),
        ("\xff", "my_server.py can't be read: "),
    ],
    ids=["missing", "unfinished", "broken", "no Python", "wrong answers", "no text"],
)
def test_the_reference_stands_in_and_says_why(file, capsys, text, why):
    if text is not None:
        file.write_text(text, encoding="latin-1")
    with my_server() as server:
        assert server.whose == THE_REFERENCE and server.why.startswith(why)
        assert repr(server.program).startswith("# the reference: my_server.py, ")
    assert f"── my server: the reference, because {why}" in capsys.readouterr().out


def test_a_run_without_a_reader_takes_the_reference(file, monkeypatch):
    file.write_text(REFERENCE)
    monkeypatch.setenv(record.BATCH, "1")
    with my_server() as server:
        assert (server.whose, server.why) == (THE_REFERENCE, "this run has no reader")


@pytest.mark.parametrize("role", ["launcher", "engine-0", "api-0"])
def test_whoever_is_killed_nobody_is_left(file, role):
    with my_server() as server:
        os.kill(server.pids[role], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while server.survivors() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert server.survivors() == []


@pytest.mark.parametrize(
    ("method", "place", "body", "status"),
    [
        ("GET", "/metrics", None, 404),
        ("GET", "/v1/completions", None, 404),
        ("POST", "/v1/completions", "not JSON", 400),
        ("POST", "/v1/completions", "[" * 200_000, 400),
        ("POST", "/v1/completions", '{"prompt": "a", "max_tokens": 0}', 400),
    ],
    ids=["no such place", "wrong method", "no JSON", "nested too deeply", "no tokens"],
)
def test_what_the_server_has_no_answer_for_is_refused_by_name(reference, method, place, body, status):
    answer = requests.request(method, reference.url + place, data=body, timeout=20)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, status)
    assert error["message"]


@pytest.fixture(scope="module")
def reference():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(record.BATCH, "1")
        with my_server() as server:
            yield server

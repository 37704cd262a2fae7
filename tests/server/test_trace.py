"""A real server under --trace-dir: each process's start, and every request, however it ended."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from lab_support.instruments.trace.read import ProcessTrace, read_run
from lab_support.instruments.trace.requests import Request, requests_of, stages
from tests.departures import completion
from tests.instruments.test_trace import slices_nest
from tests.running_server import RunningServer, running_server
from tests.server.test_replacement import until
from tests.server.test_serve_refusals import refusal

SECRET = "A prompt that nobody else may read"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


def lab_trace(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "lab_support", "trace", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def ask(server: RunningServer, name: str, headers: dict[str, str] | None = None, **fields: object) -> str:
    """One completion with this request id; its text."""
    body = {"prompt": SECRET, "max_tokens": 5, "ignore_eos": True, "request_id": name} | fields
    answer = server.post("/v1/completions", body, headers=headers or {})
    return answer.text


def leave_in_the_middle(server: RunningServer, name: str) -> None:
    """Read the first event of a long stream, then close the connection: with bytes unread that may be a reset."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(completion(f"x-request-id: {name}", max_tokens=1500, stream=True, ignore_eos=True))
        assert connection.recv(65536)


def by_id(folder: Path) -> dict[str, Request]:
    return {request.id: request for request in requests_of(read_run(folder))[0]}


def find(folder: Path, name: str) -> Request:
    """The request once all of it is in the trace, which each process writes four times a second."""

    def whole() -> bool:
        request = by_id(folder).get(name)
        return bool(request and request.closed) and all(len(each.steps) >= each.tokens for each in request.sequences)

    until(whole)
    return by_id(folder)[name]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, Path]]:
    """A server with two API servers and two engine cores, and the folder of its trace."""
    folder = tmp_path_factory.mktemp("trace")
    with running_server(trace_dir=folder, data_parallel_size=2) as server:
        yield server, folder


def role(folder: Path, name: str) -> ProcessTrace:
    return next(process for process in read_run(folder).processes if process.role == name)


def test_a_streamed_request_passes_every_stage_in_order(traced: tuple[RunningServer, Path]) -> None:
    server, folder = traced
    ask(server, "streamed", {"traceparent": PARENT}, stream=True)
    request = find(folder, "streamed")
    assert (request.received.trace_id, request.tokens, request.end) == (TRACE_ID, 5, "200 length")
    (sequence,) = request.sequences
    assert len(sequence.streamed) == len(sequence.steps) == 5
    assert [share.tokens > 0 for share in sequence.steps] == [True] + [False] * 4
    made = stages(request)
    assert len(made) == 14 and all(stage.seconds >= 0 for stage in made)
    assert all(before.ended_at == after.begun_at for before, after in pairwise(made))
    assert request.received.accepted_at <= request.received.at
    times: list = [sequence.sent.at, sequence.arrived_at, sequence.queued_at, sequence.steps[0].step.at]
    times += [sequence.first_ran_at, sequence.streamed[0].at, request.closed.at]
    assert times == sorted(times)


def test_requests_of_other_kinds(traced: tuple[RunningServer, Path]) -> None:
    server, folder = traced
    ask(server, "whole")
    ask(server, "two", n=2)
    ask(server, "refused", prompt=[10**9])
    chat = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 3, "request_id": "chat"}
    server.post("/v1/chat/completions", chat, headers={"traceparent": "malformed"})
    leave_in_the_middle(server, "left")
    ends = {name: find(folder, name).end for name in ("whole", "two", "refused", "left")}
    assert ends["whole"] == ends["two"] == "200 length"
    assert ends["refused"] == "400"
    assert ends["left"] in ("200 FIN: closed or half closed", "200 connection reset")
    left = find(folder, "left").sequences[0]
    assert left.finished.reason == "aborted"
    until(lambda: by_id(folder)["left"].sequences[0].abandoned_at is not None)
    assert [len(each.streamed) for each in find(folder, "two").sequences] == [5, 5]
    request = find(folder, "chat")
    assert (request.received.path, request.received.trace_id) == ("/v1/chat/completions", "")


def test_the_start_of_every_process(traced: tuple[RunningServer, Path]) -> None:
    server, folder = traced
    ask(server, "first")
    find(folder, "first")
    begun = {"launcher": ["first code", "port open"], "coordinator": ["first code", "imports done", "HELLO", "READY"]}
    begun |= {
        f"engine-{i}": ["first code", "imports done", "HELLO", "model loaded", "addresses", "READY"] for i in (0, 1)
    }
    api = ["first code", "imports done", "HELLO", "addresses", "application made", "READY"]
    begun |= {"api-0": api, "api-1": api}
    run = read_run(folder)
    assert {process.role: process.pid for process in run.processes} == {
        name: pid for name, pid in server.pids.items() if name in begun
    }
    for process in run.processes:
        found = [milestone.stage for milestone in process.milestones]
        assert found[: len(begun[process.role])] == begun[process.role]
        times = [milestone.at for milestone in process.milestones]
        assert times == sorted(times)
    told = {(milestone.stage, milestone.about): milestone.at for milestone in role(folder, "launcher").milestones}
    for name in begun.keys() - {"launcher"}:
        own = {milestone.stage: milestone.at for milestone in role(folder, name).milestones}
        order = [told["port open", ""], told["spawn: begin", name], own["first code"], own["HELLO"]]
        order += [told["HELLO received", name], told["READY received", name], told["ready", ""]]
        assert order == sorted(order), name
    later = {each.stage for process in run.processes for each in process.milestones}
    assert {"first connection accepted", "first token"} <= later


def test_files_are_private_and_hold_neither_prompts_nor_answers(traced: tuple[RunningServer, Path]) -> None:
    server, folder = traced
    text = json.loads(ask(server, "private", max_tokens=30))["choices"][0]["text"]
    find(folder, "private")
    files = list(folder.iterdir())
    assert len(files) == 6
    held = b"".join(path.read_bytes() for path in files)
    assert b"private" in held
    for words in (SECRET, text, *text.split("."), *SECRET.split("that")):
        assert len(words) < 8 or words.strip().encode() not in held
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_the_command_shows_it_and_writes_it_for_viewers(traced: tuple[RunningServer, Path], tmp_path: Path) -> None:
    server, folder = traced
    ask(server, "shown", {"traceparent": PARENT}, stream=True)
    find(folder, "shown")
    out = lab_trace(folder, "--chrome", str(tmp_path / "a.json"), "--svg", str(tmp_path / "a.svg"))
    assert "port open" in out and "READY received" in out and "shown" in out and "note" not in out
    events = json.loads((tmp_path / "a.json").read_text())["traceEvents"]
    assert slices_nest(events)
    assert "first client in the accept queue" in (tmp_path / "a.svg").read_text()
    out = lab_trace(folder, "shown")
    assert "stages, together" in out and "prompt computed (prefill)" in out and TRACE_ID in out


def test_a_killed_api_server_and_its_successor(traced: tuple[RunningServer, Path]) -> None:
    """Last in this file: it leaves the server with another process."""
    server, folder = traced
    killed = server.pids["api-0"]
    os.kill(killed, signal.SIGKILL)

    def successors() -> list[ProcessTrace]:
        found = [each for each in read_run(folder).processes if each.role == "api-0" and each.pid != killed]
        return [each for each in found if any(milestone.stage == "READY" for milestone in each.milestones)]

    until(lambda: bool(successors()))
    ended = [each for each in role(folder, "launcher").milestones if each.stage == "ended"]
    assert [(each.about, each.detail) for each in ended] == [("api-0", f"pid {killed} was killed by SIGKILL")]
    for number in range(8):
        ask(server, f"after-{number}", {"connection": "close"})
    found = [find(folder, f"after-{number}") for number in range(8)]
    assert successors()[0].pid in {request.api.pid for request in found}
    assert all(len(request.sequences[0].steps) == 5 for request in found)


@pytest.mark.parametrize(("method", "accept"), [("fork", "handoff"), ("forkserver", "reuseport")])
def test_every_start_method_and_the_last_events_of_a_stop(tmp_path: Path, method: str, accept: str) -> None:
    with running_server(trace_dir=tmp_path, start_method=method, accept=accept) as server:
        ask(server, "last", stream=True)
        assert server.stop() == 0
    run = read_run(tmp_path)
    assert run.notes == []
    assert {process.role for process in run.processes} == {"launcher", "engine-0", "api-0", "api-1"}
    request = by_id(tmp_path)["last"]  # at once: each process wrote what it had before it ended
    assert (request.end, len(request.sequences[0].steps)) == ("200 length", 5)
    engine = role(tmp_path, "engine-0")
    began = [each for each in role(tmp_path, "launcher").milestones if each.stage == f"{method}: begin"]
    assert began[0].at <= engine.milestones[0].at


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("/dev/null", "--trace-dir: got /dev/null, but File exists"),
        ("/proc/no/where", "--trace-dir: got /proc/no/where"),
    ],
)
def test_a_folder_that_can_not_be_is_refused(value: str, says: str) -> None:
    assert says in refusal(trace_dir=value)


def test_a_limit_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    assert "--trace-dir-mib: got 0, expected at least 1" in refusal(trace_dir=tmp_path, trace_dir_mib=0)
    assert list(tmp_path.iterdir()) == []

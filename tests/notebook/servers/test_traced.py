"""`lab.live_server(trace=True)`, as notebook 07 uses it: a client at the open port, milestones, requests by id."""

import time

import pytest

import lab_support.notebook as lab
from lab_support.config import ConfigError
from lab_support.notebook.figures.swimlanes import accepted_at, request_lanes, start_lanes
from lab_support.notebook.servers.live_server import ServerNotReady
from lab_support.notebook.servers.traced import times_of
from lab_support.notebook.stages.early_client import EarlyClient

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def started():
    """A server, and what its early client was told."""
    client = EarlyClient()
    with lab.live_server(api_server_count=1, at_port_open=client.connect) as server:
        yield server, client.answer()


def test_a_client_connects_before_any_child_runs_and_is_the_first_to_be_answered(started):
    server, client = started
    milestones = server.trace.milestones()
    assert milestones[0]["role"] == "launcher" and milestones == sorted(milestones, key=lambda each: each["at"])
    assert client["connected"] < min(each["at"] for each in milestones if each["role"] != "launcher")
    assert client["connected"] < accepted_at(milestones) < client["answered"]
    assert (client["connections"], client["waiting"], client["status"]) == (1, 1, 200)


def test_a_request_is_found_by_its_id_with_all_its_times(started):
    server, _ = started
    question = {"prompt": "Once", "max_tokens": 5, "ignore_eos": True, "stream": True}
    headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
    begun = time.monotonic()
    answer = server.session.post(f"{server.url}/v1/completions", json=question, headers=headers, timeout=30)
    request = server.trace.request(answer.headers["x-request-id"])
    told = times_of(request)
    assert begun < request.begun_at and told["total"] < time.monotonic() - begun
    assert (told["trace_id"], told["api"], told["engine"]) == (TRACE_ID, "api-0", "engine-0")
    assert len(told["steps"]) == len(told["written"]) == 5
    assert all(step[1] <= after[0] for step, after in zip(told["steps"], told["steps"][1:], strict=False))
    assert sum(ended - begun for begun, ended, _ in told["steps"]) < told["total"] + 0.001
    assert [count for _, _, count in told["steps"]] == [1] * 5


def test_its_figures_say_what_they_show(started):
    server, client = started
    start = start_lanes(client, server.trace.milestones(), finding="It waits")
    assert all(words in start.alt for words in ("It waits", "client: in the accept queue from", "loads the model"))
    answer = server.session.post(f"{server.url}/v1/completions", json={"prompt": "Once", "max_tokens": 9}, timeout=30)
    told = times_of(server.trace.request(answer.headers["x-request-id"]))
    lanes = request_lanes(told, {"launcher": 0, "api-0": 20, "engine-0": 30}, finding="It passes two")
    assert "launcher: asleep." in lanes.alt and "engine-0: on its way, or waiting" in lanes.alt
    assert start.png() and lanes.with_note("supported").png()


def test_what_is_not_in_a_trace_is_said(started, monkeypatch):
    server, _ = started
    monkeypatch.setattr("lab_support.notebook.servers.traced.PATIENCE", 0.1)
    with pytest.raises(LookupError, match="expected 1 ended request: 'nobody'"):
        server.trace.request("nobody")


def test_a_server_that_is_stopped_leaves_no_trace_and_one_without_says_so(monkeypatch):
    monkeypatch.setattr("lab_support.notebook.servers.traced.PATIENCE", 0.1)
    with lab.live_server(api_server_count=1, trace=True) as server:
        folder = server.trace.folder
        assert list(folder.iterdir())
        with pytest.raises(LookupError, match="expected a first token"):
            server.trace.milestones()
        left = server.stop()
    assert not left and not folder.parent.exists()


def test_a_refused_start_calls_nobody(tmp_path):
    called = []
    with pytest.raises(ConfigError):
        lab.live_server(api_server_count=0, at_port_open=lambda *given: called.append(given))
    with pytest.raises(ServerNotReady):
        lab.live_server(model=tmp_path, at_port_open=lambda *given: called.append(given))
    assert called == []

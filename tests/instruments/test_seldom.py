"""Clients that look seldom count what the server counts, and name its processes' CPU time."""

import os

import pytest

from lab_support.instruments.load.seldom import Seldom, ask_and_count
from lab_support.instruments.load.workload import WorkloadError
from lab_support.notebook.servers.accounts import LoadFailed, account, accounts_of
from lab_support.notebook.servers.live_server import live_server

REPORT = {
    "seconds": 2.0,
    "tokens": 40_000,
    "answers": {"api-0": 10, "api-1": 12},
    "cpu": {"launcher": 0.0, "api-0": 0.8, "api-1": 0.8, "engine-0": 0.6, "client": 0.2},
    "loop": {"launcher": 0.0, "api-0": 0.75, "api-1": 0.77, "engine-0": 0.5, "client": 0.2},
    "machine": 3.0,
}


def test_figures_are_for_each_token_and_each_second():
    found = accounts_of(REPORT, cores=4)
    assert (found["api_servers"], found["tokens_per_second"]) == (2, 20_000)
    assert found["us_per_token"] == {"launcher": 0, "api": 40, "engine": 15, "client": 5, "loop": 38}
    assert (found["cores_used"], found["cores_left"]) == (1.2, 3.7)
    assert found["busy"]["api-0"] == pytest.approx(0.375)


@pytest.fixture(scope="module")
def paced(tmp_path_factory):
    table = tmp_path_factory.mktemp("pace") / "table.txt"
    table.write_text("1 1 10\n8 1 10\n")
    with live_server(device=f"paced:{table}", api_server_count=2, max_num_seqs=8) as server:
        yield server


def generated(server):
    text = server.session.get(f"{server.url}/metrics", timeout=10).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("lab_engine_generation_tokens"))


def test_they_keep_a_paced_server_at_its_pace(paced):
    found = account(paced, clients=16, tokens=16, seconds=2)
    assert found["tokens_per_second"] < 1.1 * 8 / 0.010
    assert sum(found["answers"].values()) > 0
    assert {"api-0", "api-1", "engine-0", "launcher", "client"} <= set(found["cpu"])
    assert found["us_per_token"]["client"] < found["us_per_token"]["api"]
    assert generated(paced) >= 16 * sum(found["answers"].values())


def test_a_server_that_refuses_them_is_named(paced):
    with pytest.raises(LoadFailed, match="400"):
        account(paced, clients=2, tokens=16, fields={"logprobs": 3})


def test_a_machine_elsewhere_is_not_asked():
    with pytest.raises(WorkloadError, match="on its own machine"):
        ask_and_count(Seldom("http://192.0.2.1:80", 1, 1, 1), None)


def test_however_short_the_times_they_wait_for_an_answer_and_then_for_something_to_count(paced):
    found = account(paced, clients=1, tokens=30, seconds=0.001, warm=0.001, every=0.001, say=False)
    assert found["tokens"] > 0 and found["tokens_per_second"] > 0


def test_their_connections_are_closed(paced):
    before = len(os.listdir("/proc/self/fd"))
    account(paced, clients=8, tokens=4, seconds=0.3, warm=0.2, say=False)
    assert len(os.listdir("/proc/self/fd")) == before

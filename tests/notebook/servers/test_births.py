"""A server whose API servers are forked: it is that, it serves, and it ends as any other does."""

import pytest

from lab_support.instruments.address_space import is_copy
from lab_support.notebook.servers.births import server_by, spent_so_far

PACED = {"device": "paced:8B", "api_server_count": 2}


@pytest.fixture(scope="module")
def forked():
    with server_by("fork", **PACED) as server:
        yield server


@pytest.fixture(scope="module")
def spawned():
    with server_by("spawn", **PACED) as server:
        yield server


def test_only_its_api_servers_are_copies_of_the_launcher(forked, spawned):
    def copies(server):
        launcher = server.pids["launcher"]
        return [role for role in ("api-0", "api-1", "engine-0") if is_copy(server.pids[role], launcher)]

    assert copies(forked) == ["api-0", "api-1"]
    assert copies(spawned) == []


def test_both_of_its_api_servers_answer_and_count_as_usual(forked):
    asked = {"prompt": "Once", "max_tokens": 5, "ignore_eos": True}
    answers = [forked.session.post(f"{forked.url}/v1/completions", json=asked) for _ in range(8)]
    assert [answer.json()["usage"]["completion_tokens"] for answer in answers] == 8 * [5]
    assert {answer.headers["x-served-by"] for answer in answers} == {"api-0", "api-1"}


def test_a_fork_costs_the_launcher_the_imports_once_and_an_api_server_less(forked, spawned):
    one, other = (spent_so_far(server) for server in (forked, spawned))
    assert one["cpu"] < 0.6 * other["cpu"]
    assert one["faults"] < other["faults"] - 1000
    assert one["launcher"] > other["launcher"]


def test_nothing_of_it_is_left():
    server = server_by("fork", **PACED)
    assert not server.stop()
    with pytest.raises(LookupError, match="got api-0, which has ended"):
        spent_so_far(server)


def test_another_start_method_is_not_known():
    with pytest.raises(KeyError):
        server_by("forkserver")

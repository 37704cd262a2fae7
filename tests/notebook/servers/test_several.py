"""Several servers that start together: all are ready, in order, and all end, also if one can't start."""

import os

import pytest

from lab_support.notebook.cells.descendants import children
from lab_support.notebook.servers.live_server import ServerNotReady
from lab_support.notebook.servers.several import live_servers

PACED = {"device": "paced:8B"}


def test_they_are_ready_in_order_and_end_together(capsys):
    with live_servers(*({**PACED, "api_server_count": count} for count in (2, 1))) as servers:
        assert [len(server.api_servers) for server in servers] == [2, 1]
        assert all(server.session.get(f"{server.url}/health", timeout=10).ok for server in servers)
    assert [server.survivors() for server in servers] == [[], []]
    assert "2 servers are ready after" in capsys.readouterr().out


def test_if_one_does_not_come_up_the_others_are_stopped():
    before = children(os.getpid())
    with pytest.raises(ServerNotReady), live_servers(PACED, {**PACED, "model": "/nowhere"}):
        pytest.fail("it was entered, expected an error")
    assert children(os.getpid()) == before

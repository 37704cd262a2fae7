"""Stopping a live server, by its own name or by `lab.cleanup()`, leaves nothing."""

import requests

import lab_support.notebook as lab
from lab_support.api_key import VARIABLES
from lab_support.instruments import proc


def export_another_key(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "exported")


def test_stopping_a_server_with_a_key_leaves_nothing_and_may_be_done_twice(monkeypatch):
    export_another_key(monkeypatch)
    server = lab.live_server(api_server_count=1, api_key="secret")
    assert server.session.get(f"{server.url}/version", timeout=10).ok
    assert lab.drive(server, clients=1, requests=2, output_tokens="2").completed == 2
    assert lab.metric(server, "lab_engine_steps_total") > 0
    port = server.port
    left = server.stop()
    assert not left, left
    assert server.stop() == left
    assert server.survivors() == []
    assert proc.holders_of_listening_socket(port) == []
    assert lab.look(server) == []
    assert "Ready:" in server.log
    assert lab.cleanup() == []


def test_cleanup_stops_a_server_whose_variable_is_gone():
    identities = lab.live_server(api_server_count=1).identities
    assert [bool(left) for left in lab.cleanup()][-1:] == [False]
    assert not any(proc.is_running(identity) for identity in identities.values())


def test_a_server_without_a_key_asks_for_none_even_if_the_shell_has_exported_one(monkeypatch):
    export_another_key(monkeypatch)
    with lab.live_server(api_server_count=1, api_key=None) as server:
        assert server.api_key is None
        assert requests.get(f"{server.url}/version", timeout=10).ok
        assert "Authorization" not in server.session.get(f"{server.url}/version", timeout=10).request.headers
        assert lab.drive(server, clients=1, requests=1, output_tokens="2").completed == 1

"""Stopping a live server, by its own name or by `lab.cleanup()`, leaves nothing."""

import lab_support.notebook as lab
from lab_support.instruments import proc


def test_stopping_a_server_with_a_key_leaves_nothing_and_may_be_done_twice():
    server = lab.live_server(api_server_count=1, api_key="secret")
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

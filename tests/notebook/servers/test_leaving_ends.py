"""Clients that leave a live server or do not read, and a server that is told to stop: as notebook 09a uses them."""

import socket

import pytest

from lab_support.notebook.servers.askers import paced_server
from lab_support.notebook.servers.departed import leave_in_the_queue, leave_in_the_stream
from lab_support.notebook.servers.draining import (
    CLOSED,
    ERROR,
    IDLE,
    LATE,
    QUEUED,
    REFUSED,
    SERVED,
    STREAM,
    drain,
)
from lab_support.notebook.servers.plain_client import PlainClient
from lab_support.notebook.servers.unread import CLIENT, KERNEL, MEMORY, leave_unread

FIN = "200 FIN: closed or half closed"


@pytest.fixture(scope="module")
def server():
    with paced_server(3, rows=1, trace=True) as started:
        yield started


def close(client: PlainClient) -> None:
    client.socket.close()


def half_close(client: PlainClient) -> None:
    client.socket.shutdown(socket.SHUT_WR)


def stay(client: PlainClient) -> None:
    pass


@pytest.mark.parametrize(
    ("leave", "signs"), [(close, {FIN, "200 connection reset"}), (half_close, {FIN})], ids=["close", "half close"]
)
def test_a_client_that_leaves_costs_a_few_steps_more(server, leave, signs):
    """A close with bytes that were not read sends a reset in place of a FIN."""
    found = leave_in_the_stream(server, leave, times=3)
    assert found["computed"] < 0.1 * found["asked"]
    assert found["end"] in signs
    assert found["engine_ms"] is not None


def test_the_medians_are_of_several_clients(server):
    found = leave_in_the_stream(server, close, times=2)
    assert (2 * found["computed"]).is_integer() and 0 < found["api_ms"] < found["free_ms"]


@pytest.mark.parametrize(("leave", "copied"), [(close, True), (stay, False)])
def test_without_a_fin_all_is_computed(server, leave, copied):
    found = leave_in_the_stream(server, leave, copied=copied)
    assert found["computed"] > 0.9 * found["asked"]
    assert (found["end"], found["engine_ms"]) == ("200 length", None)


def test_who_leaves_the_queue_costs_nothing(server):
    found = leave_in_the_queue(server, close)
    assert found["computed"] == 0
    assert found["end"] == "499 FIN: closed or half closed"
    assert found["engine_ms"] is not None


def test_an_unread_stream_is_whole_wherever_it_lies(server):
    found = leave_unread(server, choices=1, tokens=200)
    assert found["computed"] == found["asked"] == 200 and found["whole"]
    assert found["neighbour"] >= 50
    assert 0.5 < found["share"] <= 1  # there is one row, so the second client comes afterwards
    assert found["bytes"].keys() == {CLIENT, KERNEL, MEMORY}
    assert found["bytes"][CLIENT] > found["bytes"][MEMORY] == 0


def test_a_look_may_come_earlier(server):
    found = leave_unread(server, choices=1, tokens=100, look_after=20)
    assert found["asked"] == 100 and found["whole"]


@pytest.mark.slow
@pytest.mark.parametrize(("timeout", "running"), [(60, SERVED), (0, ERROR)], ids=["60", "0"])
def test_a_server_that_is_told_to_stop_serves_whom_it_has_let_in_if_it_has_time_and_refuses_others(timeout, running):
    found = drain(timeout)
    assert found["ends"][STREAM] == found["ends"][QUEUED] == running
    assert found["ends"][IDLE] == CLOSED
    assert found["ends"][LATE] == REFUSED
    assert timeout == 0 or found["seconds"][LATE] < found["seconds"][STREAM], "while a stream is finished"
    assert found["seconds"].keys() == found["ends"].keys()


def test_who_has_asked_or_comes_before_the_signal_is_served():
    found = drain(60, idle_asks=30, late_is_early=True)
    assert (found["ends"][IDLE], found["ends"][LATE]) == (SERVED, SERVED)

"""More connections than descriptors, none of which asks for anything: `python -m tests.proofs.crowds` in small."""

import contextlib
import os
import signal
import socket
import time

import pytest

from lab_support.boundary.room import COUNT_EVERY
from lab_support.frontend.http.http_head import HEAD_SECONDS
from tests.departures import completion
from tests.running_server import PACED, running_server
from tests.server.limits.crowd import CLOSING, ask, crowd
from tests.server.limits.test_limits import address as address_of
from tests.server.limits.test_limits import descriptors
from tests.server.test_replacement import stop, until


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["shared", "least-loaded", "reuseport", "handoff"])
def test_who_asks_for_nothing_makes_way_for_who_does(strategy: str) -> None:
    """At once, and not only when its time is up; and nobody is answered less for having been there before it."""
    with running_server(**PACED, program=descriptors(128), accept=strategy, log_level="warning") as server:
        address = address_of(server)
        with crowd(address, {"slow": 100, "silent": 100, "idle": 100}):
            asked = [CLOSING] * 10 + [completion("connection: close", max_tokens=1)] * 2
            answers = [ask(address, request) for request in asked]
        assert [answer[9:12] for answer, _ in answers] == [b"200"] * len(asked)
        assert max(seconds for _, seconds in answers) < HEAD_SECONDS / 2
        assert "Traceback" not in server.said()


@pytest.mark.parametrize("strategy", ["least-loaded", "handoff"])
def test_a_client_whose_request_has_not_been_read_yet_does_not_make_way(strategy: str) -> None:
    """All ask while the API server stands still. When it goes on, its look for room is overdue, and comes first."""
    with running_server(**PACED, program=descriptors(110), accept=strategy, api_server_count=1) as server:
        address, api_server = address_of(server), server.pids["api-0"]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(300)]
            until(lambda: "no room for another connection" in server.said())
            stop(api_server)
            overdue = time.monotonic() + COUNT_EVERY
            for client in clients:
                client.sendall(CLOSING)
            until(lambda: time.monotonic() > overdue)
            os.kill(api_server, signal.SIGCONT)
            assert {client.recv(12)[9:] for client in clients} == {b"200"}


@pytest.mark.parametrize("strategy", ["least-loaded", "handoff"])
def test_streams_leave_descriptors_for_health_and_for_the_end(strategy: str) -> None:
    """More clients ask for long streams than there are descriptors. Those that are not let in are told so."""
    long = completion(max_tokens=400, stream=True, ignore_eos=True, n=4)
    program = descriptors(110)
    with running_server(**PACED, program=program, accept=strategy, api_server_count=1, log_level="warning") as server:
        address = address_of(server)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(150)]
            for client in clients:
                client.sendall(long)
            answers = [ask(address) for _ in range(10)]
            statuses = {client.recv(12)[9:] for client in clients[:40]}
            assert [answer[9:12] for answer, _ in answers] == [b"200"] * 10
            assert b"200" in statuses <= {b"200", b"503"}
            assert server.stop() == 0
        assert "Traceback" not in server.said()

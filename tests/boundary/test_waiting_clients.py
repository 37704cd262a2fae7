"""Clients that wait to be accepted are counted, and those among them that have sent something."""

import contextlib
import socket
import sys

import pytest

from lab_support.boundary.waiting_clients import Waiting, waiting_clients
from tests.boundary.acceptors import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc/net/tcp")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("accepted", [0, 2])
def test_silent_asking_and_gone_clients(host: str, accepted: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, 0), family=family, backlog=64)
    except OSError as why:
        pytest.skip(f"no {host}: {why}")
    with listening, contextlib.ExitStack() as stack:
        port = listening.getsockname()[1]
        clients = [stack.enter_context(socket.create_connection((host, port))) for _ in range(10)]
        assert waiting_clients(port) == Waiting(10, 0)
        for client in clients[:4]:
            client.sendall(b"GET")
        for client in clients[3:6]:
            client.shutdown(socket.SHUT_WR)  # what it has sent stays to be read; its end is nothing that it asks
        until(lambda: waiting_clients(port) == Waiting(10, 4))
        for _ in range(accepted):
            stack.enter_context(listening.accept()[0])
        assert waiting_clients(port) == Waiting(10 - accepted, 4 - accepted)
        assert waiting_clients(port, handed=True) == Waiting(10 - accepted, 4 - accepted)


def test_what_another_process_holds_counts_where_the_launcher_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        ours, theirs = socket.socketpair()
        with ours, theirs, socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listening.accept()
            client.sendall(b"GET")
            socket.send_fds(ours, [b"c"], [accepted.fileno()])
            until(lambda: waiting_clients(port) == Waiting())
            accepted.close()  # it lies in the channel alone
            assert waiting_clients(port) == Waiting()
            until(lambda: waiting_clients(port, handed=True) == Waiting(1, 1))

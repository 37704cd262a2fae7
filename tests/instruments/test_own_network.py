"""A network namespace for this process alone, with a working loopback, and settings that affect no other."""

import os
import socket
from pathlib import Path

import pytest

from lab_support.instruments.own_network import own_network
from lab_support.notebook.script import in_child
from tests.instruments.as_nobody import as_nobody_with_python

SETTING = Path("/proc/sys/net/ipv4/tcp_migrate_req")


def look() -> dict[str, object]:
    """In a process of its own: it has one thread, and the test's own process stays in its network."""
    refused = own_network(tcp_migrate_req=1)
    if refused:
        return {"refused": refused}
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        server.accept()[0].close()
    return {"refused": "", "network": os.readlink("/proc/self/ns/net"), "setting": SETTING.read_text().strip()}


def test_it_is_another_network_in_which_clients_connect_and_ours_is_as_it_was():
    before = SETTING.read_text() if SETTING.exists() else ""
    seen = in_child(look)
    if seen["refused"]:
        pytest.skip(seen["refused"])
    assert seen["network"] != os.readlink("/proc/self/ns/net")
    assert seen["setting"] == "1"
    assert SETTING.read_text() == before


def test_a_setting_that_does_not_exist_is_named():
    refused = in_child(lambda: own_network(no_such_setting=1))
    assert "no_such_setting" in refused or "unshare" in refused


def test_an_ordinary_user_gets_one_too_or_is_told_why_not():
    seen = as_nobody_with_python(look)
    assert seen["refused"] or seen["setting"] == "1"

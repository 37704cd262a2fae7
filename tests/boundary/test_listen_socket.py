"""The port is ours alone from the start, and a Unix socket's name goes with the server."""

import socket

import pytest

from lab_support.boundary.listen_socket import listening_socket, url_of
from lab_support.config import ConfigError, ServerConfig


def test_a_client_that_comes_early_waits_in_the_queue() -> None:
    with listening_socket(ServerConfig(port=0)) as listening:
        host, port = listening.getsockname()
        assert url_of(listening) == f"http://127.0.0.1:{port}"
        with socket.create_connection((host, port)), listening.accept()[0]:
            pass


def test_a_port_in_use_is_refused_by_name() -> None:
    with listening_socket(ServerConfig(port=0)) as first:
        port = first.getsockname()[1]
        with (
            pytest.raises(
                ConfigError, match=rf"--port: cannot listen on 127.0.0.1 port {port}: Address already in use"
            ),
            listening_socket(ServerConfig(port=port)),
        ):
            pass


def test_ipv6_has_brackets_in_its_url() -> None:
    with listening_socket(ServerConfig(host="::1", port=0)) as listening:
        assert url_of(listening) == f"http://[::1]:{listening.getsockname()[1]}"


def test_an_unknown_host_is_refused() -> None:
    with (
        pytest.raises(ConfigError, match="--host: got 'no such host'"),
        listening_socket(ServerConfig(host="no such host")),
    ):
        pass


def test_the_name_of_a_unix_socket_goes(tmp_path) -> None:
    path = tmp_path / "s"
    with listening_socket(ServerConfig(uds=str(path))) as listening:
        assert url_of(listening) == f"unix:{path}"
        assert path.is_socket()
    assert not path.exists()


def test_a_stale_name_is_replaced_and_a_live_one_refused(tmp_path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    config = ServerConfig(uds=str(path))
    with listening_socket(config):
        with pytest.raises(ConfigError, match="somebody listens"), listening_socket(config):
            pass
        assert path.is_socket()


def test_a_file_is_never_removed(tmp_path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is not a socket"), listening_socket(ServerConfig(uds=str(path))):
        pass
    assert path.read_text() == "precious"

"""The port is ours alone from the start, and a Unix socket's name goes with the server."""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import subprocess
import sys

import pytest

from lab_support.boundary.listen_socket import bind_tcp, listening_socket, url_of
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
        with pytest.raises(ConfigError, match="another process listens"), listening_socket(config):
            pass
        assert path.is_socket()


def test_a_file_is_never_removed(tmp_path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is not a socket"), listening_socket(ServerConfig(uds=str(path))):
        pass
    assert path.read_text() == "precious"


# ---- addresses ------------------------------------------------------------------------------------------------------

# Prints the URL of a server on the host and what a client gets there: run in a network of its own.
ANSWER = """
import socket, sys
from lab_support.boundary.listen_socket import listening_socket, url_of
from lab_support.config import ConfigError, ServerConfig

try:
    with listening_socket(ServerConfig(host=sys.argv[1], port=0)) as listening:
        host, _, port = url_of(listening).removeprefix("http://").rpartition(":")
        with socket.create_connection((host.strip("[]").replace("%25", "%"), int(port)), 5):
            print("answers at", host)
except ConfigError as error:
    print(error)
"""


def in_own_network(set_up: str, host: str) -> str:
    program = f'{set_up} && exec "$@"'
    command = ["unshare", "-n", "sh", "-c", program, "sh", sys.executable, "-c", ANSWER, host]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("needs unshare(1)")
    if said.returncode and "Traceback" not in said.stderr:
        pytest.skip(f"needs a network of its own: {said.stderr.strip()}")
    assert said.stderr == ""
    return said.stdout.strip()


NO_IPV6 = "ip link set lo up && sysctl -qw net.ipv6.conf.all.disable_ipv6=1"


@pytest.mark.parametrize(
    ("set_up", "host", "says"),
    [
        ("ip link set lo up", "::", "answers at [::1]"),
        ("ip link set lo up", "0.0.0.0", "answers at 127.0.0.1"),
        ("ip link set lo up", "", "answers at 127.0.0.1"),
        ("ip link set lo up", "::ffff:0.0.0.0", "answers at 127.0.0.1"),
        ("ip link set lo up && ip -6 addr add fe80::1/64 dev lo", "fe80::1%lo", "answers at [fe80::1%25lo]"),
        (NO_IPV6, "::", "answers at 127.0.0.1"),
        (NO_IPV6, "localhost", "answers at 127.0.0.1"),
        (NO_IPV6, "::1", "--host: cannot listen on ::1 port 0: Cannot assign requested address"),
        ("ip link set lo up", "192.0.2.1", "--host: cannot listen on 192.0.2.1 port 0: Cannot assign requested addr"),
        ("ip link set lo up", "fe80::1", "--host: cannot listen on fe80::1 port 0: Invalid argument"),
    ],
)
def test_the_url_is_one_that_answers(set_up: str, host: str, says: str) -> None:
    assert in_own_network(set_up, host).startswith(says)


def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a one refuses to make the socket; `localhost` still has its other address."""

    def refuse(family: int, *rest: object) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return usual(family, *rest)

    usual = socket.socket
    monkeypatch.setattr("socket.socket", refuse)
    with pytest.raises(ConfigError, match="--host: cannot listen on ::1 port 0: Address family not supported"):
        bind_tcp("::1", 0)
    with bind_tcp("localhost", 0) as bound:
        assert url_of(bound).startswith("http://127.0.0.1:")


def test_a_port_that_is_taken_at_one_address_of_a_name_is_refused() -> None:
    """Not to be found at the first address of `localhost` would be worse than not to start."""
    first = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(first[0]) as taken:
        taken.bind(first[4])
        taken.listen()
        with pytest.raises(ConfigError, match=r"--port: cannot listen on localhost .*Address already in use"):
            bind_tcp("localhost", taken.getsockname()[1], 1)


# ---- Unix sockets ---------------------------------------------------------------------------------------------------


def test_a_name_that_a_successor_has_is_left_to_it(tmp_path) -> None:
    path = tmp_path / "s"
    with listening_socket(ServerConfig(uds=str(path))):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.is_socket()


def test_a_name_that_is_gone_at_the_end_is_no_error(tmp_path) -> None:
    path = tmp_path / "folder" / "s"
    path.parent.mkdir()
    with listening_socket(ServerConfig(uds=str(path))):
        shutil.rmtree(path.parent)


@pytest.mark.parametrize("target", ["stale", "nowhere"])
def test_a_link_is_not_followed(tmp_path, target: str) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "stale"))
    (tmp_path / "s").symlink_to(target)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="s exists and is not a socket"), listening_socket(uds(tmp_path)):
        pass
    assert sorted(tmp_path.iterdir()) == before


def test_another_users_socket_is_neither_asked_nor_removed(tmp_path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to make another user's files")
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(tmp_path / "s"))
        theirs.listen()
        os.chown(tmp_path / "s", 54321, 54321)
        with pytest.raises(ConfigError, match=r"another user's socket \(uid 54321\)"), listening_socket(uds(tmp_path)):
            pass
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.accept()
    assert (tmp_path / "s").is_socket()


def test_a_server_that_accepts_nobody_is_one_all_the_same(tmp_path) -> None:
    with socket.socket(socket.AF_UNIX) as stuck, contextlib.ExitStack() as clients:
        stuck.bind(str(tmp_path / "s"))
        stuck.listen(0)
        queued = 0
        while queued == 0:  # until there is no room
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            queued = client.connect_ex(str(tmp_path / "s"))
        with pytest.raises(ConfigError, match="another process listens"), listening_socket(uds(tmp_path)):
            pass


@pytest.mark.parametrize("name", [b"s-\xe9", b"n" * 120])
def test_a_path_that_cannot_be_told_or_bound_is_refused(tmp_path, name: bytes) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    says = r"--uds: got a path of|--uds: got .*, which is not UTF-8"
    with pytest.raises(ConfigError, match=says) as refused, listening_socket(ServerConfig(uds=path)):
        pass
    str(refused.value).encode()


def test_a_lock_that_is_never_given_back_hinders_a_start_and_no_end(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab_support.boundary.unix_name._PATIENCE", 0.05)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match="another process has locked its folder"), listening_socket(uds(tmp_path)):
        pass
    fcntl.flock(folder, fcntl.LOCK_UN)
    with listening_socket(uds(tmp_path)):
        fcntl.flock(folder, fcntl.LOCK_EX)
    assert list(tmp_path.iterdir()) == []
    os.close(folder)


# Takes the name again and again where nobody has it, every third time in a process that leaves it behind as by SIGKILL.
TAKE = """
import os, socket, sys
from lab_support.boundary.listen_socket import listening_socket
from lab_support.config import ConfigError, ServerConfig

path, rounds = sys.argv[1], int(sys.argv[2])

def take(then):
    try:
        with listening_socket(ServerConfig(uds=path)) as listening:
            os.symlink("x", path + ".holder")  # fails where another has the name too
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                listening.accept()[0].close()
            os.unlink(path + ".holder")
            then()
    except ConfigError as error:
        if "another process listens" not in str(error):
            raise
        return 0
    return 1

taken = 0
while taken < rounds:
    if taken % 3:
        taken += take(then=lambda: None)
    elif child := os.fork():
        taken += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    else:
        take(then=lambda: os._exit(9))
        os._exit(0)
print("alone each time")
"""


def test_of_servers_that_start_at_once_on_one_path_each_is_alone(tmp_path) -> None:
    """Names of the killed are among them, which several want to remove: no fresh one is removed in their place."""
    command = [sys.executable, "-c", TAKE, str(tmp_path / "s"), "60"]
    starting = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate() for process in starting] == [("alone each time\n", "")] * 4


def uds(folder) -> ServerConfig:
    return ServerConfig(uds=str(folder / "s"))

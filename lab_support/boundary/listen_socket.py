"""A descriptor: the listening socket, made once by the launcher, held by every API server.

The launcher binds it before anything heavy loads, so that a port in use is known at once. It also calls listen(2)
at once: two sockets with SO_REUSEADDR may both be *bound* to a port as long as none listens, so binding alone would
not notice a second server that is starting too (vLLM binds alone). Clients that come early wait in the accept queue,
which holds --backlog of them (plus one); the kernel cuts the number to net.core.somaxconn.

It reaches the API servers as an argument of a spawned process: the descriptor stays open across exec(2), under the
same number. Nothing is sent.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator

from lab_support.config import ConfigError, ServerConfig


@contextlib.contextmanager
def listening_socket(config: ServerConfig) -> Iterator[socket.socket]:
    """The launcher's listening socket; closed at the end, and a Unix socket's name removed. Raises `ConfigError`."""
    bound = (
        _listen_unix(config.uds, config.backlog) if config.uds else bind_tcp(config.host, config.port, config.backlog)
    )
    with bound:
        try:
            yield bound
        finally:
            if config.uds:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(config.uds)


def url_of(listening: socket.socket) -> str:
    """Where clients reach it: `http://127.0.0.1:8000`, or `unix:/path`."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bind_tcp(host: str, port: int, backlog: int | None = None) -> socket.socket:
    """A socket bound to the port, which listens where `backlog` is given. Raises `ConfigError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host: got {host!r}, which is no address of this machine ({error})") from error
    bound = socket.socket(family, kind, protocol)
    # Without it, a restart within a minute finds connections in TIME_WAIT and can't bind: socket(7).
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        if backlog is not None:
            bound.listen(backlog)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"--port: cannot listen on {host} port {port}: {error.strerror}; "
            "name another one, or --port 0 and the kernel finds a free one"
        ) from error
    return bound


def _listen_unix(path: str, backlog: int) -> socket.socket:
    if len(os.fsencode(path)) > 107:
        raise ConfigError(f"--uds: got a path of {len(os.fsencode(path))} bytes, expected at most 107: unix(7)")
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        bound.listen(backlog)
    except OSError as error:
        bound.close()
        raise ConfigError(f"--uds: cannot bind {path}: {error.strerror}") from error
    return bound


def _remove_stale(path: str) -> None:
    """Remove the name that a killed server left. Where somebody listens, or a file of another kind is, refuse."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"--uds: {path} exists and is not a socket; name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise ConfigError(f"--uds: somebody listens on {path} already; name another path")

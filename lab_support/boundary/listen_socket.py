"""A descriptor: the listening socket, made once by the launcher, held by every API server.

The launcher binds it before anything heavy loads, so that a port in use is known at once. It also calls listen(2)
at once: two sockets with SO_REUSEADDR may both be *bound* to a port as long as none listens, so binding alone would
not notice a second server that is starting too (vLLM only binds). Clients that come early wait in the accept queue,
which holds --backlog of them plus one; the kernel caps the backlog at net.core.somaxconn.

The socket reaches the API servers as an argument of a spawned process: the descriptor stays open across exec(2),
under the same number. Nothing is sent.
"""

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

from lab_support.boundary.unix_name import UnixName
from lab_support.config import ConfigError, ServerConfig

# This machine has no such address, or none of that family: the next address of the same name may do.
_NOT_HERE = {errno.EAFNOSUPPORT, errno.EPFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL}

_TAKEN = {errno.EADDRINUSE, errno.EACCES}
_ALL_ADDRESSES = {"0.0.0.0", "::", "::ffff:0.0.0.0"}


@contextlib.contextmanager
def listening_socket(config: ServerConfig) -> Iterator[socket.socket]:
    """The launcher's listening socket. The end closes it and removes a Unix socket's name. Raises `ConfigError`."""
    if config.uds:
        with UnixName(config.uds, config.backlog) as name:
            yield name.socket
    else:
        with bind_tcp(config.host, config.port, config.backlog) as bound:
            yield bound


def url_of(listening: socket.socket) -> str:
    """The address for clients: `http://127.0.0.1:8000`, or `unix:/path`."""
    if listening.family == socket.AF_UNIX:
        return f"unix:{listening.getsockname()}"
    host, port, *more = listening.getsockname()
    if host in _ALL_ADDRESSES:
        host = _loopback(listening)
    if more and (scope := more[1]):  # a link-local address names its network card, too
        host += f"%25{socket.if_indextoname(scope)}"  # RFC 6874
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bind_tcp(host: str, port: int, backlog: int | None = None) -> socket.socket:
    """A socket bound to the port; it listens if `backlog` is given. Raises `ConfigError`.

    A name may have several addresses. The first one that this machine has is taken, and refused if it is in use.
    """
    failed: OSError | None = None
    for found in _addresses(host, port):
        try:
            return _bind(*found, backlog)
        except OSError as error:
            failed = failed or error
            if error.errno not in _NOT_HERE:
                failed = error
                break
    assert failed
    raise ConfigError(_why_not(host, port, failed)) from failed


def _addresses(host: str, port: int) -> list[tuple[Any, Any, int, str, Any]]:
    try:
        return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host: got {host!r}, which is no address of this machine ({error})") from error


def _bind(family: int, kind: int, protocol: int, _: str, address: Any, backlog: int | None) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        # Without it, a restart within a minute finds connections in TIME_WAIT and can't bind: socket(7).
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        if backlog is not None:
            bound.listen(backlog)
    except OSError:
        bound.close()
        raise
    return bound


def _why_not(host: str, port: int, error: OSError) -> str:
    told = f"cannot listen on {host} port {port}: {error.strerror}"
    if error.errno in _TAKEN:
        return f"--port: {told}; name another one, or --port 0 and the kernel finds a free one"
    return f"--host: {told}; name an address that this machine has"


def _loopback(listening: socket.socket) -> str:
    """A loopback address of a socket bound to all addresses. With IPv6 switched off, `::` may still be bound."""
    if listening.getsockname()[0] != "::":
        return "127.0.0.1"
    takes_ipv4 = not listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return "127.0.0.1" if takes_ipv4 and not _has_ipv6_loopback() else "::1"


def _has_ipv6_loopback() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False

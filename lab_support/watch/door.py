"""Who may come in: a token that is good once, the cookie that it is exchanged for, and the headers of other pages.

Every user of the machine can connect to a port on loopback, and every page in the reader's browser can send requests to
it. So without the cookie nothing is served, and requests that another page or another host's name sent are refused.
A cookie goes to every port of its host. Its path has a random part, so that no server on another port is sent it.
Runs in the process that watches.
"""

import hmac
import secrets
import threading
from collections.abc import Mapping

_NAMES = ("127.0.0.1", "localhost")


class Door:
    """For the server at `port`. Its methods may be called by any thread."""

    def __init__(self, port: int) -> None:
        self.path = f"/{secrets.token_hex(8)}/"
        self._port = port
        self._cookie_name, self._cookie = f"lab_watch_{port}", secrets.token_urlsafe(32)
        self._token: str | None = None
        self._lock = threading.Lock()

    def address(self) -> str:
        """An address with a new token; the one before is no longer good."""
        with self._lock:
            self._token = secrets.token_urlsafe(32)
            return f"http://{_NAMES[0]}:{self._port}{self.path}?token={self._token}"

    def exchange(self, token: str) -> str | None:
        """The `Set-Cookie` for a token that is good, which it then is no longer; None for any other."""
        with self._lock:
            if self._token is None or not _same(token, self._token):
                return None
            self._token = None
        return f"{self._cookie_name}={self._cookie}; Path={self.path}; HttpOnly; SameSite=Strict"

    def has_cookie(self, headers: Mapping[str, str]) -> bool:
        """Whether ours is among the cookies. Other servers of this host may have set what `http.cookies` can't read."""
        pairs = (each.strip().partition("=") for each in headers.get("Cookie", "").split(";"))
        return any(name == self._cookie_name and _same(value, self._cookie) for name, _, value in pairs)

    def why_refused(self, headers: Mapping[str, str], *, changes: bool = False, opened: bool = False) -> str:
        """The reason for refusing a request by its Host, its Origin and its Sec-Fetch-Site, or "".

        changes: it asks to change something. opened: it asks for the page, which a link anywhere may do.
        """
        hosts = {f"{name}:{self._port}" for name in _NAMES}
        host, origin = headers.get("Host", ""), headers.get("Origin")
        if host not in hosts:
            return f"got the host {host!r}, expected {' or '.join(sorted(hosts))}"
        if origin is None and changes:
            return "got no Origin, expected this page's own"
        if origin is not None and origin != f"http://{host}":
            return f"got the origin {origin!r}, expected this page's own"
        if not opened and headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            return "got a request of another site, expected this page's own"
        return ""


def _same(one: str, other: str) -> bool:
    """Compared in constant time, so that no guess is told how near it was."""
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode())

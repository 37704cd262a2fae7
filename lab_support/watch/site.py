"""The page's own small web server: the page, its stream of events, and, if allowed, its buttons. Loopback only.

One thread for each request, all of them daemons, so that the end of the process never waits for an open stream.
Runs in the process that watches.
"""

import io
import json
import socket
import threading
import time
import urllib.parse
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from re import DOTALL, search
from typing import Any, cast

from lab_support.watch.door import Door
from lab_support.watch.hub import Hub

PAGE = Path(__file__).with_name("page.html")
_MOST_REQUESTS = 64  # at once; a browser needs one for its stream and one for each button
_MOST_HEAD, _MOST_BODY = 16384, 4096  # bytes
_PATIENCE = 10.0  # seconds for a request to arrive, and for a tab to take what it is sent
_SILENCE = 5.0  # seconds without news after which a stream says so, which shows whether the tab is still there

Act = Callable[[dict[str, Any]], str]
"""A button: takes the body, returns a sentence on what was done. Raises `Refused`."""


class Refused(Exception):
    """A button's request was not followed. The text says why."""


class Site(ThreadingHTTPServer):
    """Listens on a port of 127.0.0.1. `start` serves in threads of its own until `stop`.

    facts: given to the page as it is opened. acts: the buttons, by their path. opened: called when a token was used.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, port: int, hub: Hub, facts: dict[str, Any], acts: dict[str, Act], opened: Callable[[], None]):
        super().__init__(("127.0.0.1", port), _Request)
        self.door, self.hub, self.acts, self.opened = Door(self.server_port), hub, acts, opened
        page = PAGE.read_text(encoding="utf-8").replace("{{FACTS}}", json.dumps(facts).replace("<", "\\u003c"))
        self.page = page.encode()
        self.policy = _policy(page)
        self.started = False
        self._places = threading.BoundedSemaphore(_MOST_REQUESTS)

    def server_bind(self) -> None:
        """Without a search for this machine's name, which the library does and may take seconds."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def start(self) -> None:
        self.started = True
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.2}, name="site", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Beyond so many at once, a connection is closed without a word."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A tab that went away is no error, and a client's nonsense is none of this process."""


class _Arriving(io.RawIOBase):
    """The bytes of one request. The library has a limit for each line of a head and for each wait, and none for all.

    So anybody could hold a place with a byte now and then, or fill this process's memory with lines.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._left = connection, _MOST_HEAD + _MOST_BODY
        self._deadline = time.monotonic() + _PATIENCE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises `TimeoutError`, and `ConnectionError` beyond the most bytes."""
        if self._left == 0:
            raise ConnectionError(f"got more than {_MOST_HEAD + _MOST_BODY} bytes, expected a shorter request")
        self._connection.settimeout(max(0.001, self._deadline - time.monotonic()))
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count


class _Request(BaseHTTPRequestHandler):
    """One request. Every answer ends its connection."""

    server: Site

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(cast(io.RawIOBase, _Arriving(self.connection)))

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        token = urllib.parse.parse_qs(url.query).get("token", [""])[0]
        opened = url.path == self.server.door.path
        if why := self.server.door.why_refused(self.headers, opened=opened):  # type: ignore[arg-type]
            self._refuse(403, why)
        elif opened and token and (cookie := self.server.door.exchange(token)):
            self._send(200, self.server.page, "text/html; charset=utf-8", cookie)
            self.server.opened()
        elif not self.server.door.has_cookie(self.headers):  # type: ignore[arg-type]
            self._refuse(
                403, "this address is good for one browser, once; `lab watch` prints a new one when it was used"
            )
        elif opened:
            self._send(200, self.server.page, "text/html; charset=utf-8")
        elif url.path == self.server.door.path + "events":
            self._stream()
        else:
            self._refuse(404, "there is nothing here")

    def do_POST(self) -> None:
        act = self.server.acts.get(self.path.removeprefix(self.server.door.path))
        if why := self.server.door.why_refused(self.headers, changes=True):  # type: ignore[arg-type]
            self._refuse(403, why)
        elif not self.server.door.has_cookie(self.headers):  # type: ignore[arg-type]
            self._refuse(403, "got no cookie, expected this page's own")
        elif act is None:
            self._refuse(404, "there is no such button; `lab watch --allow-signals` has some")
        else:
            self._act(act)

    def _act(self, act: Act) -> None:
        try:
            done, status = act(self._body()), 200
        except Refused as error:
            done, status = str(error), 409
        self._send(status, json.dumps({"words": done}).encode(), "application/json")

    def _body(self) -> dict[str, Any]:
        length, kind = self.headers.get("Content-Length", ""), self.headers.get_content_type()
        counts = length.isascii() and length.isdigit() and len(length) <= len(str(_MOST_BODY))
        if not counts or int(length) > _MOST_BODY or kind != "application/json":
            raise Refused(f"got {length or 'no'} bytes of {kind}, expected at most {_MOST_BODY} of application/json")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise Refused("got no JSON object")
        return body

    def _stream(self) -> None:
        last = self.headers.get("Last-Event-ID", "0")
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head(200, "text/event-stream")
        with suppress(OSError), self.server.hub.tab():
            for frames in self.server.hub.stream(int(last) if last.isascii() and last.isdigit() else 0, _SILENCE):
                self.wfile.write(frames)

    def _refuse(self, status: int, why: str) -> None:
        self._send(status, f"{why}\n".encode(), "text/plain; charset=utf-8")

    def _send(self, status: int, body: bytes, kind: str, cookie: str | None = None) -> None:
        with suppress(OSError):
            self._head(status, kind, len(body), cookie)
            self.wfile.write(body)

    def _head(self, status: int, kind: str, length: int | None = None, cookie: str | None = None) -> None:
        self.connection.settimeout(_PATIENCE)  # from here on for each write
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if cookie is not None:
            self.send_header("Set-Cookie", cookie)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("Connection", "close")
        self.end_headers()

    def version_string(self) -> str:
        return "lab"

    def log_message(self, format: str, *words: object) -> None:
        """Nothing: a log line would hold the token."""


def _policy(page: str) -> str:
    """Allows the page's one script and one style, each by its hash, and requests to this server alone."""
    rules = ["default-src 'none'", f"script-src {_hash_of('script', page)}", f"style-src {_hash_of('style', page)}"]
    rules += ["img-src data:", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    return "; ".join(rules)


def _hash_of(element: str, page: str) -> str:
    found = search(rf"<{element}>(.*?)</{element}>", page, DOTALL)
    assert found, f"the page has no <{element}>"
    return f"'sha256-{b64encode(sha256(found[1].encode()).digest()).decode()}'"

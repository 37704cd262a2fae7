"""The web page at `/` and `/docs`: one file, whose script shows one or the other, depending on the address.

Its content security policy allows only its own script and style, and only requests to this server.
"""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from starlette.types import Receive, Scope, Send

from lab_support.frontend.http.response import Headers, respond

PAGE = Path(__file__).with_name("page.html")
HTML = b"text/html; charset=utf-8"


class Page:
    """Reads the file once. `show` is the endpoint."""

    def __init__(self) -> None:
        self._body = PAGE.read_bytes()
        self._headers: Headers = [
            (b"content-security-policy", content_security_policy(self._body)),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-cache"),
        ]

    async def show(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, self._body, HTML, list(self._headers))


def content_security_policy(page: bytes) -> bytes:
    """Allows only the page's one script and one style, each by its hash, its own icon, and requests to this server."""
    rules = [
        b"default-src 'none'",
        b"script-src " + _hash_of(b"script", page),
        b"style-src " + _hash_of(b"style", page),
        b"img-src data:",
        b"connect-src 'self'",
        b"base-uri 'none'",
        b"form-action 'none'",
        b"frame-ancestors 'none'",
    ]
    return b"; ".join(rules)


def _hash_of(element: bytes, page: bytes) -> bytes:
    (text,) = re.findall(rb"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
    return b"'sha256-%b'" % b64encode(sha256(text).digest())

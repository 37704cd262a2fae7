"""`server.session`: a `requests.Session` that gives a live server its key, and nobody else.

A session of `requests` reads ~/.netrc and proxies from the environment: the first would replace the key, the second
would send requests for the loopback elsewhere. Here it reads neither.
"""

import requests
from requests.auth import AuthBase


class KeyFor(AuthBase):
    """Adds `Authorization: Bearer KEY` to requests for `url` and below, unless they have an Authorization already."""

    def __init__(self, url: str, key: str | None) -> None:
        self._below, self._key = url + "/", key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None and (request.url or "").startswith(self._below):
            request.headers.setdefault("Authorization", f"Bearer {self._key}".encode())  # as str it would be Latin-1
        return request


def session_for(url: str, key: str | None) -> requests.Session:
    """A session for the server at `url`. Each request opens its own connection, as `requests.get` does.

    A connection that is kept would stay with one API server: the next answer would be that one's, or none if it is
    stopped. `session.headers.pop("Connection")` makes it keep them.
    """
    session = requests.Session()
    session.trust_env = False
    session.auth = KeyFor(url, key)
    session.headers["Connection"] = "close"
    return session

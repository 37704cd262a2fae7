"""HEAD, OPTIONS and a trailing slash: what HTTP promises of every route, tried on every route."""

import http.client
from collections.abc import Iterator

import pytest

from lab_support.frontend.request.openapi import OPERATIONS
from tests.frontend.serving import FakeServer, serving

PATHS = sorted({operation.path.replace("{model_id}", "model") for operation in OPERATIONS})
ALLOWED = {
    path: {each.method.upper() for each in OPERATIONS if each.path.replace("{model_id}", "model") == path}
    for path in PATHS
}
CHANGING = {"date", "x-request-id"}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with serving() as server:
        yield server


def asked(connection: http.client.HTTPConnection, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    connection.request(method, path)
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return answer.status, headers, answer.read()


def same(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in CHANGING}


@pytest.mark.parametrize("path", [path for path in PATHS if "GET" in ALLOWED[path]] + ["/nowhere"])
def test_head_is_get_without_its_body(fake: FakeServer, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", fake.port, timeout=30)
    fake.get(path)  # the first look at the metrics adds a line to them
    head, get = asked(connection, "HEAD", path), asked(connection, "GET", path)
    assert head[0] == get[0]
    if path != "/metrics":  # which counts what is asked
        assert same(head[1]) == same(get[1])
    assert head[2] == b""
    assert int(get[1]["content-length"]) == len(get[2])
    assert asked(connection, "GET", "/health")[0] == 200, "the connection goes on where the head ended"
    connection.close()


@pytest.mark.parametrize("path", PATHS)
def test_options_and_405_say_what_is_allowed_and_only_that_is(fake: FakeServer, path: str) -> None:
    answer = fake.request("OPTIONS", path)
    assert (answer.status_code, answer.content) == (200, b"")
    allowed = set(answer.headers["allow"].split(", "))
    assert allowed - {"HEAD", "OPTIONS"} == ALLOWED[path]
    assert ("HEAD" in allowed) == ("GET" in allowed)
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"}:
        tried = fake.request(method, path)
        assert (tried.status_code == 405) == (method not in allowed)
        if method not in allowed:
            assert tried.headers["allow"] == answer.headers["allow"]


def test_options_of_a_path_that_is_none_and_of_the_whole_server(fake: FakeServer) -> None:
    assert fake.request("OPTIONS", "/nowhere").status_code == 404
    connection = http.client.HTTPConnection("127.0.0.1", fake.port, timeout=30)
    status, headers, _ = asked(connection, "OPTIONS", "*")
    connection.close()
    assert (status, headers["allow"]) == (200, "GET, HEAD, OPTIONS, POST")


@pytest.mark.parametrize("path", PATHS)
def test_a_trailing_slash_is_served_as_without(fake: FakeServer, path: str) -> None:
    method = "GET" if "GET" in ALLOWED[path] else "POST"
    body = {"prompt": "a", "messages": [{"role": "user", "content": "a"}], "tokens": [5]}
    options = {"allow_redirects": False} if method == "GET" else {"allow_redirects": False, "json": body}
    without, with_slash = (fake.request(method, each, **options) for each in (path, path.rstrip("/") + "/"))
    assert with_slash.status_code == without.status_code in (200, 400)
    assert with_slash.headers["content-type" if without.content else "date"]
    if method == "GET" and path != "/metrics":
        assert with_slash.content == without.content


def test_two_slashes_are_another_path(fake: FakeServer) -> None:
    assert fake.get("/v1/completions//").status_code == 404

"""Requests as browsers send them for pages of other origins: refused before anything is done, preflights too."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab_support.config import ConfigError, ServerConfig, words_for
from lab_support.frontend.http.origins import own_origins
from lab_support.frontend.request.openapi import OPERATIONS
from tests.frontend.serving import FakeServer, serving
from tests.running_server import running_server

FRIEND = "http://localhost:3000"
QUESTION = {"prompt": "a", "max_tokens": 1}
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with serving(allowed_origins=(FRIEND,), host="lab.example") as server:
        yield server


def strangers(fake: FakeServer) -> list[str]:
    return [
        "http://evil.example",
        f"http://evil.example:{fake.port}",  # its name may well lead here: DNS rebinding
        f"http://127.0.0.1:{fake.port + 1}",
        f"https://127.0.0.1:{fake.port}",
        f"http://127.0.0.1.evil.example:{fake.port}",
        f"http://localhost:{fake.port}/",
        "http://localhost",
        FRIEND + "0",
        "null",
        "",
        "\xe9",
    ]


def own(fake: FakeServer) -> list[str]:
    return [f"http://{name}:{fake.port}" for name in ("127.0.0.1", "localhost", "[::1]", "lab.example")]


def test_a_page_of_another_origin_gets_403_everywhere_and_nothing_is_done(fake: FakeServer) -> None:
    for origin in strangers(fake):
        for operation in OPERATIONS:
            answer = fake.request(operation.method, operation.path, json=QUESTION, headers={"origin": origin})
            assert answer.status_code == 403, (origin, operation)
            assert answer.json()["error"]["code"] == "origin_not_allowed"
            assert "access-control-allow-origin" not in answer.headers
        preflight = fake.request("OPTIONS", "/v1/completions", headers=PREFLIGHT | {"origin": origin})
        assert preflight.status_code == 403
        assert not any(name.startswith("access-control") for name in preflight.headers)
    assert not fake.engine.generated


def test_the_refusal_names_what_is_allowed(fake: FakeServer) -> None:
    message = fake.get("/ping", headers={"origin": "http://evil.example"}).json()["error"]["message"]
    assert message.startswith("origin: got 'http://evil.example', allowed is ")
    assert all(origin in message for origin in own(fake))
    assert "--allowed-origins" in message


def test_the_servers_own_page_and_a_named_one_are_served(fake: FakeServer) -> None:
    for origin in (*own(fake), FRIEND):
        before = len(fake.engine.generated)
        answer = fake.post("/v1/completions", QUESTION, headers={"origin": origin})
        assert answer.status_code == 200
        assert len(fake.engine.generated) == before + 1
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "origin"
        assert "x-served-by" in answer.headers["access-control-expose-headers"]


def test_a_stream_and_an_error_have_the_headers_too(fake: FakeServer) -> None:
    streamed = fake.post("/v1/completions", QUESTION | {"stream": True}, headers={"origin": FRIEND})
    assert streamed.text.endswith("data: [DONE]\n\n")
    for answer in (streamed, fake.get("/nowhere", headers={"origin": FRIEND})):
        assert answer.headers["access-control-allow-origin"] == FRIEND


def test_two_origins_in_one_request_are_judged_together(fake: FakeServer) -> None:
    head = f"GET /ping HTTP/1.1\r\nhost: x\r\norigin: {FRIEND}\r\norigin: http://evil.example\r\n\r\n"
    with fake.connect() as connection:
        connection.sendall(head.encode())
        assert b" 403 " in connection.recv(65536)


def test_who_sends_no_origin_is_not_judged_and_host_never_is(fake: FakeServer) -> None:
    answer = fake.post("/v1/completions", QUESTION, headers={"host": "evil.example"})
    assert answer.status_code == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_preflight_of_an_allowed_page_is_answered_and_needs_no_key() -> None:
    with serving(allowed_origins=(FRIEND,), api_key="sesame") as fake:
        answer = fake.request("OPTIONS", "/v1/completions", headers=PREFLIGHT | {"origin": FRIEND})
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["access-control-allow-origin"] == FRIEND
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
        assert fake.post("/v1/completions", QUESTION, headers={"origin": FRIEND}).status_code == 401
        assert fake.request("OPTIONS", "/v1/completions", headers={"origin": FRIEND}).status_code == 401


def test_a_star_allows_all() -> None:
    with serving(allowed_origins=("*",)) as fake:
        for origin in strangers(fake):
            answer = fake.post("/v1/completions", QUESTION, headers={"origin": origin})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")


def test_the_default_allows_the_own_page_alone() -> None:
    with serving() as fake:
        assert fake.get("/ping", headers={"origin": FRIEND}).status_code == 403
        assert fake.get("/ping", headers={"origin": fake.url}).status_code == 200


@pytest.mark.parametrize(
    ("host", "server", "origins"),
    [
        ("0.0.0.0", ("192.0.2.7", 8000), {"http://192.0.2.7:8000", "http://localhost:8000", "http://0.0.0.0:8000"}),
        ("::", ("::ffff:192.0.2.7", 80), {"http://192.0.2.7", "http://[::1]", "http://[::]"}),
        ("::", ("2001:db8::7", 8000), {"http://[2001:db8::7]:8000"}),
        ("Lab.Example", ("192.0.2.7", 8000), {"http://lab.example:8000"}),
    ],
)
def test_where_the_connection_came_in_is_an_own_origin(host: str, server: tuple[str, int], origins: set[str]) -> None:
    assert origins <= set(own_origins(host, server))


@pytest.mark.parametrize("server", [None, ("/tmp/lab.sock", None)])
def test_a_unix_socket_has_none(server: tuple[str, None] | None) -> None:
    assert own_origins("127.0.0.1", server) == []


@pytest.mark.parametrize(
    "origin", ["*", "http://a", "https://a.example:8443", "http://[::1]:8000", "chrome-extension://abcdefgh"]
)
def test_an_origin_as_browsers_name_it_is_taken(origin: str) -> None:
    assert ServerConfig(allowed_origins=(origin,)).allowed_origins == (origin,)


@pytest.mark.parametrize(
    "origin", ["", "null", "a.example", "http://a/", "http://A", "http://a:x", "http://u@a", "*.a"]
)
def test_what_no_browser_would_name_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ConfigError, match="--allowed-origins: got"):
        ServerConfig(allowed_origins=(origin,))


@pytest.mark.slow
def test_the_flag_reaches_every_api_server_with_the_port_that_the_kernel_chose() -> None:
    assert words_for({"allowed_origins": (FRIEND,)}) == ["--allowed-origins", f'["{FRIEND}"]']
    with running_server(allowed_origins=(FRIEND,), api_server_count=2, load_format="dummy") as server:
        served = set[str]()
        while len(served) < 2:
            for origin, status in ((server.url, 200), (FRIEND, 200), ("http://localhost:1", 403)):
                answer = server.get("/ping", headers={"origin": origin})
                assert answer.status_code == status
                served.add(answer.headers["x-served-by"])


def test_a_flag_that_is_no_list_is_refused() -> None:
    command = [sys.executable, "-m", "lab_support", "serve", "--allowed-origins", "http://a"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "got 'http://a', expected a JSON list of strings" in done.stderr

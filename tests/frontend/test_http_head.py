"""Bytes that clients send before an answer begins: one request has one answer, and nothing waits indefinitely."""

import contextlib
import json
import re
import socket

import pytest

from lab_support.frontend.http.http_head import HEAD_BYTES, HEAD_FIELDS, HEAD_SECONDS, LINGER_SECONDS, PIPELINED
from tests.fakes import FakeEngine
from tests.frontend.events import events, streamed_text
from tests.frontend.serving import FakeServer, serving

BODY = json.dumps({"prompt": "Once upon a time", "max_tokens": 5, "ignore_eos": True}).encode()
OFFER = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n"
LAST = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def fake():
    with serving() as made:
        yield made


def head(fields: str = "", path: str = "/v1/completions", version: str = "1.1", length: int = len(BODY)) -> bytes:
    own = "Host: x\r\nContent-Type: application/json\r\n"
    return f"POST {path} HTTP/{version}\r\n{own}Content-Length: {length}\r\n{fields}\r\n".encode()


def talk(fake: FakeServer, *pieces: bytes) -> bytes:
    """All that the server says to these pieces, each sent once the one before has been taken."""
    with fake.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(piece)
            fake.call(lambda: None)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while more := connection.recv(1 << 20):
        answer += more
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


@pytest.mark.parametrize(
    "offer",
    [OFFER, "Connection: upgrade\r\nUpgrade: websocket\r\n", "Connection: keep-alive, Upgrade\r\nUpgrade: TLS/1.0\r\n"],
)
@pytest.mark.parametrize("split", [False, True], ids=["one piece", "body in a piece of its own"])
def test_an_offer_to_upgrade_is_ignored_and_the_body_stays_the_body(fake: FakeServer, offer: str, split: bool) -> None:
    whole = head(offer), BODY, LAST
    answer = talk(fake, *(whole if split else [b"".join(whole)]))
    assert statuses(answer) == [200, 404]
    assert b'"finish_reason":"length"' in answer


def test_a_body_behind_an_offer_is_never_taken_for_a_request(fake: FakeServer) -> None:
    inner = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = talk(fake, head(OFFER, "/health", length=len(inner)), inner, LAST)
    assert statuses(answer) == [405, 404]
    assert b"owned_by" not in answer
    chunked = f"POST /ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{OFFER}\r\n".encode()
    assert statuses(talk(fake, chunked, b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner), LAST)) == [200, 404]


def test_connect_is_refused_and_nothing_behind_it_is_read(fake: FakeServer) -> None:
    assert statuses(talk(fake, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n" + LAST)) == [501]


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /" + b"a" * 10_000_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a" * 10_000_000,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 1_000_000 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: %s\r\n" % (b"a" * 1000) * (HEAD_BYTES // 1000 + 1) + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * (HEAD_FIELDS + 1) + b"\r\n",
    ],
    ids=["path", "field", "unfinished name", "fields without end", "bytes", "one field too many"],
)
def test_a_head_that_is_too_large_is_431_and_its_sender_sees_it(fake: FakeServer, request_head: bytes) -> None:
    answer = talk(fake, request_head)
    assert statuses(answer) == [431]
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "head_too_large"
    fake.settle()


def test_the_largest_head_is_served(fake: FakeServer) -> None:
    fields = (
        b"X: a\r\n" * (HEAD_FIELDS - 2) + b"Y: %s\r\n" % (b"a" * (HEAD_BYTES - 2000)) + b"Connection: close\r\n\r\n"
    )
    assert statuses(talk(fake, b"GET /ping HTTP/1.1\r\n" + fields)) == [200]


def test_the_bytes_of_a_body_are_none_of_the_next_head(fake: FakeServer) -> None:
    """They come in one piece, and on one connection after another request, too."""
    large = json.dumps({"prompt": "a", "max_tokens": 1, "user": "u" * 200_000}).encode()
    answer = talk(fake, head(length=len(large)) + large + LAST[:30], LAST[30:])
    assert statuses(answer) == [200, 404]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: a", b"\r\n\r\n"])
@pytest.mark.parametrize("earlier", [b"", b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "second"])
def test_who_does_not_finish_a_head_is_not_waited_for(fake: FakeServer, sent: bytes, earlier: bytes) -> None:
    if earlier and not sent:
        return  # that is uvicorn's keep-alive timeout
    with fake.connect() as connection:
        connection.sendall(earlier)
        if earlier:
            assert connection.recv(1000)
        connection.sendall(sent)
        http, loop = fake.http, fake.loop
        assert http and loop
        fake.until(lambda: len(http.server_state.connections) == 1)
        fake.until(lambda: all(each._head_since for each in http._open()))  # type: ignore[attr-defined]
        fake.call(lambda: [each.look_at_time(loop.time() + HEAD_SECONDS - 1) for each in http._open()])
        assert http.server_state.connections
        fake.call(lambda: [each.look_at_time(loop.time() + HEAD_SECONDS + 1) for each in http._open()])
        assert statuses(read_all(connection)) == ([408] if sent else [])
        fake.call(lambda: [each.look_at_time(loop.time() + LINGER_SECONDS + 1) for each in http._open()])
    fake.settle()


def test_an_error_behind_a_stream_waits_until_the_stream_is_whole() -> None:
    with serving(FakeEngine(step_seconds=0.001)) as fake, fake.connect() as connection:
        body = json.dumps({"prompt": "Once", "max_tokens": 200, "ignore_eos": True, "stream": True}).encode()
        connection.sendall(head(length=len(body)) + body)
        answer = connection.recv(65536)
        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n" + LAST)
        answer += read_all(connection)
        stream, _, refusal = answer.partition(b"0\r\n\r\n")
        text = b"".join(re.findall(rb"(data: .*\n\n)", stream)).decode()
        *parsed, done = events(text)
        expected = fake.post("/v1/completions", {"prompt": "Once", "max_tokens": 200, "ignore_eos": True}).json()
        assert (streamed_text(parsed), done) == (expected["choices"][0]["text"], "[DONE]")
        assert statuses(refusal) == [400]


def test_what_follows_the_body_is_no_field_of_the_request() -> None:
    with serving(api_key="secret") as fake:
        chunked = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        body = b"%x\r\n%s\r\n0\r\nAuthorization: Bearer secret\r\nX-Request-Id: mine\r\n\r\n" % (len(BODY), BODY)
        answer = talk(fake, chunked.encode() + body)
        assert statuses(answer) == [401]
        assert b"mine" not in answer


@pytest.mark.parametrize("stream", [False, True])
def test_http_1_0_gets_no_chunks(fake: FakeServer, stream: bool) -> None:
    body = BODY[:-1] + b', "stream": %s}' % json.dumps(stream).encode()
    answer = talk(fake, head(version="1.0", length=len(body)) + body)
    fields, text = answer.split(b"\r\n\r\n", 1)
    assert b"chunked" not in fields
    if stream:
        *parsed, done = events(text.decode())
        assert (len(parsed), done) == (5, "[DONE]")
    else:
        assert json.loads(text)["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(
    "odd",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\nhello",
        b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: +5\r\n\r\nhello",
        b"Content-Length: -5\r\n\r\nhello",
        b"Content-Length: 0x5\r\n\r\nhello",
        b"Content-Length: 5,5\r\n\r\nhello",
        b"Content-Length: 99999999999999999999999\r\n\r\nhello",
        b"X: a\r\n b\r\n\r\n",
        b"X: a\0b\r\n\r\n",
        b": a\r\n\r\n",
        b"X\xff: a\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n",
    ],
)
def test_a_framing_that_two_readers_could_take_for_two_things_is_refused(fake: FakeServer, odd: bytes) -> None:
    """One answer at most, an error, and nothing behind it is read (RFC 9112, 6.3)."""
    answer = talk(fake, b"POST /ping HTTP/1.1\r\nHost: x\r\n" + odd + LAST)
    assert statuses(answer) in ([400], [501])
    assert b"not a route" not in answer
    fake.settle()


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/2.0", "HTTP/1.2", ""])
def test_a_version_that_is_not_spoken_here_is_refused(fake: FakeServer, version: str) -> None:
    answer = talk(fake, f"GET /ping {version}\r\nHost: x\r\n\r\n".encode())
    assert statuses(answer) in ([505], [400])


@pytest.mark.parametrize("target", ["http://x", "http://", "//", "*", "a b", "/\xff", "ping", "http://[::1"])
def test_a_target_that_is_no_path_is_no_defect(fake: FakeServer, target: str) -> None:
    answer = talk(fake, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
    assert statuses(answer)[0] in (200, 400, 404)


@pytest.mark.parametrize("target", ["http://x/ping", "HTTP://x:1/ping?a=b", "http://x", "https://x?a"])
def test_a_target_may_name_the_host(fake: FakeServer, target: str) -> None:
    answer = talk(fake, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert statuses(answer) == [200]


def test_two_hosts_are_refused(fake: FakeServer) -> None:
    assert statuses(talk(fake, b"GET /ping HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n" + LAST)) == [400]


def test_a_chunk_found_bad_while_its_body_is_awaited_is_its_one_answer(fake: FakeServer) -> None:
    fields = b"Host: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    head_and_body = b"POST /v1/completions HTTP/1.1\r\n%s\r\n%x\r\n%s\r\n" % (fields, len(BODY), BODY)
    answer = talk(fake, head_and_body, b"zz\r\n" + LAST)
    assert statuses(answer) == [400]
    fake.until(lambda: fake.counters.requests_in_flight == 0)


def test_a_chunk_found_bad_after_the_answer_gets_no_second_one(fake: FakeServer) -> None:
    with fake.connect() as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = connection.recv(65536)
        connection.sendall(b"zz\r\n" + LAST)
        assert statuses(answer + read_all(connection)) == [404]


@pytest.mark.parametrize("path", ["/nowhere", "/v1/completions"])
def test_after_expect_the_connection_ends_with_the_answer(fake: FakeServer, path: str) -> None:
    """A client that got its answer in place of `100 Continue` may send the body or not: the server can't tell."""
    answer = talk(fake, head("Expect: 100-continue\r\n", path), BODY, LAST)
    assert statuses(answer) == ([404] if path == "/nowhere" else [100, 200])
    assert b"connection: close" in answer


def test_http_1_0_gets_no_interim_answer(fake: FakeServer) -> None:
    assert statuses(talk(fake, head("Expect: 100-continue\r\n", version="1.0") + BODY)) == [200]


def test_too_many_requests_in_a_row_are_refused_behind_their_answers(fake: FakeServer) -> None:
    answer = talk(fake, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000)
    said = statuses(answer)
    assert said == [200] * (len(said) - 1) + [400]
    assert PIPELINED <= len(said) <= 2 * PIPELINED


def test_what_is_pipelined_in_good_measure_is_all_answered(fake: FakeServer) -> None:
    answer = talk(fake, b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n" * PIPELINED + LAST)
    assert statuses(answer) == [200] * PIPELINED + [404]


@pytest.mark.parametrize(
    "flood",
    [b"\r\n" * 1_000_000, b"POST /ping HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"a" * 1_000_000],
    ids=["empty lines", "a chunk's extension"],
)
def test_bytes_that_belong_to_nothing_have_an_end(fake: FakeServer, flood: bytes) -> None:
    assert statuses(talk(fake, flood)) in ([431], [200])
    fake.settle()


def test_trailers_have_an_end(fake: FakeServer) -> None:
    chunked = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    assert statuses(talk(fake, chunked + b"X: %s\r\n" % (b"a" * 1000) * 1000 + b"\r\n")) == [431]


def test_a_body_that_nobody_asked_for_has_an_end(fake: FakeServer) -> None:
    with fake.connect() as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
        assert statuses(connection.recv(65536)) == [404]
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in range(1000):
                connection.sendall(bytes(1_000_000))
    fake.settle()

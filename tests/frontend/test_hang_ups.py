"""Clients that leave, engines that die, readers that are slow: over real connections."""

import json
import socket

import pytest

from tests.fakes import FakeEngine
from tests.frontend.events import events, streamed_text
from tests.frontend.serving import FakeServer, serving


def ask(fake: FakeServer, receive_buffer: int | None = None, **fields: object) -> socket.socket:
    """A connection on which a completion was just asked for."""
    body = json.dumps({"prompt": "Once upon a time", "max_tokens": 2000, "ignore_eos": True} | fields).encode()
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", fake.port))
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def read_all(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body, unchunked, of the one answer on this connection."""
    data = bytearray()
    while more := connection.recv(1 << 20):
        data += more
    head, rest = bytes(data).split(b"\r\n\r\n", 1)
    if b"transfer-encoding: chunked" not in head:
        return head, rest
    body, at = bytearray(), 0
    while at < len(rest):
        begin = rest.index(b"\r\n", at) + 2
        size = int(rest[at : begin - 2], 16)
        body += rest[begin : begin + size]
        at = begin + size + 2
    return head, bytes(body)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("running", [False, True])
def test_a_client_that_hangs_up_is_an_abort_of_all_its_sequences(stream: bool, running: bool) -> None:
    """While it streams, while it waits for a whole answer, and before there is any token."""
    with serving(FakeEngine(running=running, step_seconds=0.001)) as fake:
        with ask(fake, stream=stream, n=3, prompt=["a", "b"]) as connection:
            fake.until(lambda: len(fake.engine.generated) == 6)
            if running and stream:
                assert b"data: " in connection.recv(65536)
        fake.until(lambda: not fake.engine.sequences)
        fake.until(lambda: fake.counters.requests_in_flight == 0)
        assert sorted(fake.engine.aborted) == [each.request_id for each in fake.engine.generated]
        assert 'finished_reason="abort",model_name="model"} 6.0' in fake.get("/metrics").text


def test_a_finished_request_is_not_aborted() -> None:
    with serving() as fake:
        for stream in (False, True):
            assert fake.post("/v1/completions", {"prompt": "a", "n": 2, "stream": stream}).ok
        fake.until(lambda: fake.counters.requests_in_flight == 0)
        assert fake.engine.aborted == []


def test_an_engine_that_dies_ends_a_stream_with_an_error_and_no_done() -> None:
    with serving(FakeEngine(step_seconds=0.001)) as fake, ask(fake, stream=True, n=2) as connection:
        connection.recv(65536)
        fake.call(lambda: fake.engine.die("a step failed"))
        rest = b""
        while more := connection.recv(65536):
            rest += more
        last = rest.split(b"data: ")[-1]
        assert json.loads(last.split(b"\n\n")[0])["error"]["message"] == "engine-0: a step failed"
        assert rest.endswith(b"0\r\n\r\n")  # the HTTP answer itself is whole
        assert b"[DONE]" not in rest
        assert rest.count(b'"error"') == 1
        fake.until(lambda: fake.counters.requests_in_flight == 0)
        assert fake.get("/health").status_code == 503
        assert fake.post("/v1/completions", {"prompt": "a"}).status_code == 503


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_dies_before_the_first_token_is_a_503(stream: bool) -> None:
    with serving(FakeEngine(running=False)) as fake, ask(fake, stream=stream, n=2) as connection:
        fake.until(lambda: len(fake.engine.sequences) == 2)
        fake.call(lambda: fake.engine.die("it was killed"))
        head, body = read_all(connection)
        assert b" 503 " in head
        assert json.loads(body)["error"]["message"] == "engine-0: it was killed"


def test_a_request_whose_body_comes_after_the_end_is_a_503() -> None:
    with serving() as fake, fake.connect() as connection:
        body = b'{"prompt": "a"}'
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n")
        connection.sendall(b"content-length: %d\r\n\r\n" % len(body) + body[:5])
        fake.until(lambda: fake.counters.requests_in_flight == 1)
        fake.call(lambda: fake.engine.die("it was killed"))
        connection.sendall(body[5:])
        head, answer = read_all(connection)
        assert b" 503 " in head
        assert json.loads(answer)["error"]["message"] == "engine-0: it was killed"


def test_a_slow_reader_gets_every_event_and_delays_nobody() -> None:
    """The engine is done long before the reader begins, and the answer is larger than all socket buffers."""
    with serving() as fake, ask(fake, stream=True, logprobs=20, n=8, receive_buffer=65536) as slow:
        fake.until(lambda: len(fake.engine.generated) == 8)
        assert fake.post("/v1/completions", {"prompt": "a", "max_tokens": 50}).ok
        fake.until(lambda: not fake.engine.sequences)
        _, body = read_all(slow)
        *parsed, done = events(body.decode())
        assert done == "[DONE]"
        assert len(body) > 7_000_000
        assert len(parsed) == 8 * 2000
        expected = fake.post("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 2000, "ignore_eos": True})
        text = expected.json()["choices"][0]["text"]
        assert all(streamed_text(parsed, index) == text for index in range(8))


def test_a_slow_reader_that_leaves_leaves_nothing() -> None:
    with serving() as fake:
        with ask(fake, stream=True, logprobs=20, n=8, receive_buffer=65536):
            fake.until(lambda: len(fake.engine.generated) == 8)
            fake.until(lambda: not fake.engine.sequences)
            assert fake.counters.requests_in_flight == 1
        fake.until(lambda: fake.counters.requests_in_flight == 0)
        assert fake.get("/health").ok

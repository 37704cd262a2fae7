"""Clients that leave, engines that die, readers that are slow: over real connections."""

import contextlib
import json
import logging
import re
import socket
import threading
from typing import Any

import pytest

from lab_support.boundary.messages import Generate, SequenceTokens
from lab_support.generation import FinishReason
from tests.departures import BEHIND, HEALTH, LEAVING, Departure, kinds, leave
from tests.fakes import FakeEngine, FakeSequence
from tests.frontend.events import events, streamed_text
from tests.frontend.serving import FakeServer, serving

HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def ask(fake: FakeServer, receive_buffer: int | None = None, **fields: object) -> socket.socket:
    """A connection on which a completion was just asked for."""
    body = json.dumps({"prompt": "Once upon a time", "max_tokens": 2000, "ignore_eos": True} | fields).encode()
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", fake.port))
    connection.sendall(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
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
        connection.sendall(HEAD + b"connection: close\r\n")
        connection.sendall(b"content-length: %d\r\n\r\n" % len(body) + body[:5])
        fake.until(lambda: fake.begun == 1)
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


@pytest.mark.parametrize("leaving", LEAVING)
def test_whatever_counts_is_zero_again_after_every_kind_of_end(leaving: str) -> None:
    """Requests, sequences, connections, memory: after each way to leave, at each moment."""
    ways = [how for how in kinds() if how.leaving == leaving]
    with serving(FakeEngine(step_seconds=0.001)) as fake:
        for how in ways:
            leave(("127.0.0.1", fake.port), how)
            fake.until(lambda: not fake.engine.sequences)
            fake.until(lambda: fake.counters.requests_in_flight == 0 and fake.counters.sequences_in_flight == 0)
            fake.settle()
            assert fake.connections and fake.connections.count == 0, how
            assert (fake.memory.held, fake.memory.leases) == (0, set()), how
        assert len(ways) == 40
        # The rest of the answers was not generated in vain: most clients left before the end.
        assert len(fake.engine.aborted) > len(ways) / 2


@pytest.mark.parametrize("behind", [behind for behind in BEHIND if behind != "nothing"])
@pytest.mark.parametrize("leaving", LEAVING)
def test_a_client_with_more_behind_its_request_is_heard_to_leave_at_once(behind: str, leaving: str) -> None:
    """While nothing is sent to it, too: the engine core makes no token, so no write could find out."""
    with serving(FakeEngine(running=False)) as fake:
        leave(("127.0.0.1", fake.port), Departure(behind, leaving, "at once", stream=True))
        fake.until(lambda: fake.counters.requests_in_flight == 0 and not fake.engine.sequences)
        fake.settle()


@pytest.mark.parametrize("behind", [behind for behind in BEHIND if behind != "nothing"])
def test_so_is_one_that_sends_more_only_while_it_is_answered(behind: str) -> None:
    with serving(FakeEngine(running=False)) as fake:
        with ask(fake, stream=True) as connection:
            fake.until(lambda: len(fake.engine.sequences) == 1)
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.sendall(BEHIND[behind])
        fake.until(lambda: fake.counters.requests_in_flight == 0 and not fake.engine.sequences)
        fake.settle()


@pytest.mark.parametrize("behind", BEHIND)
def test_a_client_that_stays_gets_every_answer_in_its_order(behind: str) -> None:
    """A pipelined request is answered once the answer before it is complete."""
    with serving(FakeEngine(step_seconds=0.001)) as fake, fake.connect() as connection:
        body = json.dumps({"prompt": "Once", "max_tokens": 30, "ignore_eos": True}).encode()
        head = HEAD + b"content-length: %d\r\n\r\n" % len(body)
        last = b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        rest = HEALTH[20:] if behind == "half a request" else b""
        connection.sendall(head + body + BEHIND[behind] + rest + last)
        answer = b""
        while more := connection.recv(1 << 20):
            answer += more
        expected = {"nothing": [b"404"], "more than is read": [b"413"]}.get(behind, [b"200", b"404"])
        statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answer)
        assert statuses == [b"200", *expected]


def test_the_log_says_how_a_client_was_seen_to_leave(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lab.api")
    with serving(FakeEngine(running=False)) as fake:
        for leaving in LEAVING:
            leave(("127.0.0.1", fake.port), Departure("nothing", leaving, "at once", stream=True))
            fake.until(lambda: fake.counters.requests_in_flight == 0)
            fake.settle()
    said = [message.rpartition(", ")[2] for message in caplog.messages if "/v1/completions 499" in message]
    fin = "its client left (FIN: closed or half closed)"
    assert said == [fin, fin, "its client left (connection reset)"]


class Stumbling(FakeEngine):
    """Makes a token that is none for every sequence whose prompt is of three tokens, after its fifth."""

    def _token(self, asked: Generate, position: int) -> int:
        return -1 if len(asked.prompt_token_ids) == 3 and position == 5 else super()._token(asked, position)


class Refusing(FakeEngine):
    """Has no room for a prompt of three tokens."""

    def _advance(self, sequence: FakeSequence) -> SequenceTokens:
        if len(sequence.asked.prompt_token_ids) == 3:
            del self.sequences[sequence.asked.request_id]
            return SequenceTokens(sequence.asked.request_id, [], FinishReason.ABORT)
        return super()._advance(sequence)


@pytest.mark.parametrize("stream", [False, True])
def test_one_request_over_which_the_server_stumbles_fails_alone(stream: bool) -> None:
    with serving(Stumbling(running=False)) as fake:
        bodies = [{"prompt": [7, 8, 9], "n": 2}, {"prompt": [7, 8], "n": 2}]
        asked = [ask(fake, stream=stream, **(body | {"max_tokens": 50})) for body in bodies]
        fake.until(lambda: len(fake.engine.sequences) == 4)
        fake.call(fake.engine.resume)
        (failed_head, failed), (head, body) = (read_all(connection) for connection in asked)
        for connection in asked:
            connection.close()
        assert (b" 200 " in failed_head) == stream
        last = failed.split(b"data: ")[-1]
        assert json.loads(last)["error"]["code"] == "defect"
        assert failed.count(b'"error"') == 1
        reference = fake.post("/v1/completions", {"prompt": [7, 8], "max_tokens": 50, "ignore_eos": True}).json()
        text = reference["choices"][0]["text"]
        if stream:
            *parsed, done = events(body.decode())
            assert done == "[DONE]"
            assert [streamed_text(parsed, index) for index in (0, 1)] == [text, text]
        else:
            assert [choice["text"] for choice in json.loads(body)["choices"]] == [text, text]
        assert b" 200 " in head
        fake.until(lambda: fake.counters.requests_in_flight == 0 and not fake.engine.sequences)


@pytest.mark.parametrize("stream", [False, True])
def test_what_an_engine_core_has_no_room_for_is_an_error_and_not_an_empty_answer(stream: bool) -> None:
    with serving(Refusing()) as fake:
        answer = fake.post("/v1/completions", {"prompt": [7, 8, 9], "n": 2, "stream": stream})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        fake.until(lambda: fake.counters.requests_in_flight == 0 and not fake.engine.sequences)


def read_slowly(connection: socket.socket) -> bytes:
    """All that comes, a piece every twentieth of a second: this client is slow, and it takes something all the time."""
    data, never = b"", threading.Event()
    while more := connection.recv(65536):
        data += more
        never.wait(0.05)
    return data


def test_retiring_waits_for_a_slow_reader_and_not_for_one_that_reads_nothing() -> None:
    with serving() as fake:
        big: dict[str, Any] = {"stream": True, "logprobs": 20, "n": 8, "receive_buffer": 65536}
        with contextlib.ExitStack() as stack:
            slow, unread = (stack.enter_context(ask(fake, **big)) for _ in range(2))
            fake.until(lambda: len(fake.engine.generated) == 16 and not fake.engine.sequences)
            # Only now, because both have no more than `HEAD_SECONDS`.
            begun, silent = (stack.enter_context(fake.connect()) for _ in range(2))
            begun.sendall(HEALTH)
            assert begun.recv(1000)
            begun.sendall(HEALTH[:20])  # the next request is never finished
            http, connections = fake.http, fake.connections
            assert http and connections
            fake.until(lambda: connections.count == 4)
            http.patience = 1.0
            fake.call(http.retire)
            answer = read_slowly(slow)
            assert answer.count(b"data: ") == 8 * 2000 + 1
            assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            # Neither who never asked, nor who has begun to, keeps it.
            assert (begun.recv(1000), silent.recv(1000)) == (b"", b"")
            fake.thread.join(30)
            assert not fake.thread.is_alive()
            with contextlib.suppress(ConnectionResetError):
                got = 0
                while more := len(unread.recv(1 << 20)):
                    got += more
                assert got < len(answer)

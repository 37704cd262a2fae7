"""The memory for clients is bounded, the request that holds most pays when it is full, and every end gives it back."""

import contextlib
import json
import socket
from collections.abc import Iterator
from functools import partial

import pytest

from lab_support.frontend.http.memory import MemoryBudget
from tests.departures import completion
from tests.fakes import FakeEngine
from tests.frontend.events import events
from tests.frontend.serving import FakeServer, serving
from tests.frontend.test_hang_ups import ask, read_all

MIB = 1024 * 1024
HEAD = "POST {} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"


def empty(fake: FakeServer) -> bool:
    return not fake.memory.held and not fake.memory.leases


def holds(fake: FakeServer, count: int) -> bool:
    return fake.memory.held == count


def asked(fake: FakeServer, count: int) -> bool:
    return len(fake.engine.generated) == count


# ---- the budget -----------------------------------------------------------------------------------------------------


def test_who_holds_most_gives_up_and_not_who_asked_last() -> None:
    budget, told = MemoryBudget(100), []
    with budget.lease() as large, budget.lease() as small, budget.lease() as busy:
        for lease, name in ((large, "large"), (small, "small")):
            lease.on_revoke = lambda name=name: told.append(name)
        assert busy.take(45) and large.take(40) and small.take(10)  # busy can't give up: it has no `on_revoke`
        assert small.take(10)
        assert told == ["large"]
        assert (large.held, small.held, budget.held) == (0, 20, 65)
        assert not large.take(1)
        assert not busy.take(60)  # by now it is the largest itself
        assert (busy.held, budget.held, told) == (0, 20, ["large"])
    assert (budget.held, budget.leases) == (0, set())


def test_a_lease_that_has_ended_counts_nothing() -> None:
    budget = MemoryBudget(100)
    with budget.lease() as lease:
        lease.take(10)
    assert not lease.take(10)
    lease.give_back(10)
    assert budget.held == 0


# ---- bodies ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def small() -> Iterator[FakeServer]:
    """A server with 4 MiB for its clients."""
    with serving(api_server_memory_mib=4, body_timeout=20.0) as fake:
        yield fake
        fake.until(lambda: empty(fake))


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"])
def test_many_large_bodies_stay_within_the_budget_and_a_small_request_is_served(small: FakeServer, path: str) -> None:
    with contextlib.ExitStack() as stack:
        part = b'{"x": "' + b"a" * 900_000
        for number in range(12):
            connection = stack.enter_context(small.connect())
            connection.sendall(HEAD.format(path, 3_000_000).encode() + part)
            small.until(partial(holds, small, min(number + 1, 2) * len(part)))
            if number >= 2:
                connection.sendall(b"a" * (3_000_000 - len(part)))  # it is dropped
                answer = b""
                while b"out_of_memory" not in answer and (more := connection.recv(65536)):
                    answer += more
                assert b" 503 " in answer and b"retry-after: 1" in answer and b"out_of_memory" in answer
        assert small.post("/v1/completions", {"prompt": "a"}).ok
        small.until(lambda: small.memory.held == 2 * len(part))  # who was there first is still being read
    small.until(lambda: empty(small))


def test_of_bodies_that_announce_no_length_the_largest_gives_up_for_a_smaller_one(small: FakeServer) -> None:
    def chunk(connection: socket.socket, size: int) -> None:
        connection.sendall(b"%x\r\n" % size + b"a" * size + b"\r\n")

    head = b"POST /tokenize HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    with small.connect() as large, small.connect() as middle, small.connect() as little:
        for connection, size, held in ((large, 2_500_000, 2_500_000), (middle, 1_500_000, 4_000_000)):
            connection.sendall(head)
            chunk(connection, size)
            small.until(partial(holds, small, held))
        little.sendall(head)
        chunk(little, 1_000_000)
        small.until(lambda: small.memory.held == 2_500_000)
        chunk(large, 100_000)
        large.sendall(b"0\r\n\r\n")
        assert b" 503 " in large.recv(65536)


def test_a_body_that_does_not_fit_is_refused_before_it_is_sent(small: FakeServer) -> None:
    with small.connect() as first, small.connect() as second:
        first.sendall(HEAD.format("/tokenize", 3_000_000).encode() + b"a" * 2_500_000)
        small.until(lambda: small.memory.held == 2_500_000)
        second.sendall(HEAD.format("/tokenize", 3_000_000).encode().strip() + b"\r\nexpect: 100-continue\r\n\r\n")
        assert b" 503 " in second.recv(65536)
        assert small.memory.held == 2_500_000


def test_bodies_that_wait_behind_an_answer_are_counted_and_their_connections_cut_off_for_room() -> None:
    """They are pipelined: received as far as one read(2) goes, and not parsed yet."""
    with serving(FakeEngine(running=False), api_server_memory_mib=1) as fake, contextlib.ExitStack() as stack:
        behind = HEAD.format("/tokenize", 3_000_000).encode() + b"a" * 150_000
        for number in range(12):
            connection = stack.enter_context(fake.connect())
            connection.sendall(completion(max_tokens=5) + behind)
            fake.until(partial(asked, fake, number + 1))
        assert MIB / 2 < fake.memory.held <= MIB
        fake.until(lambda: 2 <= fake.counters.requests_in_flight < 12)
        stack.close()
        fake.until(lambda: empty(fake) and not fake.engine.sequences)


def test_what_reading_a_body_makes_is_counted_too(small: FakeServer) -> None:
    """One wide character makes four bytes of every other one."""
    for text, status in (("a" * 2_000_000, 400), ("a" * 2_000_000 + "\U0001f600", 503)):
        answer = small.post("/v1/completions", {"prompt": text})
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == ("context_length_exceeded" if status == 400 else "out_of_memory")


# ---- answers --------------------------------------------------------------------------------------------------------


def test_a_stream_that_nobody_reads_is_ended_with_an_error_and_its_neighbour_is_whole() -> None:
    with serving(api_server_memory_mib=2) as fake:
        with ask(fake, stream=True, logprobs=20, n=8, receive_buffer=4096) as unread:
            fake.until(lambda: len(fake.engine.aborted) == 8)
            assert not fake.engine.sequences
            made = fake.engine.generation_tokens
            with ask(fake, stream=True, max_tokens=500) as neighbour:
                *_, done = events(read_all(neighbour)[1].decode())
                assert done == "[DONE]"
            assert fake.counters.requests_in_flight == 1  # it may still be read, and then it says why it ended
            head, body = read_all(unread)
            *whole, last = events(body.decode())
            assert b" 200 " in head
            assert last["error"]["code"] == "out_of_memory"
            assert all("choices" in each for each in whole)
            assert 50 < len(whole) < made - 500  # what was queued, 2 MiB, made way for that
        fake.until(lambda: empty(fake) and fake.counters.sequences_in_flight == 0)


def test_an_answer_that_grows_beyond_the_budget_while_it_is_collected_is_503() -> None:
    with serving(api_server_memory_mib=2) as fake:
        body = {"prompt": "Once upon a time", "ignore_eos": True, "max_tokens": 1000, "logprobs": 20, "n": 4}
        answer = fake.post("/v1/completions", body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["code"] == "out_of_memory"
        fake.until(lambda: empty(fake) and not fake.engine.sequences)
        assert len(fake.engine.aborted) == 4
        assert fake.post("/v1/completions", body | {"max_tokens": 10}).ok


def test_whole_answers_that_nobody_reads_are_cut_off_when_room_is_needed() -> None:
    """Their length has been said, so no other word fits in."""
    with serving(api_server_memory_mib=4) as fake, contextlib.ExitStack() as stack:
        body = json.dumps({"tokens": [700 + number % 500 for number in range(200_000)]}).encode()
        for number in range(12):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(30)
            connection.connect(("127.0.0.1", fake.port))
            connection.sendall(HEAD.format("/detokenize", len(body)).encode() + body)
            assert fake.memory.held <= 4 * MIB, number
        fake.until(lambda: fake.begun < 12)
        assert fake.post("/v1/completions", {"prompt": "a"}).ok
        assert fake.memory.held <= 4 * MIB
        stack.close()
        fake.until(lambda: empty(fake))


@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_that_dies_gives_all_memory_back(stream: bool) -> None:
    with serving(FakeEngine(step_seconds=0.001)) as fake, ask(fake, stream=stream, n=4, logprobs=5) as connection:
        fake.until(lambda: fake.engine.steps > 5)
        fake.call(lambda: fake.engine.die("it was killed"))
        read_all(connection)
        fake.until(lambda: empty(fake))

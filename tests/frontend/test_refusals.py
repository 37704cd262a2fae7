"""Bad input and full servers, over a real socket: each gets OpenAI's error object, and the server goes on."""

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest
import requests

from lab_support.boundary.messages import ToEngineCore
from tests.fakes import FakeEngine
from tests.frontend.serving import FakeServer, serving

JSON = {"content-type": "application/json"}
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with serving(max_body_bytes=10_000, body_timeout=0.3) as server:
        yield server


def answered(connection: socket.socket) -> tuple[int, dict, bytes]:
    """Status, error and head of the one answer on a raw connection, read to its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, body = data.split(b"\r\n\r\n", 1)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += _more(connection)
    return int(head.split()[1]), json.loads(body)["error"], head.lower()


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    assert data, "closed without an answer"
    return data


def test_a_body_over_the_limit_is_413_even_while_it_is_sent(fake: FakeServer) -> None:
    answer = fake.post("/v1/completions", data=b"x" * 30_000_000, headers=JSON)
    assert answer.status_code == 413
    assert "30000000 bytes" in answer.json()["error"]["message"]
    assert "10000 bytes" in answer.json()["error"]["message"]


def test_a_body_over_the_limit_in_chunks_is_413(fake: FakeServer) -> None:
    answer = fake.post("/v1/completions", data=(b"x" * 1000 for _ in range(100)), headers=JSON)
    assert answer.status_code == 413
    assert "100000 bytes" in answer.json()["error"]["message"]


def test_the_connection_of_a_413_serves_the_next_request(fake: FakeServer) -> None:
    with requests.Session() as session:
        assert session.post(fake.url + "/v1/completions", data=b"x" * 20_000, headers=JSON).status_code == 413
        assert session.get(fake.url + "/health").status_code == 200


def test_a_client_that_asks_before_it_sends_is_answered_before_it_sends(fake: FakeServer) -> None:
    with fake.connect() as connection:
        connection.sendall(HEAD + b"content-length: 20000\r\nexpect: 100-continue\r\n\r\n")
        assert answered(connection)[0] == 413


def test_a_body_that_does_not_arrive_is_408(fake: FakeServer) -> None:
    with fake.connect() as connection:
        connection.sendall(HEAD + b'content-length: 100\r\n\r\n{"prompt"')
        status, error, head = answered(connection)
        assert (status, error["code"]) == (408, "body_timeout")
        assert "0.3 seconds" in error["message"]
        assert b"connection: close" in head
        assert connection.recv(1) == b""


def test_a_client_that_leaves_within_its_body_leaves_nothing(fake: FakeServer) -> None:
    with fake.connect() as connection:
        connection.sendall(HEAD + b'content-length: 100\r\n\r\n{"prompt"')
        fake.until(lambda: fake.begun == 1)
        assert fake.counters.requests_in_flight == 0
    fake.until(lambda: fake.begun == 0)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
        (None, 415),
    ],
)
def test_only_json_is_taken(fake: FakeServer, content_type: str | None, status: int) -> None:
    answer = fake.post("/v1/completions", data=b'{"prompt": "a"}', headers={"content-type": content_type})
    assert answer.status_code == status
    if status == 415:
        assert "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("encoding", "status"), [("identity", 200), ("gzip", 415), ("GZIP", 415), ("br, gzip", 415)])
def test_no_compressed_body_is_taken(fake: FakeServer, encoding: str, status: int) -> None:
    headers = JSON | {"content-encoding": encoding}
    answer = fake.post("/v1/completions", data=b'{"prompt": "a"}', headers=headers)
    assert answer.status_code == status
    if status == 415:
        assert answer.headers["accept-encoding"] == "identity"
        assert encoding.lower() in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": [2048]}, "prompt"),
        ({"prompt": [5, -1]}, "prompt"),
        ({"prompt": [5] * 2048}, "prompt"),
        ({"prompt": "a", "max_tokens": 2048}, "max_tokens"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "prompt_logprobs": 0, "stream": True}, "prompt_logprobs"),
        ({"prompt": "a", "min_tokens": 2048}, "min_tokens"),
        ({"prompt": "a", "stop_token_ids": [2048]}, "stop_token_ids"),
    ],
)
def test_what_the_model_cannot_take_is_400(fake: FakeServer, body: dict, param: str) -> None:
    before = len(fake.engine.generated)
    answer = fake.post("/v1/completions", body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert "got" in error["message"]
    assert len(fake.engine.generated) == before


def test_prompts_that_just_fit_are_taken(fake: FakeServer) -> None:
    assert fake.post("/v1/completions", {"prompt": [5] * 2047}).json()["usage"]["completion_tokens"] == 1
    assert fake.post("/v1/completions", {"prompt": ["a"] * 64, "max_tokens": 1}).ok
    assert fake.post("/v1/completions", {"prompt": [2047, 0], "max_tokens": 2046, "ignore_eos": True}).ok


def test_tool_calls_in_a_message_are_refused(fake: FakeServer) -> None:
    message = {"role": "assistant", "content": "x", "tool_calls": [{"id": 1}]}
    error = fake.post("/v1/chat/completions", {"messages": [message]}).json()["error"]
    assert error["param"] == "messages[0].tool_calls"


@pytest.mark.parametrize(
    "body", [{}, {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, {"prompt": None}]
)
def test_tokenize_wants_exactly_one_thing(fake: FakeServer, body: dict) -> None:
    assert fake.post("/tokenize", body).status_code == 400


def test_over_the_admission_limit_is_503_and_says_when_to_come_back() -> None:
    """The limit is on sequences; the load, as in vLLM, is in requests."""
    with serving(FakeEngine(running=False), max_num_queued_reqs=8) as fake:
        fake.counters.others = 1
        with fake.connect() as connection:
            body = b'{"prompt": ["a", "b", "c"], "n": 2}'
            connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
            fake.until(lambda: len(fake.engine.sequences) == 6)
            assert fake.get("/load").json() == {"server_load": 1}
            assert fake.counters.sequences_in_flight == 6
            refused = fake.post("/v1/completions", {"prompt": "a", "n": 2})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert "got 2 more with 7 in flight, allowed are 8" in refused.json()["error"]["message"]
            fake.counters.others = 2
            for path, field in (("completions", {"prompt": "a"}), ("chat/completions", {"messages": []})):
                assert fake.post(f"/v1/{path}", field).status_code == 503  # before its body is looked at
            assert fake.get("/health").status_code == 200
        fake.until(lambda: fake.counters.sequences_in_flight == 0 and fake.counters.requests_in_flight == 0)
        fake.call(fake.engine.resume)
        assert fake.post("/v1/completions", {"prompt": "a"}).ok
        assert 'vllm:admission_rejections_total{api_server="0",model_name="model"} 3.0' in fake.get("/metrics").text


def test_a_request_that_is_more_than_the_whole_limit_is_400_and_says_what_to_do() -> None:
    with serving(max_num_queued_reqs=31) as fake:
        message = [{"role": "user", "content": "a"}]
        for path, body in (
            ("/v1/completions", {"prompt": ["a", "b"], "n": 16}),
            ("/v1/completions", {"prompt": [[1]] * 32}),
            ("/v1/chat/completions", {"messages": message, "n": 16}),
        ):
            answer = fake.post(path, body | {"max_tokens": 1})
            if "messages" in body:
                assert answer.status_code == 200
                continue
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (400, "too_many_sequences")
            assert (
                "got 32 sequences, which is prompts times n, allowed are 31 (--max-num-queued-reqs)" in error["message"]
            )
        fake.until(lambda: fake.counters.total_sequences() == 0)


def test_requests_without_their_body_take_no_room() -> None:
    with serving(max_num_queued_reqs=1) as fake, contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(fake.connect()).sendall(HEAD + b'content-length: 100\r\n\r\n{"prompt"')
        fake.until(lambda: fake.begun == 4)
        assert fake.post("/v1/completions", {"prompt": "a"}).ok


def test_before_the_engine_is_ready_it_is_503() -> None:
    with serving(FakeEngine(ready=False)) as fake:
        for answer in (fake.get("/health"), fake.get("/ping"), fake.post("/v1/completions", {"prompt": "a"})):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "not_ready"


def test_the_key_guards_everything_but_health() -> None:
    with serving(api_key="sesame") as fake:
        right = {"authorization": "Bearer sesame"}
        wrong = [{}, *({"authorization": each} for each in ("Bearer sesam", "sesame", "Basic sesame", "Bearer", ""))]
        for path in ("/v1/models", "/metrics", "/version", "/load", "/openapi.json", "/nowhere"):
            for headers in wrong:
                answer = fake.get(path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.json()["error"]["code"] == "invalid_api_key"
                assert answer.headers["x-served-by"] == "api-0"
            assert fake.get(path, headers=right).status_code == (404 if path == "/nowhere" else 200)
        assert fake.post("/v1/completions", {"prompt": "a"}).status_code == 401
        assert fake.post("/v1/completions", {"prompt": "a"}, headers=right).status_code == 200
        for path in ("/health", "/ping", "/", "/docs", "/docs/"):
            assert fake.get(path).status_code == 200


def test_one_line_a_request(fake: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "lab.api"):
        fake.post("/v1/completions", {"prompt": [7, 8, 9, 10], "max_tokens": 3}, headers={"x-request-id": "named"})
        fake.get("/nowhere", headers={"x-request-id": "named-too"})
        fake.settle()
    first, second = [record.getMessage() for record in caplog.records if ", named" in record.getMessage()]
    assert first.startswith("POST /v1/completions 200 ")
    assert first.endswith("tokens 4 in 3 out, named")
    assert second.startswith("GET /nowhere 404 ")


def test_no_client_writes_lines_of_its_own_into_the_log(fake: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    """A path is shown as it came: decoded, it may hold line feeds and escape codes."""
    paths = ["/nothing%0AFORGED", "/nothing%0D%0AFORGED%1B%5B2J%E2%80%AE", "/a%20200%200.1%20ms", "/" + "a" * 5000]
    with caplog.at_level("INFO", "lab.api"):
        for path in paths:
            assert fake.get(path).status_code == 404
        fake.post("/v1/completions", {"prompt": "a", "x\n\x1b[2J\u202e": 1})
        fake.settle()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(paths) + 2
    assert all(line.isprintable() and len(line) < 400 for line in lines)
    assert [line.split()[1] for line in lines[:3]] == paths[:3]
    assert all(line.split()[2] == "404" for line in lines[:4])


class BrokenEngine(FakeEngine):
    """Can be asked for nothing: a defect of ours, as far as the HTTP side can tell."""

    def send(self, engine_index: int, message: ToEngineCore) -> None:
        raise OSError("a channel that is no more")


@pytest.mark.parametrize("stream", [False, True])
def test_a_defect_is_500_with_an_error_object_and_the_server_goes_on(stream: bool) -> None:
    with serving(BrokenEngine()) as fake:
        answer = fake.post("/v1/completions", {"prompt": "x", "stream": stream})
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "defect")
        assert answer.json()["error"]["message"] == "the server failed: OSError"
        assert fake.get("/health").status_code == 200
        assert fake.get("/load").json()["server_load"] == 0


def test_a_path_that_is_none_is_404_and_a_method_that_is_none_is_405(fake: FakeServer) -> None:
    answer = fake.get("/v2/completions")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    answer = fake.get("/v1/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert answer.json()["error"]["code"] == "method_not_allowed"

"""`lab load` on servers that write their streams in other ways: its figures are those that the server counted."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab_support.instruments.load.generator import measure
from lab_support.instruments.load.plan import Load
from lab_support.instruments.load.workload import LengthRange, WorkloadError
from tests.instruments.stream_freedoms import FreeServer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ESCAPES = b"\x1b[2J\x1b]0;title\x07\xe9"


@pytest.mark.parametrize("seed", range(4))
def test_every_freedom_of_the_format_gives_the_same_figures(seed, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a\u2028b"}\n{"messages": [{"role": "user", "content": "c"}]}\n', encoding="utf-8")
    with FreeServer(seed) as server:
        load = Load(
            server.url, clients=4, requests=60, prompts=prompts, output_tokens=LengthRange(1, 9), seed=seed, timeout=60
        )
        got = measure(load)
    assert server.errors > 3
    assert (got.asked, got.completed, got.errors) == (60, 60 - server.errors, {"error event": server.errors})
    assert got.tokens == server.tokens
    assert (got.first_token.n, got.inter_token.n) == (60, server.pieces - 60)


# ---- what is no answer -----------------------------------------------------------------------------------------------


@contextmanager
def answering(answer: bytes, *, then_close: bool = True) -> Iterator[str]:
    """The address of a server that has one answer for everybody, in one write; without a close it says no more."""
    held = []

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                client = listening.accept()[0]
            except OSError:
                return
            client.recv(65536)
            client.sendall(answer)
            if then_close:
                client.close()
            else:
                held.append(client)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in held:
                client.close()


def outcome(answer: bytes, *, then_close: bool = True, timeout: float = 30) -> dict[str, int]:
    with answering(answer, then_close=then_close) as url:
        return measure(Load(url, requests=2, clients=1, prompt_words=LengthRange(3, 3), timeout=timeout)).errors


@pytest.mark.parametrize("size", [b"-1f", b"-4", b"5_0", b"zz", b"", b"+5", b"0x10", b" 5", b"1" * 16])
def test_a_chunk_of_no_size_is_not_http(size):
    assert outcome(HEAD + size + b"\r\n", then_close=False) == {"not HTTP": 2}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: " + b"y" * (3 << 20),
        HEAD + b"f" * 100_000,
    ],
)
def test_what_is_no_http_or_never_ends_is_given_up(answer):
    assert outcome(answer, then_close=False) == {"not HTTP": 2}


def test_any_number_of_interim_answers_may_come_first():
    many = b"HTTP/1.1 100 Continue\r\n\r\n" * 3000
    assert outcome(many + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") == {}


def test_an_error_in_an_answer_with_status_200_is_an_error():
    body = b'{"error": {"message": "no such model"}}'
    assert outcome(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) == {"error answer": 2}


def test_the_first_token_of_a_chunk_that_comes_slowly_counts_when_it_came():
    """One chunk for the whole stream, as some proxies write it."""
    piece, rest = b'data: {"choices":[{"text":"a"}]}\n\n', b"data: [DONE]\n\n"

    def serve(listening: socket.socket) -> None:
        client = listening.accept()[0]
        client.recv(65536)
        client.sendall(HEAD + b"%x\r\n" % len(piece + rest) + piece)
        time.sleep(0.5)
        client.sendall(rest + b"\r\n0\r\n\r\n")
        client.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        got = measure(Load(f"127.0.0.1:{listening.getsockname()[1]}", requests=1, prompt_words=LengthRange(3, 3)))
        thread.join()
    assert got.completed == 1
    assert got.end_to_end.max - got.first_token.max > 0.4


# ---- the command -----------------------------------------------------------------------------------------------------


def lab_load(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab_support", "load", *words, "--requests", "4", "--clients", "2"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-Served-By: " + ESCAPES + b"\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-Engine: " + b"e" * 60_000 + b"\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 500 " + ESCAPES + b"\r\nConnection: close\r\n\r\n" + ESCAPES,
        ESCAPES,
    ],
)
def test_nothing_of_a_servers_reaches_the_terminal_as_it_is(answer):
    with answering(answer) as url:
        done = lab_load(url)
    table = done.stdout.rpartition("\n{")[0]
    assert "\x1b" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert max(map(len, table.split("\n"))) < 120


def test_without_a_server_there_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    for more in ([], ["--rate", "2", "--duration", "20"]):
        done = lab_load(f"127.0.0.1:{port}", *more)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            f"lab load: 127.0.0.1:{port}: got Connection refused, expected a server; "
            "start one (`lab serve`) or give another address\n"
        )


@pytest.mark.parametrize("arrivals", [["--clients", "1"], ["--rate", "50"]], ids=["closed", "open"])
def test_ctrl_c_ends_it_with_the_report_so_far(arrivals):
    """One answer, and then none any more."""
    body = b'{"usage": {"completion_tokens": 5}}'
    first = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_server(("127.0.0.1", 0)) as listening:
        words = ["load", f"127.0.0.1:{listening.getsockname()[1]}", "--requests", "50", *arrivals]
        with subprocess.Popen(
            [sys.executable, "-m", "lab_support", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            client = listening.accept()[0]
            client.recv(65536)
            client.sendall(first)
            waiting = client if "--clients" in arrivals else listening.accept()[0]
            assert waiting.recv(65536)  # the next request is under way
            if "--clients" not in arrivals:
                time.sleep(0.2)  # the first answer has been read by then
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=60)
            waiting.close()
            client.close()
    assert process.returncode == 130 and errors == ""
    assert "stopped by Ctrl-C after 1 of 50: 1 requests in" in said
    report = json.loads(said.splitlines()[-1])
    assert (report["asked"], report["completed"], report["tokens"]) == (1, 1, 5)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["http://[::1:80"], "Invalid IPv6 URL"),
        (["127.0.0.1:9", "--api-key", "sécret"], "--api-key: got characters that a header can't carry"),
        (["127.0.0.1:9", "--api-key", "a\nb"], "--api-key: got a key that contains '\\n'"),
        (["127.0.0.1:9", "--trace", "/"], "Is a directory"),
        (["127.0.0.1:9", "--progress-fd", "77"], "got 77, expected a descriptor that is open"),
    ],
)
def test_words_that_make_no_sense_are_refused_in_a_sentence(words, sentence):
    done = lab_load(*words)
    assert done.returncode == 2 and sentence in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b'{"prompt": "\xe9"}', "not UTF-8"),
        (b'{"prompt": "a", "max_tokens": "x"}', "got max_tokens 'x'"),
        (b'{"prompt": "a", "max_tokens": -4}', "got max_tokens -4"),
    ],
)
def test_a_file_of_prompts_that_is_none_is_named(tmp_path, text, sentence):
    (tmp_path / "p.jsonl").write_bytes(text)
    with pytest.raises(WorkloadError, match=sentence):
        measure(Load("127.0.0.1:9", prompts=tmp_path / "p.jsonl"))


@pytest.mark.parametrize("time", ["nan", "inf", "-1"])
def test_a_time_that_is_none_is_refused(tmp_path, time):
    (tmp_path / "trace").write_text(f"0\n{time}\n1\n")
    with pytest.raises(WorkloadError, match="expected arrival times from 0 seconds"):
        measure(Load("127.0.0.1:9", trace=tmp_path / "trace"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_a_report_that_cannot_be_kept_is_printed_all_the_same():
    with answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}") as url:
        done = lab_load(url, "--json", "/dev/full")
    assert done.returncode == 1 and "4 completed" in done.stdout
    assert "--json /dev/full: No space left on device; the report was not written there" in done.stderr

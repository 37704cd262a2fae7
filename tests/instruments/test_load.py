"""The load generator against a small real server on a real socket: counts are exact, kinds are named."""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time

import pytest
from sse_server import SseServer

from lab_support.instruments.load import report, workload
from lab_support.instruments.load.generator import prepare, run_load
from lab_support.instruments.load.latency import Distribution
from lab_support.instruments.load.plan import Load, address_of
from lab_support.instruments.load.progress import Pace, Progress, read_progress
from lab_support.instruments.load.report import BOTTLENECK, GeneratorCost
from lab_support.instruments.load.workload import LengthRange, WorkloadError

WORDS, TOKENS = LengthRange(3, 9), LengthRange(4, 12)


def drive(server: SseServer, **choices) -> report.Report:
    """Run one load against `server`, both in one event loop."""

    async def both() -> report.Report:
        async with server:
            return await run_load(Load(server.url, **{"prompt_words": WORDS, "output_tokens": TOKENS, **choices}))

    return asyncio.run(both())


def told_while_driving(server: SseServer, **choices) -> tuple[report.Report, list[Progress]]:
    """The report, and the lines of progress that a pipe has got."""
    read, write = os.pipe()

    async def both() -> report.Report:
        async with server:
            load = Load(server.url, **{"prompt_words": WORDS, "output_tokens": TOKENS, **choices})
            return await run_load(load, progress_fd=write)

    with open(read) as lines:
        result = asyncio.run(both())
        os.close(write)
        return result, list(read_progress(lines))


def prompts_file(tmp_path, *prompts: dict):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    return path


# ---- progress ----


def test_the_last_line_of_progress_agrees_with_the_report():
    result, lines = told_while_driving(SseServer(), clients=4, requests=40)
    last = lines[-1]
    assert (last.requests, last.asked, last.errors, last.tokens) == (40, 40, 0, result.tokens)
    assert [line.requests for line in lines] == sorted(line.requests for line in lines)


def test_answers_under_way_count_in_the_progress_and_a_stuck_one_stops_it():
    async def both() -> list[Progress]:
        read, write = os.pipe()
        async with SseServer(hold=asyncio.Event()) as server:
            load = Load(server.url, requests=1, clients=1, prompt_words=WORDS, output_tokens=TOKENS, timeout=1)
            await run_load(load, progress_fd=write)
        os.close(write)
        with open(read) as lines:
            return list(read_progress(lines))

    lines = asyncio.run(both())
    assert lines[0].requests == 0
    assert (lines[-1].requests, lines[-1].errors) == (1, 1)
    assert len(lines) > 3


def test_a_reader_of_progress_that_is_gone_does_not_matter():
    read, write = os.pipe()
    os.close(read)

    async def both() -> report.Report:
        async with SseServer() as server:
            return await run_load(Load(server.url, requests=9, prompt_words=WORDS), progress_fd=write)

    assert asyncio.run(both()).completed == 9
    os.close(write)


def test_an_answer_is_counted_once_however_often_it_is_looked_at():
    pace, times = Pace(asked=1, began=10.0), [11.0]
    first = pace.step(11.5, [], [(10.5, times)], 0, 0)
    times.append(12.0)
    second = pace.step(12.5, [], [(10.5, times)], 0, 0)
    times.append(14.0)
    third = pace.step(14.5, [(10.5, times)], [], 1, 0)
    assert [line.tokens for line in (first, second, third)] == [1, 2, 3]
    assert [line.first_token for line in (first, second, third)] == [0.5, None, None]
    assert [line.inter_token for line in (first, second, third)] == [None, 1.0, 2.0]
    assert [line.tokens_per_second for line in (first, second, third)] == [0.7, 1.0, 0.5]


# ---- counts ---------------------------------------------------------------------------------------------------------


def test_every_request_and_every_token_is_counted_once():
    server = SseServer()
    result = drive(server, clients=4, requests=40)
    assert (result.asked, result.completed, result.errors) == (40, 40, {})
    assert len(server.requests) == 40
    assert result.tokens == server.tokens_sent == sum(request["max_tokens"] for request in server.requests)
    assert (result.first_token.n, result.end_to_end.n) == (40, 40)
    assert result.inter_token.n == server.tokens_sent - 40


def test_progress_is_drawn_where_it_is_asked_for(capsys):
    async def both() -> None:
        async with SseServer() as server:
            await run_load(Load(server.url, requests=12, prompt_words=WORDS), progress=True)

    asyncio.run(both())
    assert "12/12" in capsys.readouterr().err


def test_clients_keep_their_connections():
    server = SseServer()
    drive(server, clients=4, requests=40)
    assert server.connections == 4


def test_without_keep_alive_each_request_has_its_own_connection():
    server = SseServer()
    result = drive(server, clients=4, requests=20, keep_alive=False)
    assert (server.connections, result.completed) == (20, 20)
    assert all(headers["connection"] == "close" for headers in server.headers)


def test_a_kept_connection_that_the_server_closed_is_replaced_and_its_request_asked_again():
    server = SseServer(close_after=3)
    result = drive(server, clients=2, requests=30)
    assert (result.completed, result.errors) == (30, {})
    assert server.connections >= 10


def test_answers_without_a_stream_count_the_servers_tokens():
    server = SseServer()
    result = drive(server, clients=3, requests=9, stream=False)
    assert result.completed == 9
    assert result.tokens == sum(request["max_tokens"] for request in server.requests)
    assert (result.first_token.n, result.inter_token.n, result.end_to_end.n) == (0, 0, 9)


def test_shares_are_told_apart_by_the_servers_own_headers():
    result = drive(SseServer(name="api-7"), clients=1, requests=10)
    assert {name: share.requests for name, share in result.by_server.items()} == {"api-7": 10}
    assert {name: share.requests for name, share in result.by_engine.items()} == {"engine-0": 5, "engine-1": 5}
    assert sum(share.tokens for share in result.by_engine.values()) == result.tokens


# ---- hanging up, and what else can happen ---------------------------------------------------------------------------


def test_the_asked_share_hangs_up_early_and_is_no_error():
    server = SseServer()
    result = drive(server, clients=4, requests=50, hangup_share=0.2, output_tokens=LengthRange(64, 64))
    assert (result.hung_up, result.completed, result.errors) == (10, 40, {})
    assert result.end_to_end.n == 40
    assert result.tokens < 50 * 64


def test_one_that_hangs_up_at_once_is_still_asked():
    server = SseServer()
    result = drive(server, clients=1, requests=5, hangup_share=1.0, output_tokens=LengthRange(1, 1))
    assert (result.hung_up, result.tokens, result.first_token.n) == (5, 0, 0)


@pytest.mark.parametrize(
    ("prompt", "kind"), [("503", "status 503"), ("cut", "cut off"), ("error", "error event"), ("no end", "no [DONE]")]
)
def test_errors_are_counted_by_kind(tmp_path, prompt, kind):
    path = prompts_file(tmp_path, {"prompt": prompt, "max_tokens": 4})
    result = drive(SseServer(), clients=2, requests=6, prompts=path, prompt_words=None, output_tokens=None)
    assert (result.errors, result.completed) == ({kind: 6}, 0)


def test_a_stream_may_end_with_its_reason_and_without_done(tmp_path):
    """As that of `transformers serve` does."""
    path = prompts_file(tmp_path, {"prompt": "no done", "max_tokens": 4})
    result = drive(SseServer(), clients=2, requests=6, prompts=path, prompt_words=None, output_tokens=None)
    assert (result.errors, result.completed, result.tokens) == ({}, 6, 24)


def test_nobody_there_is_an_error_of_each_request():
    async def both() -> report.Report:
        async with SseServer() as server:
            pass
        return await run_load(Load(server.url, requests=3, clients=1, prompt_words=WORDS))

    assert asyncio.run(both()).errors == {"connect: Connection refused": 3}


def test_connecting_is_bounded_in_time_too():
    """No process accepts and the queue is full: the kernel would keep trying for two minutes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as nobody, socket.create_connection(nobody.getsockname()):
        load = Load(f"127.0.0.1:{nobody.getsockname()[1]}", requests=2, clients=2, prompt_words=WORDS, timeout=0.1)
        assert asyncio.run(run_load(load)).errors == {"connect: timeout": 2}


def test_a_request_ends_at_its_timeout():
    async def both() -> report.Report:
        async with SseServer(hold=asyncio.Event()) as server:
            return await run_load(Load(server.url, requests=2, clients=2, prompt_words=WORDS, timeout=0.05))

    assert asyncio.run(both()).errors == {"timeout": 2}


def test_time_bounds_the_load_where_the_count_does_not():
    result = drive(SseServer(), clients=2, requests=10**5, duration=0.1)
    assert 0 < result.asked < 10**5
    assert result.asked == result.completed


# ---- open loop ------------------------------------------------------------------------------------------------------


def test_an_open_loop_does_not_wait_for_answers():
    """While the server holds every answer back, all requests of a trace arrive; a closed loop would send one."""

    async def both() -> tuple[int, report.Report]:
        async with SseServer(hold=asyncio.Event()) as server:
            load = asyncio.create_task(run_load(Load(server.url, rate=1000, requests=20, prompt_words=WORDS)))
            while len(server.requests) < 20:
                await asyncio.sleep(0.001)  # gives the loop to the load
            server.hold.set()
            return server.connections, await load

    connections, result = asyncio.run(both())
    assert (connections, result.completed) == (20, 20)


def test_in_an_open_loop_waiting_counts_from_when_the_request_was_due(tmp_path):
    """A generator that is stuck for 200 ms shows 200 ms of latency and of lateness, and says that it is to blame."""
    trace = tmp_path / "arrivals.txt"
    trace.write_text("# seconds\n" + "0.0\n" * 10)

    async def both() -> report.Report:
        async with SseServer() as server:
            asyncio.get_running_loop().call_soon(time.sleep, 0.2)  # holds the generator's only thread
            return await run_load(Load(server.url, trace=trace, prompt_words=WORDS))

    result = asyncio.run(both())
    assert result.asked == result.completed == 10
    assert result.lateness.p50 >= 0.15
    assert result.first_token.p50 >= result.lateness.p50
    assert BOTTLENECK in result.bottleneck


def test_a_trace_bounds_the_number_of_requests(tmp_path):
    trace = tmp_path / "arrivals.txt"
    trace.write_text("0\n0.01\n0.02\n")
    assert drive(SseServer(), trace=trace, requests=50).asked == 3


def test_poisson_arrivals_have_the_asked_rate():
    """Mean gap of 10,000 draws: within 5 % of 1/rate; false alarm about 6e-7 (five standard errors)."""
    arrivals = workload.poisson_arrivals(50, random.Random(1))
    last = [next(arrivals) for _ in range(10_000)][-1]
    assert last / 10_000 == pytest.approx(1 / 50, rel=0.05)


@pytest.mark.parametrize(
    ("cost", "lateness", "expected"),
    [
        (GeneratorCost(1, 0.2, 0.1), 0.001, False),
        (GeneratorCost(1, 0.95, 0.0), 0.001, True),
        (GeneratorCost(1, 0.5, 0.45), 0.001, True),
        (GeneratorCost(1, 0.2, 0.1), 0.050, True),
    ],
)
def test_the_generator_says_when_it_is_the_bottleneck(cost, lateness, expected):
    assert (BOTTLENECK in report.bottleneck(cost, Distribution(n=10, p90=lateness))) is expected


# ---- what is asked --------------------------------------------------------------------------------------------------


def test_the_same_seed_asks_the_same_questions():
    load = Load("127.0.0.1:1", requests=20, prompt_words=WORDS, output_tokens=TOKENS, hangup_share=0.5, seed=4)
    assert prepare(load) == prepare(load)
    assert prepare(load) != prepare(Load("127.0.0.1:1", requests=20, prompt_words=WORDS, output_tokens=TOKENS, seed=5))


def test_prompts_and_messages_go_to_their_own_routes(tmp_path):
    path = prompts_file(
        tmp_path,
        {"prompt": "Once", "max_tokens": 3},
        {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5},
    )
    server = SseServer()
    drive(server, requests=4, clients=1, prompts=path, prompt_words=None, output_tokens=None, ignore_eos=True)
    asked = sorted(zip(server.paths, (request["max_tokens"] for request in server.requests), strict=True))
    assert asked == [("/v1/chat/completions", 5)] * 2 + [("/v1/completions", 3)] * 2
    assert all(request["ignore_eos"] and request["stream"] for request in server.requests)


def test_the_key_is_sent():
    server = SseServer()
    drive(server, requests=1, clients=1, api_key="secret")
    assert server.headers[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    "url", ["http://example.org:80", "http://10.0.0.1:8000", "https://127.0.0.1:1", "http://0.0.0.0:1"]
)
def test_only_the_loopback_is_ever_asked(url):
    with pytest.raises(WorkloadError, match="expected"):
        Load(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "127.0.0.1:8000", "http://localhost:8000/v1", "http://[::1]:8000"]
)
def test_every_spelling_of_the_loopback_is_allowed(url):
    assert address_of(url)[1] == 8000


@pytest.mark.parametrize("text", ["", "0", "9-4", "x", "4-"])
def test_a_length_that_is_none_is_refused(text):
    if text == "4-":
        assert workload.length_range(text) == LengthRange(4, 4)
        return
    with pytest.raises(WorkloadError, match="expected a length"):
        workload.length_range(text)


@pytest.mark.parametrize("line", ["not JSON", '{"max_tokens": 4}', '{"prompt": "a", "messages": []}', ""])
def test_prompts_that_are_none_are_refused_by_name(tmp_path, line):
    path = tmp_path / "prompts.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(WorkloadError, match=r"prompts\.jsonl"):
        prepare(Load("127.0.0.1:1", prompts=path))


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked():
    """The command line that asks a server of the tests."""
    server = subprocess.Popen(
        [sys.executable, __file__.replace("test_load", "sse_server")], stdout=subprocess.PIPE, text=True
    )
    with server:
        address = f"127.0.0.1:{server.stdout.readline().strip()}"
        flags = "--requests 6 --clients 2 --prompt-words 4 --output-tokens 2-8 --no-keep-alive"
        yield [sys.executable, "-m", "lab_support.instruments.load.command", address, *flags.split()]
        server.terminate()


def test_the_command_prints_a_table_and_then_one_line_of_json(asked, tmp_path):
    command = [*asked, "--json", tmp_path / "r.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *people, program = done.stdout.splitlines()
    result = report.from_json(program)
    assert any("time to first token" in line for line in people)
    assert result == report.from_json((tmp_path / "r.json").read_text())
    assert (result.completed, list(result.by_server)) == (6, ["api-0"])


def test_on_a_terminal_the_command_prints_the_table_alone(asked):
    screen, terminal = os.openpty()
    with open(screen, errors="replace") as shown:
        subprocess.run(asked, stdout=terminal, stderr=subprocess.DEVNULL, timeout=60, check=True)
        written = os.read(shown.fileno(), 65536).decode()
        os.close(terminal)
    assert "time to first token" in written and "{" not in written


def test_the_command_refuses_a_stranger_with_a_sentence_and_2():
    done = subprocess.run(
        [sys.executable, "-m", "lab_support.instruments.load.command", "http://example.org:80"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "only asks servers on its own machine" in done.stderr

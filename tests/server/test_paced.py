"""A server at a GPU's pace: named as a stand-in everywhere, true to its table, and refusing what it can't compute."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab_support.instruments import proc
from tests.departures import completion
from tests.frontend.test_metrics import value
from tests.running_server import RunningServer, running_server
from tests.server.test_serve_refusals import refusal

TABLE = "1 40 5\n1 400 20\n8 40 10\n8 400 40\n"
FAST = "1 1 0.001\n"
PROMPT = [*range(100, 130)]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": PROMPT, "max_tokens": 4},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4},
}


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server at the pace of TABLE."""
    file = tmp_path_factory.mktemp("paces") / "mine.txt"
    file.write_text(TABLE)
    with running_server("--max-num-seqs", "8", device=f"paced:{file}", api_server_count=1) as server:
        yield server


def ask(server: RunningServer, **fields: Any) -> dict[str, Any]:
    answer = server.post("/v1/completions", {"prompt": PROMPT} | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


# ---- named as what it is --------------------------------------------------------------------------------------------


def test_a_stand_in_is_named_wherever_its_figures_could_show(paced: RunningServer) -> None:
    named = "stand-in for a GPU, paced like mine.txt"
    told = paced.get("/version").json()
    assert (told["device"], told["batching"]) == ("paced:mine.txt", "continuous")
    assert told["stand_in"].startswith(named)
    assert paced.facts["details"]["engine-0"]["stand_in"].startswith(named)
    assert re.search(f'lab_engine_info{{.*device="paced:mine.txt".*stand_in="{named}', paced.get("/metrics").text)
    assert named in paced.get("/openapi.json").json()["info"]["description"]
    log = paced.said()
    assert f"{named} (the reader's own table); nothing is computed, and answers are random tokens" in log
    assert f"on a {named}" in log


def test_a_device_that_computes_is_named_too(server: RunningServer) -> None:
    told = server.get("/version").json()
    assert told["device"] in ("cpu", "cuda") and told["stand_in"] is None
    text = server.get("/metrics").text
    assert value(text, "lab_engine_info", device=told["device"], stand_in="", batching="continuous") == 1
    assert "lab_engine_late_steps_total{" not in text


def test_no_process_of_it_maps_torch(paced: RunningServer) -> None:
    maps = Path(f"/proc/{paced.pids['engine-0']}/maps").read_text()
    assert "libtorch" not in maps and "/python" in maps


# ---- true to its table ----------------------------------------------------------------------------------------------


def totals(server: RunningServer) -> tuple[float, float, float]:
    """(steps, seconds of the engine core with work, seconds by which Python was late)."""
    text = server.get("/metrics").text
    stage = "lab_engine_stage_seconds_total"
    worked = value(text, stage) - value(text, stage, stage="idle")
    return value(text, "lab_engine_steps_total"), worked, value(text, "lab_engine_late_seconds_total")


def milliseconds_a_step(server: RunningServer, rows: int, prompt: list[int], tokens: int = 60) -> float:
    """The mean over a request with so many choices. The engine core publishes all its totals when it has no work."""
    before = totals(server)
    ask(server, n=rows, prompt=prompt, max_tokens=tokens)
    while (after := totals(server))[0] < before[0] + tokens:
        pass
    steps, worked, late = (new - old for new, old in zip(after, before, strict=True))
    assert tokens <= steps <= tokens + 3  # the choices arrive one after another
    return (worked - late) / steps * 1000


def test_steps_take_the_time_of_the_table_by_rows_and_context(paced: RunningServer) -> None:
    """With 60 tokens of an answer, a prompt of 30 tokens is 60 long at the mean, and one of 300 is 330."""
    short = milliseconds_a_step(paced, 1, PROMPT)
    at_60, at_330 = 5 + 15 * 20 / 360, 5 + 15 * 290 / 360
    assert short == pytest.approx(at_60, rel=0.1)
    assert milliseconds_a_step(paced, 8, PROMPT) / short == pytest.approx(2, rel=0.1)
    assert milliseconds_a_step(paced, 1, PROMPT * 10) / short == pytest.approx(at_330 / at_60, rel=0.1)


def test_the_engine_core_takes_hardly_any_cpu(paced: RunningServer) -> None:
    def cpu() -> float:
        found = proc.read_process(paced.pids["engine-0"])
        assert found
        return found.cpu_seconds

    before, begun = cpu(), totals(paced)[1]
    ask(paced, max_tokens=100)
    while (worked := totals(paced)[1] - begun) < 0.5:
        pass
    assert cpu() - before < 0.3 * worked


def test_contexts_outside_the_table_are_counted_and_said_once(paced: RunningServer) -> None:
    def counted(context: str) -> float:
        return value(paced.get("/metrics").text, "lab_engine_unmeasured_steps_total", context=context)

    before = {context: counted(context) for context in ("shorter", "longer")}
    for _ in range(2):
        ask(paced, prompt=[5], max_tokens=10)
        ask(paced, prompt=PROMPT * 20, max_tokens=10)
    while counted("shorter") < before["shorter"] + 20 or counted("longer") < before["longer"] + 20:
        pass
    said = re.findall("got a step with a context of ([0-9]+) tokens, and 40 to 400 were measured", paced.said())
    assert [int(context) > 400 for context in said] in ([False, True], [True, False])


def test_where_python_is_slower_than_the_pace_late_steps_are_counted(tmp_path: Path) -> None:
    """And flags that a device alone would obey are said to change nothing."""
    (tmp_path / "fast.txt").write_text(FAST)
    flags = {"device": f"paced:{tmp_path}/fast.txt", "max_num_seqs": 1, "dtype": "bfloat16", "torch_threads": 2}
    with running_server(api_server_count=1, **flags) as server:
        ask(server, max_tokens=300)
        while (steps := totals(server)[0]) < 300:
            pass
        text = server.get("/metrics").text
        assert value(text, "lab_engine_late_steps_total") > 0.9 * steps
        assert 0 < value(text, "lab_engine_late_seconds_total") <= totals(server)[1]
        assert "--dtype, --torch-threads: accepted, but changes nothing under --device paced:" in server.said()


def test_sigterm_does_not_wait_for_a_long_step(tmp_path: Path) -> None:
    """A minute's step is under way, and its client has left. Without the interrupt the stop would take as long."""
    (tmp_path / "slow.txt").write_text("1 1 60000\n")
    flags = {"device": f"paced:{tmp_path}/slow.txt", "max_num_seqs": 1, "shutdown_timeout": 100.0}
    with running_server(api_server_count=1, **flags) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(completion())
            while "got a step with a context" not in server.said():
                pass
        assert server.stop() == 0  # within 30 s


# ---- answers --------------------------------------------------------------------------------------------------------


def test_answers_are_repeatable_and_end_by_length_alone(paced: RunningServer) -> None:
    greedy = [ask(paced, max_tokens=50, temperature=0)["choices"][0] for _ in range(2)]
    seeded = [ask(paced, max_tokens=50, seed=7)["choices"][0] for _ in range(2)]
    free = [ask(paced, max_tokens=50)["choices"][0] for _ in range(2)]
    assert greedy[0] == greedy[1] and seeded[0] == seeded[1]
    assert len({each["text"] for each in (greedy[0], seeded[0], *free)}) == 4
    assert {each["finish_reason"] for each in (*greedy, *seeded, *free)} == {"length"}


def test_a_client_s_own_ends_are_kept(paced: RunningServer) -> None:
    whole = ask(paced, max_tokens=50, temperature=0)["choices"][0]["text"]
    stop = whole.split()[12]
    ended = ask(paced, max_tokens=50, temperature=0, stop=[stop])["choices"][0]
    assert ended["finish_reason"] == "stop" and ended["text"] == whole[: whole.index(stop)]
    tokens = paced.post("/tokenize", {"prompt": whole}).json()["tokens"]
    stops = ask(paced, max_tokens=400, temperature=0, stop_token_ids=tokens[:16])["choices"][0]
    assert stops["finish_reason"] == "stop"
    usage = ask(paced, max_tokens=400, temperature=0, stop_token_ids=tokens[:16], min_tokens=60)["usage"]
    assert usage["completion_tokens"] > 60


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("field", "asks", "asks_nothing"),
    [
        ("logprobs", {"/v1/completions": 0, "/v1/chat/completions": True}, None),
        ("prompt_logprobs", 1, None),
        ("presence_penalty", 0.5, 0),
        ("frequency_penalty", -0.5, 0.0),
        ("repetition_penalty", 1.1, 1),
        ("echo", {"/v1/completions": True, "/v1/chat/completions": True}, False),
        ("logit_bias", {"5": 10}, {}),
    ],
)
def test_what_needs_probabilities_is_refused_by_name(
    paced: RunningServer, route: str, field: str, asks: Any, asks_nothing: Any
) -> None:
    wanted = asks[route] if isinstance(asks, dict) and route in asks else asks
    answer = paced.post(route, ROUTES[route] | {field: wanted})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, field, "unsupported_field")
    assert error["message"].startswith(f"{field}: got ") and "because" in error["message"]
    assert paced.post(route, ROUTES[route] | {field: asks_nothing}).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
def test_what_load_generators_send_is_accepted(paced: RunningServer, route: str) -> None:
    sent = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "ignore_eos": True, "seed": 1, "min_tokens": 4}
    answer = paced.post(route, ROUTES[route] | sent)
    assert answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] == 4


# ---- refused at the start -------------------------------------------------------------------------------------------


def test_a_pace_that_can_not_be_kept_is_refused_before_anything_starts(tmp_path: Path) -> None:
    said = refusal(device="paced:8B", max_num_seqs=100)
    assert "--max-num-seqs: got 100, expected at most 64 under --device paced:8B" in said
    (tmp_path / "bad.txt").write_text("1 512\n")
    assert "bad.txt, line 1: got '1 512', expected three numbers" in refusal(device=f"paced:{tmp_path}/bad.txt")


# ---- blocks and batches ---------------------------------------------------------------------------------------------


def test_preemption_is_as_on_a_device_and_changes_no_token(paced: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(TABLE)
    few = {"device": f"paced:{tmp_path}/mine.txt", "max_num_seqs": 8, "num_gpu_blocks_override": 12}
    bodies = [{"prompt": [5, 6, number], "max_tokens": 60, "temperature": 0} for number in range(8)]
    expected = [ask(paced, **body)["choices"] for body in bodies]
    with running_server(api_server_count=1, **few) as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: ask(server, **body)["choices"], bodies))
        while value(server.get("/metrics").text, "lab_engine_free_blocks") < 12:
            pass
        assert value(server.get("/metrics").text, "vllm:num_preemptions_total") > 0
    assert answers == expected


def ended(server: RunningServer) -> list[str]:
    """Lengths of the answers in the order of their end: a short request comes while a long one runs alone."""
    long = {"prompt": [5] * 31, "max_tokens": 100, "stream": True}
    with server.post("/v1/completions", long, stream=True) as answer:
        lines = answer.iter_lines()
        next(lines)
        ask(server, prompt=[6] * 31, max_tokens=2)
        assert len(list(lines)) > 99
    found: list[str] = []
    while len(found) < 2:
        found = re.findall(r"tokens 31 in (\d+) out", server.said())
    return found


def test_in_continuous_batching_a_request_joins_at_once(paced: RunningServer) -> None:
    assert ended(paced) == ["2", "100"]
    assert "--batching" not in paced.said()


def test_a_static_batch_lets_nobody_in_before_all_of_it_has_ended(tmp_path: Path) -> None:
    (tmp_path / "slow.txt").write_text("1 1 10\n2 1 10\n")
    flags = {"device": f"paced:{tmp_path}/slow.txt", "max_num_seqs": 2, "batching": "static"}
    with running_server(api_server_count=1, **flags) as server:
        assert ended(server) == ["100", "2"]
        assert server.get("/version").json()["batching"] == "static"
        assert value(server.get("/metrics").text, "lab_engine_info", batching="static") == 1
        assert "--batching static: no request joins" in server.said()

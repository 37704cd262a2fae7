"""/metrics is right from whichever API server is asked, and an engine core's totals are counted once."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lab_support.boundary.messages import EngineStats
from lab_support.config import ServerConfig
from lab_support.frontend.metrics.metrics import Metrics
from lab_support.metric_files import clear_gauges, metric_files
from tests.frontend.serving import serving


def value(text: str, name: str, **labels: str) -> float:
    """The sum of all samples of `name` that have these labels."""
    found = 0.0
    for line in text.splitlines():
        match = re.fullmatch(r"([a-z_:]+)\{(.*)\} (\S+)", line)
        if match and match[1] == name and all(f'{key}="{each}"' in match[2] for key, each in labels.items()):
            found += float(match[3])
    return found


@contextlib.contextmanager
def api_server(index: int, metrics: Path) -> Iterator[str]:
    """The URL of an API server in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.frontend.serve_fake", str(index)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(metrics)},
    )
    with process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate()


def test_two_api_servers_give_one_sum(tmp_path: Path) -> None:
    with api_server(0, tmp_path) as first, api_server(1, tmp_path) as second:
        for url, count in ((first, 2), (second, 3)):
            for _ in range(count):
                requests.post(url + "/v1/completions", json={"prompt": [5, 6, 7], "max_tokens": 10}, timeout=30)
            requests.get(url + "/metrics", timeout=30)  # publishes at once what it counted
        texts = [requests.get(url + "/metrics", timeout=30).text for url in (first, second)]
    for text in texts:
        assert value(text, "vllm:generation_tokens_total", engine="0") == 50
        assert value(text, "vllm:prompt_tokens_total", engine="0") == 15
        assert value(text, "vllm:request_success_total", finished_reason="length") == 5
        assert value(text, "vllm:time_to_first_token_seconds_count") == 5
        assert value(text, "vllm:inter_token_latency_seconds_count") == 45
        assert value(text, "vllm:inter_token_latency_seconds_bucket", le="+Inf") == 45
        assert value(text, "vllm:request_generation_tokens_sum") == 50
        assert value(text, "lab_api_requests_total", api_server="0", status="200") >= 2
        assert value(text, "lab_api_requests_total", api_server="1", status="200") >= 3


def test_counts_are_published_without_being_asked_for(tmp_path: Path) -> None:
    """Counts of one API server show at another, though nobody asks the first for its metrics."""
    with api_server(0, tmp_path) as first, api_server(1, tmp_path) as second:
        requests.post(first + "/v1/completions", json={"prompt": [5], "max_tokens": 7}, timeout=30)
        deadline = time.monotonic() + 30
        while value(requests.get(second + "/metrics", timeout=30).text, "vllm:generation_tokens_total") != 7:
            assert time.monotonic() < deadline


def test_an_engine_cores_stats_become_gauges_and_totals() -> None:
    with serving() as fake:
        fake.post("/v1/completions", {"prompt": [5, 6, 7], "max_tokens": 10})
        text = fake.get("/metrics").text
        assert value(text, "lab_engine_total_blocks", engine="0") == 1000
        assert value(text, "lab_engine_free_blocks", engine="0") == 1000
        assert value(text, "lab_engine_steps_total") == fake.engine.steps == 10
        assert value(text, "lab_engine_generation_tokens_total") == 10
        assert round(value(text, "lab_engine_stage_seconds_total", stage="model"), 6) == 0.01
        for stage in ("tokenize", "detokenize", "send"):
            assert value(text, "lab_api_stage_seconds_total", stage=stage) >= 0
        assert value(text, "lab_api_stage_seconds_total", stage="send") > 0


def test_totals_are_published_as_what_they_grew_by() -> None:
    metrics = Metrics("model", engine_count=2, api_server_index=0)

    def publish(engine: int, steps: int) -> None:
        stages = {"model": steps / 2}
        metrics.engines[engine].latest = EngineStats(engine, 1, 2, 30, 40, steps, 5, 6, 7, 8, 9, 2, 11, 10, stages)
        metrics.publish()

    for steps in (10, 10, 25):
        publish(0, steps)
    publish(1, 3)
    text = metrics.render().decode()
    assert value(text, "lab_engine_steps_total", engine="0") == 25
    assert value(text, "lab_engine_steps_total", engine="1") == 3
    assert value(text, "lab_engine_stage_seconds_total", engine="0", stage="model") == 12.5
    assert value(text, "vllm:num_preemptions_total", engine="0") == 7
    assert value(text, "vllm:prefix_cache_queries_total", engine="0") == 11
    assert value(text, "vllm:prefix_cache_hits_total", engine="0") == 10
    assert value(text, "vllm:num_requests_running", engine="0") == 1
    assert value(text, "vllm:num_requests_waiting", engine="0") == 2
    assert value(text, "vllm:kv_cache_usage_perc", engine="0") == 0.25
    assert value(text, "lab_engine_abort_steps_max", engine="0") == 2


# An API server in small. It takes over `slot`, counts one request of each of so many statuses, hears that the engine
# core has made `steps` steps, and prints what /metrics would say. Then it ends without a farewell, as by SIGKILL.
ONE_LIFE = """
import os, sys
from lab_support.boundary.messages import EngineStats
from lab_support.frontend.metrics.metrics import Metrics

slot, steps, engines, statuses, name = *map(int, sys.argv[1:5]), sys.argv[5]
metrics = Metrics(name, engines, 0, slot)
metrics.changed = lambda: None
for status in range(200, 200 + statuses):
    metrics.server.answered(status)
stages = dict.fromkeys(("idle", "receive", "schedule", "run", "send"), steps / 2)
for index in range(engines):
    metrics.engines[index].first_token(0.5)
    metrics.engines[index].latest = EngineStats(index, 1, 0, 30, 40, steps, 0, 0, 0, 0, 0, 0, 0, 0, stages)
print(metrics.render().decode(), flush=True)
os._exit(9)
"""


def prepare(directory: Path, config: ServerConfig) -> dict[str, int]:
    """As the launcher does it."""
    files = metric_files(config)
    for name, size in files.items():
        (directory / name).write_bytes(bytes(size))
    return files


def live(directory: Path, slot: int, steps: int, config: ServerConfig, statuses: int = 1) -> str:
    words = [*map(str, (slot, steps, config.data_parallel_size, statuses)), config.model_name]
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    return subprocess.run([sys.executable, "-c", ONE_LIFE, *words], env=env, capture_output=True, text=True).stdout


def test_twenty_successors_leave_no_file_more_and_go_on_counting(tmp_path: Path) -> None:
    config = ServerConfig(api_server_count=1, served_model_name="m")
    files = prepare(tmp_path, config)
    for life in range(1, 21):
        slot = life % 2
        clear_gauges(str(tmp_path), slot)  # the launcher does, once its former owner has ended
        text = live(tmp_path, slot, 10 * life, config)
        assert value(text, "lab_api_requests_total", api_server="0", status="200") == life
        assert value(text, "vllm:time_to_first_token_seconds_count") == life
        assert value(text, "lab_engine_steps_total") == 10 * life
        assert value(text, "lab_engine_stage_seconds_total", stage="run") == 5 * life
        assert value(text, "lab_engine_free_blocks") == 30
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == files


def test_what_a_dead_one_measured_is_forgotten(tmp_path: Path) -> None:
    config = ServerConfig(api_server_count=1, served_model_name="m")
    prepare(tmp_path, config)
    live(tmp_path, 0, 10, config)
    clear_gauges(str(tmp_path), 0)
    with api_server(1, tmp_path) as url:
        text = requests.get(url + "/metrics", timeout=30).text
    assert 'vllm:num_requests_running{engine="0",model_name="m"}' not in text
    assert value(text, "lab_engine_steps_total", model_name="m") == 10


@pytest.mark.parametrize("engines", [1, 8])
@pytest.mark.parametrize("name", ["m", "m" * 255, "\ufffd" * 255])
def test_the_files_are_never_outgrown(tmp_path: Path, engines: int, name: str) -> None:
    """The library would let them grow, by pages that have no room on the disk yet. All its series are made here."""
    config = ServerConfig(api_server_count=1, data_parallel_size=engines, served_model_name=name)
    files = prepare(tmp_path, config)
    text = live(tmp_path, 0, 10, config, statuses=40)
    assert value(text, "lab_engine_steps_total") == 10 * engines
    assert value(text, "lab_api_requests_total") == 40
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == files
    for path in tmp_path.glob("*_0.db"):
        assert path.read_bytes()[:4] != bytes(4), f"{path.name} is none that the library opens"

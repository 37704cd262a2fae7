"""Our engine core as rank 1 of a real `vllm serve --data-parallel-size 2`: the tokens of vLLM's own rank 0."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from lab_support.config import MODEL_IN_THE_BOX
from tests.server.test_replacement import until
from tests.server.vllm_core.needed import VLLM_PYTHON, WITH_VLLM
from tests.server.vllm_core.test_vllm_core import DRAWN
from tests.server.vllm_rs.test_vllm_rs import QUESTIONS

pytestmark = WITH_VLLM


@dataclass
class Pair:
    url: str
    vllm: subprocess.Popen[bytes]
    rank: subprocess.Popen[bytes]
    log: Path

    def answer(self, rank: int, question: dict[str, Any]) -> Any:
        headers = {"X-data-parallel-rank": str(rank)}
        body = {"model": "model", **question}
        got = requests.post(f"{self.url}/v1/completions", json=body, headers=headers, timeout=120)
        assert got.status_code == 200, got.text
        [choice] = got.json()["choices"]
        return choice["text"], choice["finish_reason"], got.json()["usage"]["completion_tokens"]

    def ready(self) -> bool:
        assert self.vllm.poll() is None and self.rank.poll() is None
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.RequestException:
            return False


def free_port() -> str:
    """vLLM takes a number alone. Nobody else of these tests takes one that the kernel has just given."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder, port, rpc_port = tmp_path_factory.mktemp("pair"), free_port(), free_port()
    both = ["--data-parallel-size", "2", "--data-parallel-rpc-port", rpc_port, "--dtype", "float32", "--enforce-eager"]
    of_vllm = ["--host", "127.0.0.1", "--port", port, "--served-model-name", "model", "--data-parallel-size-local", "1"]
    serve = [VLLM_PYTHON, "-m", "vllm.entrypoints.cli.main", "serve", str(MODEL_IN_THE_BOX), *of_vllm, *both]
    headless = [sys.executable, "-m", "lab_support", "serve", "--headless", "--data-parallel-start-rank", "1", *both]
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with Path(folder / "log").open("wb") as log:
        vllm = subprocess.Popen(serve, env=quiet, stdout=log, stderr=log, process_group=0)
        rank = subprocess.Popen(headless, stdout=log, stderr=log)
        try:
            made = Pair(f"http://127.0.0.1:{port}", vllm, rank, folder / "log")
            deadline = time.monotonic() + 400
            while not made.ready():
                assert time.monotonic() < deadline
                time.sleep(0.5)
            yield made
        finally:
            rank.kill()
            rank.wait()
            vllm.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                vllm.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(vllm.pid, signal.SIGKILL)
            vllm.wait()
            print(Path(folder / "log").read_text(errors="replace")[-20_000:])


@pytest.mark.parametrize("name", sorted(QUESTIONS.keys() - DRAWN))
def test_either_rank_gives_the_same_answer(pair, name):
    assert pair.answer(0, QUESTIONS[name]) == pair.answer(1, QUESTIONS[name])


def test_vllm_s_api_servers_end_once_the_rank_has_said_that_it_ends(pair):
    """Its launcher then waits to be told to stop, as after any other end of theirs without an error code."""
    pair.rank.send_signal(signal.SIGTERM)
    assert pair.rank.wait(30) == 0
    until(lambda: "EngineDeadError" in pair.log.read_text(errors="replace"), every=0.1)

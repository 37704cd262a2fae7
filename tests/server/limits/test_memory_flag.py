"""The flag's promise, of a real API server: its memory while clients send more than it may hold, and afterwards."""

import re
import threading
from collections import Counter
from pathlib import Path

import pytest
import requests

from tests.running_server import RunningServer, running_server
from tests.server.test_replacement import until

ALLOWED = 32  # MiB
BESIDE = 64  # MiB: what is read of each connection before anybody counts it, and what is being computed of one request
CLIENTS = 60
BODY = b'{"prompt":"' + b"a " * 2_000_000 + b'"}'


def memory(server: RunningServer, name: str) -> int:
    """MiB: VmRSS is what the API server has now, VmHWM the most that it has had."""
    found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{server.pids['api-0']}/status").read_text())
    assert found
    return int(found[1]) // 1024


@pytest.mark.slow
def test_many_large_bodies_take_what_the_flag_allows_and_give_it_back() -> None:
    """240 MB are sent at once. Each client gets its answer: that its prompt is too long, or that it may come again."""
    statuses: Counter[int] = Counter()

    def send() -> None:
        fields = {"content-type": "application/json"}
        answer = requests.post(server.url + "/v1/completions", data=BODY, headers=fields, timeout=60)
        statuses[answer.status_code] += 1

    with running_server(api_server_count=1, api_server_memory_mib=ALLOWED, log_level="warning") as server:
        before = memory(server, "VmRSS")
        clients = [threading.Thread(target=send) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert statuses.total() == CLIENTS and set(statuses) == {400, 503}
        assert memory(server, "VmHWM") - before < ALLOWED + BESIDE
        until(lambda: memory(server, "VmRSS") - before < ALLOWED)
        assert server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}).ok

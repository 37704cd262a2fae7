"""Broken messages for a running engine core, from a program of the tests' own in the place of vllm-rs."""

import json
import shlex
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.running_server import running_server
from tests.server.test_replacement import until
from tests.server.vllm_rs.breaker import Report

CHECKOUT = Path(__file__).parents[3]


def break_an_engine_core(count: int, seed: int, within: float = 300, **choices: object) -> tuple[Report, int, str]:
    """The report, the server's exit code after SIGTERM, and its log. within: seconds for all messages."""
    with tempfile.TemporaryDirectory(prefix="breaker-") as folder:
        program, told = Path(folder) / "vllm-rs", Path(folder) / "report"
        command = [sys.executable, "-m", "tests.server.vllm_rs.breaker"]
        program.write_text(f'#!/bin/sh\nexec env PYTHONPATH={shlex.quote(str(CHECKOUT))} {shlex.join(command)} "$@"\n')
        program.chmod(0o700)
        env = {"BREAKER_COUNT": str(count), "BREAKER_SEED": str(seed), "BREAKER_REPORT": str(told)}
        usual: dict[str, object] = {"frontend": f"vllm-rs:{program}", "api_server_count": 1, "log_level": "error"}
        with running_server("--no-restart-api-servers", env=env, **usual, **choices) as server:
            until(lambda: told.exists() or server.process.poll() is not None, within, every=0.05)
            assert told.exists(), "the server has ended before the report"
            sent, right, wrong, in_use = json.loads(told.read_text())
            return Report(Counter(sent), right, wrong, in_use), server.stop(), server.said()

"""The server keeps its word: schemathesis, with all its checks, on every route, with and without a key.

With LAB_PROVE set 200 generated requests a route, and the fixed ones, a thousand and more, which try every field's
bounds, go to both servers. Otherwise a few generated ones go to the one without a key, and the fixed ones to the other.
The context is short, and answers are shorter: what is tested is the contract and not the model.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running_server import RunningServer, running_server

FULL = bool(os.environ.get("LAB_PROVE"))
EXAMPLES = 200 if FULL else 10
WITHOUT_FIXED = () if FULL else ("--phases", "examples,fuzzing,stateful")
WITHOUT_GENERATED = () if FULL else ("--phases", "examples,coverage,stateful")
ROOT = Path(__file__).parents[2]

CONTEXT, MOST_TOKENS = (128, 8) if FULL else (64, 2)


@contextmanager
def short_of_words(directory: Path, **choices: object) -> Iterator[RunningServer]:
    """A server whose answers have at most `MOST_TOKENS` tokens. Without, half a thousand of the fixed requests get as
    many as the context has room for."""
    (directory / "generation_config.json").write_text(json.dumps({"max_new_tokens": MOST_TOKENS}))
    with running_server(max_model_len=CONTEXT, generation_config=directory, **choices) as server:
        yield server


def contract_holds(server: RunningServer, directory: Path, *words: str) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", server.url + "/openapi.json", "--checks", "all"]
    command += ["--max-examples", str(EXAMPLES), "--generation-database", "none", "--no-color"]
    command += ["--request-timeout", "120", "--max-response-time", "100"]  # a busy machine breaks no contract
    # The number of requests that the generator discards is chance, and its time is the machine's: not the server's.
    command += ["--suppress-health-check", "filter_too_much,too_slow"]
    own = {"SCHEMATHESIS_HOOKS": "tests.server.openapi_hooks", "CONTEXT_LENGTH": str(CONTEXT), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, cwd=directory, env=os.environ | own, check=False
    )
    shown = "\n".join(line[:500] for line in (done.stdout + done.stderr).splitlines())
    assert done.returncode == 0, shown
    assert "Tested: 14" in done.stdout
    assert server.get("/health").status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_contract_without_a_key(tmp_path: Path) -> None:
    with short_of_words(tmp_path) as server:
        contract_holds(server, tmp_path, *WITHOUT_FIXED)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_contract_with_a_key(tmp_path: Path) -> None:
    with short_of_words(tmp_path, api_key="sesame") as server:
        contract_holds(server, tmp_path, "--header", "Authorization: Bearer sesame", *WITHOUT_GENERATED)

"""The table of front ends in small: ours and vLLM's are measured, one is absent and said so, none is left running."""

import argparse
import json
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from lab_support.instruments import proc
from lab_support.instruments.record import recordings
from lab_support.instruments.record.provenance import ROOT
from tests.benchmarks.front_ends import kinds
from tests.benchmarks.front_ends.front_ends import pairs
from tests.benchmarks.front_ends.table import table
from tests.proofs.pytests import in_full

MODULE = "tests.benchmarks.front_ends"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", MODULE, *words]


def recorded(folder: Path, *words: str) -> tuple[recordings.Recording, str]:
    """A run of the command, and the table that it prints."""
    sizes = ("--clients", "4", "--rounds", "1", "--requests", "16")
    given = command(*words, *sizes, "--record", str(folder))
    done = subprocess.run(given, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (folder / "front_ends.json").read_text()
    assert str(ROOT) not in text and str(folder) not in text
    return recordings.load("front_ends", folder), done.stdout


@pytest.mark.slow
def test_ours_and_vllm_s_are_measured_by_the_clients_that_there_are(tmp_path):
    run, _ = recorded(tmp_path, "--only", "lab-2,vllm-rs-1", "--engines", "paced")
    programs = {"lab load"} | ({"vllm-rs bench serve"} if kinds.vllm_rs() else set())
    names = {"lab-2", "vllm-rs-1"} if kinds.vllm_rs() else {"lab-2"}
    found = run.of("front end")
    assert {(each["front_end"], each["client"]) for each in found} == set(product(names, programs))
    assert {each["front_end"] for each in run.of("absent")} == {"lab-2", "vllm-rs-1"} - names
    for each in found:
        assert each["completed"] == [32, 16] and 16 * 4 <= each["tokens"] <= 16 * 64
        assert each["request_us"] > each["token_us"] > 0 and each["memory_mb"] > 10
        assert 0 < each["ttft_ms"][0] <= each["ttft_ms"][2] and each["requests_per_second"] > 0
        assert each["cpu_seconds"][0] >= each["busiest_thread_cpu_seconds"][0] > 0


def test_one_that_is_not_there_has_a_row_with_the_reason(tmp_path):
    run, printed = recorded(tmp_path, "--only", "vllm-1")
    assert [each["what"] for each in run.samples] == ["absent"]
    assert "not measured" in printed and "vLLM's API servers × 1: no environment with vLLM's CPU build" in printed


@pytest.mark.slow
@in_full
def test_interrupted_it_leaves_no_process():
    words = command("--only", "lab-1", "--engines", "paced", "--requests", "100000")
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not any(each.title.startswith("lab:api") for each in proc.process_tree(process.pid)):
            assert process.poll() is None, process.communicate()
        tree = proc.process_tree(process.pid)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in "".join(said)
    assert not [each.title for each in tree if proc.is_running(each.identity)]


def test_a_round_measures_every_front_end_before_every_engine_it_can_have_and_the_next_one_back():
    options = argparse.Namespace(engines="", only="")
    first, second = pairs(options, 0), pairs(options, 1)
    assert second == first[::-1] and len(set(first)) == len(first)
    assert [name for engine, name in first if engine == "paced"] == [
        "lab-1",
        "lab-2",
        "lab-4",
        "vllm-rs-1",
        "vllm-rs-2",
    ]
    assert {name for engine, name in first if engine == "cpu"} == set(kinds.NAMED)


@pytest.mark.parametrize(("flag", "known"), [("--only", "lab-1,lab-2"), ("--engines", "cpu,paced")])
def test_an_unknown_one_is_said_with_those_that_there_are(flag, known):
    words = [sys.executable, "-m", f"{MODULE}.front_ends", flag, "nonsense"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode and f"{flag}: got nonsense, expected some of {known}" in done.stderr


# ---- the table -------------------------------------------------------------------------------------------------------


def sample(**changes) -> dict:
    about = {"what": "front end", "engine": "cpu", "front_end": "lab-1", "title": "our API servers × 1", "clients": 16}
    figures = {"client": "lab load", "request_us": 800.4, "token_us": 41.26, "memory_mb": 32.0, "loop_ms": 20.0}
    latencies = {"ttft_ms": [8.0, 9.0, 20.0], "inter_token_ms": [4.0, 5.0, 6.0], "requests_per_second": 200.0}
    return {**about, **figures, **latencies, **changes}


def run_of(*samples: dict) -> recordings.Recording:
    return replace(recordings.load("lost_starts"), samples=tuple(json.loads(json.dumps(samples))))


def test_a_row_has_the_range_of_its_rounds_and_a_missing_front_end_its_reason():
    missing = {"what": "absent", "engine": "cpu", "front_end": "vllm-1", "title": "vLLM's × 1", "why": "no environment"}
    found = table(run_of(sample(), sample(token_us=45.0, loop_ms=30.0), sample(clients=64), missing))
    assert found.rows[0] == (
        *("our API servers × 1", "cpu", "16", "lab load"),
        *("800", "41.3 to 45.0", "32", "8.0; 20.0", "4.0; 6.0", "200"),
    )
    assert found.rows[1][2] == "64" and found.rows[2][:3] == ("vLLM's × 1", "cpu", "not measured")
    assert "50% longer at worst" in found.note and "vLLM's × 1: no environment." in found.note
    with pytest.raises(LookupError, match="without any front end"):
        table(run_of())

"""The table of peers without any peer: this server alone, one that isn't installed, one that breaks, interruptions."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from lab_support.instruments import proc
from lab_support.instruments.record import recordings
from lab_support.instruments.record.provenance import ROOT
from lab_support.notebook.recordings import peers as tables
from tests.benchmarks.peers import aims, install
from tests.benchmarks.peers.environments import INSTALLED
from tests.benchmarks.peers.events import DONE, Answers, as_stream
from tests.benchmarks.peers.kinds import BY_NAME, PEERS
from tests.benchmarks.peers.peers import groups

MODULE = "tests.benchmarks.peers"


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", *words]


def broken_peer(environments: Path, name: str) -> None:
    """An environment whose Python ends at once."""
    python = environments / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho its only words\nexit 3\n")
    python.chmod(0o755)
    (environments / name / INSTALLED).touch()


@pytest.mark.slow
def test_a_peer_is_measured_one_is_absent_one_fails_and_the_recording_says_so(tmp_path):
    broken_peer(tmp_path, "mosec")
    words = ("--environments", str(tmp_path), "--only", "ours,mosec,litserve", "--rounds", "1", "--requests", "24")
    done = subprocess.run(
        command(MODULE, *words, "--record", str(tmp_path)), capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = recordings.load("peers", tmp_path)
    [ours] = run.of("peer")
    assert (ours["peer"], ours["completed"], ours["failed"], ours["client"]) == ("ours", 24, 0, "lab load")
    assert 24 * 4 <= ours["tokens"] <= 24 * 64 and ours["processes"] >= 4 and ours["memory_mb"] > 0
    assert 0 < ours["ttft_ms"][0] <= ours["ttft_ms"][2] and ours["inter_token_ms"][0] > 0
    [absent], [failed] = run.of("absent"), run.of("failed")
    assert absent["peer"] == "litserve" and failed["peer"] == "mosec"
    assert failed["why"] == "exit code 3: its only words\n"
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert "not installed" in rows["LitServe + transformers, streamed"] and "asked by lab load" in done.stdout
    text = (tmp_path / "peers.json").read_text()
    assert str(ROOT) not in text and str(tmp_path) not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "number"), [(MODULE, signal.SIGINT), (f"{MODULE}.peers", signal.SIGTERM)], ids=["table", "program"]
)
def test_interrupted_it_leaves_no_process(module, number):
    words = command(module, "--only", "ours", "--requests", "100000")
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not any(each.title.startswith("lab:api") for each in proc.process_tree(process.pid)):
            assert process.poll() is None, process.communicate()
        tree = proc.process_tree(process.pid)
        process.send_signal(number)
        said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in "".join(said)
    assert not [each.title for each in tree if proc.is_running(each.identity)]


def test_each_round_measures_every_peer_once_and_the_next_one_in_the_other_order():
    names = [peer.name for peer in PEERS]
    first, second = (list(chain(*groups(names, number))) for number in range(2))
    assert sorted(first) == sorted(names) and second == first[::-1]


@pytest.mark.parametrize("module", [f"{MODULE}.peers"])
def test_an_unknown_peer_is_said_with_those_that_there_are(module):
    done = subprocess.run(command(module, "--only", "nonsense"), capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode and "got nonsense, expected some of ours,mosec" in done.stderr


# ---- what the peers' programs send -----------------------------------------------------------------------------------


def counts(event: str) -> dict:
    return json.loads(event)["usage"]


def test_an_answer_ends_with_its_count_while_the_batch_runs_on():
    answers = Answers([5, 7], [1, 2])
    [[piece, usage, done], [other]] = answers.step(["a", "b"])
    assert json.loads(piece)["choices"] == [{"index": 0, "text": "a", "finish_reason": "length"}]
    assert counts(usage) == {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6} and done == DONE
    assert json.loads(other)["choices"][0]["finish_reason"] is None
    [nothing, [_, usage, _]] = answers.step(["x", "c"])
    assert nothing == [] and counts(usage)["completion_tokens"] == 2


def test_a_whole_answer_is_one_piece_at_its_end():
    answers = Answers([5, 7], [1, 2], whole=True)
    [[piece, *_], nothing] = answers.step(["a", "b"])
    assert json.loads(piece)["choices"][0]["text"] == "a" and nothing == []
    [_, [piece, _, done]] = answers.step(["x", "c"])
    assert json.loads(piece)["choices"][0]["text"] == "bc"
    assert as_stream([done]) == "data: [DONE]\n\n"


# ---- the installation ------------------------------------------------------------------------------------------------


def test_of_a_package_s_requirements_extras_and_builds_of_torch_stay_out():
    lines = (
        "numpy",
        "torch==2.13.0+cpu; platform_machine == 'x86_64'",
        "torchvision",
        'av; extra == "sound"',
        "lark<2",
    )
    text = "\n".join(f"Requires-Dist: {line}" for line in lines)
    assert list(install._requirements(text)) == ["numpy", "lark<2"]


def test_each_environment_has_torch_first_and_in_one_version():
    for name in install.installable():
        if name in BY_NAME:
            assert BY_NAME[name].packages[0] == ("torch==2.13.0",)
    assert {peer.home for peer in PEERS} - {"ours"} == set(install.installable()) - {"vllm-bench"}


# ---- the tables ------------------------------------------------------------------------------------------------------


STEPS, STAGES = {"steps": 100, "prompt_tokens": 6400, "generation_tokens": 800}, {"send": 0.1, "run": 0.5}


def sample(tokens_per_second: float, **changes) -> dict:
    figures = {"start_seconds": 2.04, "memory_mb": 390, "tokens_per_second": tokens_per_second, "client": "lab load"}
    named = {"what": "peer", "peer": "ours", "title": "this server", "note": "", "versions": {"torch": "2.13.0"}}
    latencies = {"ttft_ms": [8.0, 9.0, 20.0], "inter_token_ms": [4.0, 5.0, 6.0]}
    cost = {
        "client_cpu_seconds": 0.5,
        "loop_ms": [20.0, 20.0],
        "tokens": 10000,
        "seconds": 4.0,
        "idle_cpu_seconds": 0.01,
    }
    stages = {f'lab_engine_stage_seconds_total{{stage="{name}"}}': seconds for name, seconds in STAGES.items()}
    engine = {f"lab_engine_{name}_total": count for name, count in STEPS.items()} | stages
    spent = {"cpu": [{"process": "it", "cpu_seconds": 2.0}], "engine": engine}
    return {**named, **figures, **latencies, **cost, **spent, **changes}


def test_a_row_has_the_range_of_its_rounds_and_answers_that_came_whole_have_no_inter_token_latency():
    whole = sample(900.0, peer="mosec-whole", title="mosec", inter_token_ms=[0.0, 0.0, 0.0], loop_ms=[24.0, 26.0])
    run = replace(recordings.load("lost_starts"), samples=(sample(3000.4), whole, sample(2500.0)))
    assert tables.table(run).rows == (
        ("this server", "2.0", "390", "2,500 to 3,000", "8.0; 20.0", "4.0; 6.0", "100 %"),
        ("mosec", "2.0", "390", "900", "8.0; 20.0", "–", "80 %"),
    )
    with pytest.raises(LookupError, match="without any peer"):
        tables.table(recordings.load("lost_starts"))


def test_an_aim_is_met_or_not_by_the_medians_of_both_and_the_costs_are_by_process():
    theirs = sample(2000.0, ttft_ms=[9.0, 8.0, 30.0])
    found = {"ours": [sample(3600.0), sample(1000.0), sample(3600.0)], "vllm": [theirs] * 3}
    throughput, *latencies = aims.rows(found, "vllm")
    assert throughput.measured.startswith("1.80 (3600/2000, ") and throughput.met
    assert [row.met for row in latencies] == [True, False, True, False, False, False]
    ours, _ = aims.costs(found)
    assert ours.startswith("ours: 0.62 cores busy; µs a token: 1. it 200; client 50")
    assert aims.steps(found) == "a step of ours: 64.0 tokens of prompts, 8.0 of answers; ms: run 5.00, send 1.00"

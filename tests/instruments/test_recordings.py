"""`lab record`: runs are kept with their origin; one that hangs, crashes or leaves processes stops no other."""

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab_support.instruments import proc
from lab_support.instruments.record import command as record_command
from lab_support.instruments.record import provenance, recorder, recordings
from lab_support.instruments.record.fingerprint import RENAMED, fingerprint
from lab_support.instruments.record.provenance import ROOT, Machine
from lab_support.instruments.record.recorder import EXPERIMENTS, ON_ANY_MACHINE, Experiment, run_experiment
from lab_support.instruments.record.recordings import Recording
from tests.benchmarks.front_ends import __main__ as front_ends
from tests.benchmarks.peers import __main__ as peers

OF_OTHER_SERVERS = (peers.EXPERIMENT, front_ends.EXPERIMENT)

pytestmark = pytest.mark.slow

MACHINE = Machine(
    machine="x86_64, some processor, 16 cores, 128 GiB",
    gpu="Some GPU",
    gpus=1,
    gpu_memory=1 << 37,
    gpu_settings="",
    driver="1.2.3",
    cuda="13.0",
    torch="2.11.0",
    torch_cuda="13.0",
    torch_problem="",
    driver_problem="",
    python="3.12.3",
    kernel="Linux 6.1",
    sandbox="",
)


def trial(name: str, *, seconds: float = 30, machine: Machine = MACHINE, **choices) -> Recording:
    package = "tests.experiments.programs"
    experiment = Experiment(1, name, "Why?", seconds, 1, ("what it waits for",), package=package, **choices)
    return run_experiment(experiment, machine, seconds)


def record(*words: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, **options)


# ---- one experiment --------------------------------------------------------------------------------------------------


def test_a_recording_says_what_was_seen_and_where_it_comes_from():
    began = datetime.now(UTC).replace(microsecond=0)
    found = trial("well_behaved")
    assert found.complete and found.outcome == "complete" and found.exit_code == 0 and not found.signal
    assert [sample["what"] for sample in found.samples] == ["parent", "child"]
    assert found.of("parent", visible="0") and not found.of("parent", visible="1")
    assert 0 <= found.samples[0]["at"] <= found.samples[1]["at"] <= found.seconds
    assert found.samples[0]["asked"] < 30, "the program is told to be done before its deadline"
    assert began <= datetime.fromisoformat(found.date) <= datetime.now(UTC)
    assert found.command == "python -m tests.experiments.programs.well_behaved --seconds 27"
    own = "tests/experiments/programs/well_behaved.py"
    assert found.sha256 == found.sources[own] == fingerprint(ROOT / own)
    assert "lab_support/experiments/program.py" in found.sources
    assert not found.server_commit and not found.server_sha256


def test_a_file_reads_as_it_was_written_with_a_sample_on_each_line():
    found = trial("well_behaved")
    text = recordings.to_json(found)
    assert recordings.from_json(text) == found
    lines = [json.loads(line.rstrip(",")) for line in text.splitlines() if line.startswith('  {"what"')]
    assert lines == list(found.samples)
    with pytest.raises(ValueError, match="another format"):
        recordings.from_json(text.replace('"format": 1', '"format": 99'))


def test_nothing_of_this_machine_s_folders_is_kept():
    found = trial("well_behaved")
    assert found.output.startswith("ran ./tests/experiments/programs/well_behaved.py ")
    text = recordings.to_json(found)
    assert str(ROOT) not in text and str(Path.home()) + "/" not in text and "/rec-" not in text


@pytest.mark.skipif("LAB_PROVE" not in os.environ, reason="wants an idle machine: make prove runs it")
def test_one_that_hangs_ends_at_its_deadline_with_stacks_and_what_it_waited_for():
    began = time.monotonic()
    found = trial("hangs", seconds=4)
    assert time.monotonic() - began < 4 + 10
    assert found.timed_out and found.outcome == "timed out" and not found.complete
    assert found.of("before the hang"), "what was seen before is kept"
    assert "in wait_for_ever" in found.errors, "faulthandler's stack"
    assert len(found.hung) == 2, "itself and its child"
    states = [thread["state"] for process in found.hung for thread in process["threads"]]
    waits = [thread["waits_in"] for process in found.hung for thread in process["threads"]]
    assert set(states) == {"S"}
    assert any("futex" in wait for wait in waits) or provenance.sandbox()


@pytest.mark.parametrize(
    ("name", "code", "ended_by", "said"),
    [("fails", 1, "", "RuntimeError: as expected of it"), ("crashes", None, "SIGSEGV", "Segmentation fault")],
)
def test_one_that_fails_is_recorded_as_failed_with_its_output(name, code, ended_by, said):
    found = trial(name)
    assert (found.exit_code, found.signal, found.timed_out, found.complete) == (code, ended_by, False, False)
    assert found.outcome.startswith("failed") and said in found.errors
    assert len(found.samples) == 1


def test_a_process_left_behind_is_named_and_killed_even_in_a_session_of_its_own():
    found = trial("leaves_a_process")
    assert found.complete
    assert ["signal.pause" in process["title"] for process in found.left] == [True]
    process = proc.read_process(found.samples[0]["pid"])
    assert process is None or process.ended


def test_a_server_s_commit_is_kept_where_it_took_part():
    found = trial("well_behaved", with_server=True)
    assert found.server_sha256 == provenance.server_hash()
    assert found.server_commit == provenance.server_commit()
    assert not found.is_of_older_server
    assert dataclasses.replace(found, server_sha256="0" * 64).is_of_older_server


def test_under_a_sandboxed_kernel_claims_on_processes_are_refused_by_name():
    assert trial("well_behaved").refused == ()
    found = trial("well_behaved", machine=dataclasses.replace(MACHINE, sandbox="gVisor (its sign)"))
    assert found.refused == ("what it waits for",)
    assert "on a sandboxed kernel, gVisor (its sign)" in found.label


def test_a_sandboxed_kernel_is_known_by_its_signs():
    plain = ("Linux version 6.1.0 (gcc)", "#1 SMP PREEMPT_DYNAMIC", "Linux version 6.1.0\nCommand line: quiet")
    assert provenance.sandbox_signs(*plain) == []
    assert provenance.sandbox_signs(plain[0], provenance.GVISOR_VERSION, plain[2])
    assert provenance.sandbox_signs(plain[0], plain[1], "Starting gVisor...")
    assert provenance.sandbox_signs("Linux version 4.4.0 runsc", *plain[1:])


# ---- what notebooks and `--list` say ---------------------------------------------------------------------------------


def a_recording(**changes) -> Recording:
    file = "tests/experiments/programs/fails.py"
    sha256 = fingerprint(ROOT / file)
    made = Recording(
        name="fork_after_cuda",
        number=1,
        question="Why?",
        machine=MACHINE,
        command="python",
        date="2026-11-23T10:00:00+00:00",
        seconds=1.0,
        exit_code=0,
        signal="",
        timed_out=False,
        sha256=sha256,
        sources={file: sha256},
        server_commit="",
        server_sha256="",
        refused=(),
        output="",
        errors="",
        hung=(),
        left=(),
        samples=({"what": "parent"},),
    )
    return dataclasses.replace(made, **changes)


def test_a_label_says_where_and_when_and_what_speaks_against_it():
    label = a_recording().label
    assert label == "recorded on Some GPU with driver 1.2.3, CUDA 13.0, torch 2.11.0, Linux 6.1, 2026-11-23"
    assert a_recording(sources={"gone.py": "0"}).label == label + "; the experiment has changed since"
    older = a_recording(server_sha256="0", server_commit="abcdef0123456789").label
    assert "server at abcdef0123" in older and older.endswith("; older server")
    assert a_recording(timed_out=True).label == label + "; timed out"


def test_a_recording_is_stale_when_a_file_of_its_experiment_has_changed_and_only_then():
    fresh = a_recording()
    assert not fresh.is_stale
    changed = {path: "0" * 64 for path in fresh.sources}
    assert dataclasses.replace(fresh, sources=changed).is_stale
    assert not dataclasses.replace(fresh, server_sha256="0" * 64).is_stale, "an older server is no staleness"


def test_words_and_names_leave_it_fresh_and_a_constant_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "ROOT", tmp_path)
    file = tmp_path / "room" / "trial.py"
    file.parent.mkdir()
    file.write_text("SECONDS = 3  # as long as a lesson takes\n")
    fresh = a_recording(sources={"room/trial.py": fingerprint(file)})
    file.write_text('"""One trial."""\n\nSECONDS = 3\n')
    assert not fresh.is_stale
    file = file.rename(tmp_path / "experiment.py")
    assert fresh.is_stale, "nobody knows where it is"
    monkeypatch.setitem(RENAMED, "experiment.py", "room/trial.py")
    assert not fresh.is_stale
    file.write_text("SECONDS = 4\n")
    assert fresh.is_stale


def test_the_list_has_every_experiment_and_what_is_known_of_its_recording(tmp_path):
    file = tmp_path / "fork_after_cuda.json"
    file.write_text(recordings.to_json(a_recording()))
    assert recordings.load("fork_after_cuda", tmp_path) == a_recording()
    done = record("-m", "lab_support", "record", "--list", "--out", str(tmp_path))
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(EXPERIMENTS + ON_ANY_MACHINE) + 1))
    assert all(word in lines[0] for word in ("complete", "Some GPU", "torch 2.11.0", "2026-11-23", "days old"))
    assert all("no recording" in line for line in lines[1:])
    file.write_text(recordings.to_json(a_recording(sources={"gone.py": "0"}, server_sha256="0")))
    [recording] = recordings.load_all(tmp_path)
    assert "stale" in record_command.listing([recording], EXPERIMENTS)
    assert "older server" in record_command.listing([recording], EXPERIMENTS)


def test_a_recording_that_is_not_there_is_said_with_what_to_do(tmp_path):
    with pytest.raises(recordings.NoRecording, match=r"got no recording of 'cuda_ipc'.*lab record --only cuda_ipc"):
        recordings.load("cuda_ipc", tmp_path)


def test_every_recording_in_the_box_is_of_an_experiment_and_was_made_on_a_gpu_if_that_needs_one():
    without = {experiment.name: experiment.number for experiment in (*ON_ANY_MACHINE, *OF_OTHER_SERVERS)}
    numbers = without | {experiment.name: experiment.number for experiment in EXPERIMENTS}
    assert len(set(numbers.values())) == len(numbers)
    for recording in recordings.load_all():
        assert numbers[recording.name] == recording.number and recording.samples
        assert recording.machine.gpu or recording.name in without


def test_a_recording_of_another_program_is_listed_too():
    lines = record_command.listing(recordings.load_all(), EXPERIMENTS + ON_ANY_MACHINE).splitlines()
    assert [line.split()[:2] for line in lines[-2:]] == [["17", "peers"], ["18", "front_ends"]]
    assert all("complete · no GPU" in line for line in lines[-2:])


def test_a_label_without_a_gpu_names_the_processor_and_python():
    plain = dataclasses.replace(MACHINE, gpu="", gpus=0, driver="", cuda="", torch_cuda="")
    label = a_recording(name="start_methods", machine=plain).label
    assert label == (
        "recorded on x86_64, some processor, 16 cores, 128 GiB with torch 2.11.0, Python 3.12.3, Linux 6.1, 2026-11-23"
    )


def test_what_needs_no_gpu_runs_only_where_it_is_named():
    for experiment in ON_ANY_MACHINE:
        bare = dataclasses.replace(MACHINE, torch_problem="no CUDA", driver_problem="no driver")
        assert not recorder.refusal(experiment, bare)


# ---- the set ---------------------------------------------------------------------------------------------------------


def test_the_set_is_numbered_each_program_says_its_number_and_it_fits_the_time():
    every = EXPERIMENTS + ON_ANY_MACHINE
    assert sorted(experiment.number for experiment in every) == list(range(1, len(every) + 1))
    for experiment in every:
        assert f'"""{experiment.number}. ' in experiment.file.read_text()
        assert experiment.least <= experiment.seconds
    assert sum(experiment.least for experiment in EXPERIMENTS) < recorder.BUDGET_SECONDS - recorder.RESERVE_SECONDS


UNDER_TEST = ("-m", "tests.experiments.recording_under_test")


def test_the_rest_goes_on_after_a_failure_and_everything_is_in_one_archive(tmp_path):
    archive = tmp_path / "all.tar"
    done = record(*UNDER_TEST, str(archive), "200", "crashes", "fails", "hangs:3", "well_behaved")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 4 recorded" in done.stdout and "failed: crashes, fails, hangs" in done.stdout
    with tarfile.open(archive) as opened:
        assert opened.getnames() == [f"{name}.json" for name in ("crashes", "fails", "hangs")] + [
            "log.txt",
            "well_behaved.json",
        ]
        opened.extractall(tmp_path / "out", filter="data")
    found = recordings.load_all(tmp_path / "out")
    assert [one.outcome for one in found] == ["failed (SIGSEGV)", "failed (exit code 1)", "timed out", "complete"]
    assert "1 of 4 recorded" in (tmp_path / "out" / "log.txt").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.tar", "out"]


def test_what_there_is_no_time_for_is_listed_and_has_no_file(tmp_path):
    done = record(*UNDER_TEST, str(tmp_path / "out"), "60", "well_behaved:20:1", "fails:20:9999", "leaves_a_process")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not run: fails" in done.stdout and "lab record --only 2" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["leaves_a_process.json", "well_behaved.json"]


def test_a_recorder_that_is_told_to_end_keeps_what_it_has_and_leaves_nothing(tmp_path):
    archive = tmp_path / "all.tar"
    command = [sys.executable, *UNDER_TEST, str(archive), "200", "well_behaved", "hangs:100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        while "hangs" not in process.stdout.readline():
            assert process.poll() is None
        while len(members := proc.process_tree(process.pid)) < 3:  # the recorder, the program, its child
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert not any(proc.is_running(member.identity) for member in members)
    with tarfile.open(archive) as opened:
        assert "well_behaved.json" in opened.getnames()


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def this_machine() -> Machine:
    return recorder.look_at_this_machine()


@pytest.fixture
def without_gpu(this_machine: Machine) -> None:
    if not this_machine.torch_problem:
        pytest.skip("this machine has a GPU that torch can use: nothing is refused")


def test_without_a_gpu_each_experiment_is_named_with_the_reason_and_no_file_is_written(without_gpu, tmp_path):
    done = record("-m", "lab_support", "record", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    for experiment in EXPERIMENTS:
        [line] = [line for line in done.stdout.splitlines() if f" {experiment.name} " in line]
        assert "can't run here: " in line and ("CUDA" in line or "driver" in line or "GPU" in line)
    assert not any((tmp_path / "out").iterdir())


def test_one_that_was_asked_for_and_cannot_run_is_an_error(without_gpu, tmp_path):
    done = record("-m", "lab_support", "record", "--only", "4", "--out", str(tmp_path / "out"))
    assert done.returncode == 1 and "driver_after_fork" in done.stdout and "fork_after_cuda" not in done.stdout
    unknown = record("-m", "lab_support", "record", "--only", "nonsense")
    assert unknown.returncode == 2 and "nonsense" in unknown.stderr


def test_each_reason_is_said():
    torch_only, with_server = EXPERIMENTS[0], next(one for one in EXPERIMENTS if one.with_server)
    driver_only = next(one for one in EXPERIMENTS if not one.with_torch)
    assert recorder.refusal(torch_only, MACHINE) == recorder.refusal(with_server, MACHINE) == ""
    no_torch = dataclasses.replace(MACHINE, torch_problem="torch is not installed")
    assert recorder.refusal(torch_only, no_torch) == "torch is not installed"
    assert recorder.refusal(driver_only, no_torch) == ""
    no_driver = dataclasses.replace(MACHINE, driver_problem="cuInit answers 100 CUDA_ERROR_NO_DEVICE")
    assert "CUDA_ERROR_NO_DEVICE" in recorder.refusal(driver_only, no_driver)


SEEN_BY_TORCH = {"version": "2.11.0", "cuda": "13.0", "available": True}
NO_DEVICE = {"call": "cuInit", "code": 100, "name": "CUDA_ERROR_NO_DEVICE", "value": None}
GOOD = {"call": "cuInit", "code": 0, "name": "CUDA_SUCCESS", "value": None}


@pytest.mark.parametrize(
    ("torch", "driver", "said"),
    [
        (dict(value=SEEN_BY_TORCH), dict(value={"init": GOOD}), ""),
        (dict(text="torch is not installed"), dict(value={"init": GOOD}), "torch is not installed"),
        (None, dict(value={"init": GOOD}), "torch could not be asked"),
        (dict(value=SEEN_BY_TORCH | {"cuda": ""}), dict(value={"init": GOOD}), "torch 2.11.0 was built without CUDA"),
        (dict(value=SEEN_BY_TORCH | {"available": False}), dict(value={"init": GOOD}), "torch 2.11.0 sees no GPU"),
        (dict(value=SEEN_BY_TORCH), dict(text="libcuda.so.1: cannot open"), "the driver: libcuda.so.1: cannot open"),
        (dict(value=SEEN_BY_TORCH), dict(value={"init": NO_DEVICE}), "the driver: cuInit answers 100 CUDA_ERROR_NO_D"),
        (dict(value=SEEN_BY_TORCH), None, "the driver: could not be asked"),
    ],
)  # fmt: skip
def test_what_torch_and_the_driver_answer_becomes_a_reason(torch, driver, said):
    """The samples are those of `gpu_facts`; the first row is a machine that can run it."""
    samples = [{"what": "torch"} | torch] if torch else []
    samples += [{"what": "driver"} | driver] if driver else []
    found = recorder.refusal(EXPERIMENTS[0], provenance.machine(samples))
    assert found.startswith(said) and bool(found) == bool(said)


def test_the_command_needs_the_standard_library_alone_and_names_the_packages_that_lack(tmp_path):
    words = ("-S", "-m", "lab_support", "record", "--only", "11", "--out", str(tmp_path))
    done = record(*words, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 1, done.stderr
    assert all(name in done.stdout for name in ("not installed:", "uvicorn", "zmq", "msgspec"))


@pytest.mark.gpu
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.name)
def test_on_a_gpu_each_experiment_runs_to_its_end(this_machine, experiment):
    if reason := recorder.refusal(experiment, this_machine):
        pytest.skip(f"can't run here: {reason}")
    found = run_experiment(experiment, this_machine, experiment.seconds)
    assert found.complete, found.errors
    assert found.samples and not found.left


def test_there_is_a_module_behind_every_name():
    for experiment in EXPERIMENTS:
        assert importlib.util.find_spec(experiment.module) is not None

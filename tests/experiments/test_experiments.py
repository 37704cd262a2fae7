"""The experiments' mechanics without a GPU: children of every fate, layouts, descriptors, servers that are killed.

If the driver is needed, `pretend_driver.c` stands in for libcuda; if torch's CUDA is needed, `--device cpu` does the
same with tensors on the CPU. Neither says anything about a GPU, and neither is ever recorded.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab_support.experiments.cuda import cuda_driver
from lab_support.instruments.cpu_time import thread_seconds
from lab_support.instruments.record.provenance import ROOT
from lab_support.instruments.record.recorder import EXPERIMENTS, ON_ANY_MACHINE, sources_of
from tests.proofs.pytests import in_full

OWN = ("lab_support.experiments", "lab_support.instruments.waiting")


def run(module: str, *words: str, code: int = 0, **environment: str) -> list[dict]:
    """The samples that an experiment prints."""
    command = [sys.executable, "-m", module, *words]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, cwd=ROOT, env=kept | environment, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"what"')]


def rehearse(name: str, *words: str) -> list[dict]:
    return run(f"lab_support.experiments.{name}", "--device", "cpu", *words)


def of(samples: list[dict], what: str, **fields: object) -> list[dict]:
    wanted = {"what": what, **fields}
    return [sample for sample in samples if all(sample.get(key) == value for key, value in wanted.items())]


# ---- what they are made of -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", EXPERIMENTS + ON_ANY_MACHINE, ids=lambda one: one.name)
def test_an_experiment_needs_torch_and_the_standard_library_alone(experiment):
    for path in sources_of(experiment.file):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names | {"torch"} or name.startswith(OWN), f"{path} imports {name}"


def test_an_experiment_s_sources_are_all_that_it_imports_from_here():
    [one] = [one for one in EXPERIMENTS if one.name == "fork_after_cuda"]
    assert [Path(path).name for path in sources_of(one.file)] == [
        "child.py",
        "first_operation.py",
        "fork_after_cuda.py",
        "program.py",
        "waiting.py",
    ]


# ---- children --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fates() -> list[dict]:
    return run("tests.experiments.programs.children")


def test_a_forked_child_s_value_and_error_come_back(fates):
    [returned] = of(fates, "forked", fate="returns")
    assert (returned["outcome"], returned["value"], returned["exit_code"]) == ("returned", 42, 0)
    [raised] = of(fates, "forked", fate="raises")
    assert (raised["outcome"], raised["error"], raised["text"]) == ("raised", "ValueError", "of this text")


def test_a_forked_child_that_crashes_is_told_by_its_signal_and_its_stack(fates):
    [crashed] = of(fates, "forked", fate="crashes")
    assert (crashed["outcome"], crashed["signal"]) == ("crashed", "SIGSEGV")
    assert "string_at" in crashed["errors"]


def test_a_forked_child_that_hangs_is_looked_at_and_killed(fates):
    [hung] = of(fates, "forked", fate="hangs")
    assert hung["outcome"] == "hung" and hung["could_be_killed"]
    assert "in hang" in hung["errors"], "the Python stack"
    [thread] = hung["waits_for"]
    assert thread["state"] == "S" and thread["cpu_ticks"] == 0


def test_a_child_may_leave_through_exit_handlers(fates):
    [left] = of(fates, "forked", fate="leaves normally")
    assert (left["outcome"], left["value"], left["exit_code"]) == ("returned", 42, 0)


def test_a_started_child_says_how_long_it_took_to_get_there(fates):
    for method in ("spawn", "forkserver"):
        [started] = of(fates, "started", fate="returns", method=method)
        assert (started["outcome"], started["value"]) == ("returned", 42)
        assert 0 < started["ms_to_entry"] <= started["ms_to_done"]
    [gone] = of(fates, "started", fate="exits")
    assert (gone["outcome"], gone["exit_code"]) == ("crashed", 7)


# ---- the driver by ctypes --------------------------------------------------------------------------------------------


STAND_INS = {"pretend_driver.c": "libcuda.so.1", "pretend_nvml.c": "libnvidia-ml.so.1"}


@pytest.fixture(scope="module")
def pretended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment in which `libcuda.so.1`, `libnvidia-ml.so.1` and `nvidia-smi` are stand-ins."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here for the stand-ins for libcuda and NVML")
    folder = tmp_path_factory.mktemp("driver")
    for source, library in STAND_INS.items():
        path = Path(__file__).with_name(source)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", str(folder / library), str(path)], check=True)
    command = folder / "nvidia-smi"
    command.write_text("#!/bin/sh\ncase $1 in *memory.used*) echo 3;; *) printf '11, 1\\n12, [N/A]\\n';; esac\n")
    command.chmod(0o755)
    return {"LD_LIBRARY_PATH": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}


def test_each_driver_call_is_asked_in_a_forked_child_and_answers_with_code_and_name(pretended):
    samples = run("lab_support.experiments.driver_after_fork", "--case", "context", **pretended)
    assert [sample["answer"]["code"] for sample in of(samples, "parent")] == [0, 0]
    asked = of(samples, "forked child")
    assert [one["call"] for one in asked[:4]] == ["cuInit", "cuDeviceGetCount", "cuCtxGetCurrent", "cuMemAlloc"]
    assert {(one["value"]["code"], one["value"]["name"]) for one in asked} == {(3, "CUDA_ERROR_NOT_INITIALIZED")}
    [together] = of(samples, "forked child in a row")
    assert len(together["value"]) == len(asked)
    untouched = run("lab_support.experiments.driver_after_fork", "--case", "nothing", **pretended)
    assert [one["value"]["code"] for one in of(untouched, "forked child", call="cuInit")] == [0]


def test_memory_made_in_one_process_is_mapped_in_another_by_its_descriptor_and_outlives_its_maker(pretended):
    samples = run("lab_support.experiments.memory_as_descriptor", "--device", "cpu", **pretended)
    assert {sample["answer"]["code"] for sample in of(samples, "call")} == {0}
    bytes_seen = of(samples, "bytes")
    assert [one["who"] for one in bytes_seen] == ["receiver", "maker", "receiver, after the maker's end"]
    assert all(one["sees"] == one["written"] for one in bytes_seen)
    assert bytes_seen[0]["written"] != bytes_seen[1]["written"]
    maker, receiver = of(samples, "descriptor")
    assert maker["inode"] == receiver["inode"]
    assert [sample["signal"] for sample in of(samples, "maker killed")] == ["SIGKILL"]


def told(script: str, environment: dict[str, str]) -> str:
    """The output of a few lines of Python, in a process with these libraries."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment, check=True)
    return done.stdout.strip()


def test_a_symbol_that_the_library_lacks_is_an_answer_too(pretended):
    script = "from lab_support.experiments.cuda.cuda_driver import Driver; print(Driver().call('cuNothing').code)"
    assert told(script, pretended) == str(cuda_driver.NO_SYMBOL)


def test_nvml_tells_memory_in_all_and_by_process(pretended):
    script = """
import os
from lab_support.experiments.gpu_memory import Nvml, NvmlError, open_gpu_memory
memory = open_gpu_memory("cuda")
print(memory.source, memory.used(), memory.processes() == {os.getpid(): 1 << 20, 4000000: None}, memory.device_count())
os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-0000"
print(Nvml().used())
os.environ["CUDA_VISIBLE_DEVICES"] = "1"
try:
    Nvml()
except NvmlError as error:
    print(error)
"""
    assert told(script, pretended | {"CUDA_VISIBLE_DEVICES": "0"}).splitlines() == [
        f"NVML {3 << 20} True 1",
        str(3 << 20),
        "nvmlDeviceGetHandleByIndex_v2: NVML's code 2, Invalid Argument",
    ]


def test_without_nvml_nvidia_smi_is_asked(pretended):
    script = """
from lab_support.experiments.gpu_memory import open_gpu_memory
memory = open_gpu_memory("cuda")
print(memory.source, memory.used(), memory.processes())
"""
    assert told(script, {"PATH": pretended["PATH"]}) == f"nvidia-smi {3 << 20} {{11: {1 << 20}, 12: None}}"


def test_bare_contexts_and_holders_go_the_driver_s_way(pretended):
    """The parts of experiments 9 and 10 that need no torch, with the stand-ins."""
    command = [sys.executable, "-m", "lab_support.experiments.context_cost", "--case", "bare"]
    environment = os.environ | pretended
    done = subprocess.run(command, input="", capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.stdout.startswith("load, cuInit (0), cuCtxCreate_v2 (0) in ms: ["), done.stderr
    words = ("--servers", "0", "--bare", "3", "--seconds", "60")
    samples = run("lab_support.experiments.memory_after_kill", *words, **pretended)
    [bare], [whole] = of(samples, "bare round"), of(samples, "in all")
    assert bare["said"] == ["holding"] * 3 and bare["before"] == bare["holding"]["used"] == 3 << 20
    assert (whole["bare_killed"], whole["gpu"]["source"]) == (3, "NVML")


# ---- rehearsals on the CPU -------------------------------------------------------------------------------------------


REHEARSED = [
    ("fork_after_cuda", ("--repeats", "1"), {"parent", "forked child", "started child", "parent afterwards"}),
    ("what_trips_the_guard", ("--case", "device_count, plain"), {"parent did", "forked child"}),
    ("cuda_ipc", ("--case", "sender ends after the fetch"), {"receiver", "sender left", "sender"}),
]
REHEARSED_IN_FULL = [
    ("fork_before_cuda", (), {"clean parent", "forked child", "parent", "forked child after that"}),
    ("guard_bypassed", ("--case", "first operation, initialised again"), {"forked child", "parent afterwards"}),
    ("idle_forked_child", ("--case", "leaves through exit handlers"), {"idle child", "child left"}),
    ("context_cost", ("--rounds", "1", "--seconds", "90"), {"process", "together", "all left"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "whats"), [*REHEARSED, *(pytest.param(*each, marks=in_full) for each in REHEARSED_IN_FULL)]
)
def test_a_rehearsal_on_the_cpu_goes_through_every_step(name, words, whats):
    samples = rehearse(name, *words)
    assert whats <= {sample["what"] for sample in samples}
    for sample in samples:
        if "ok" in sample and not (name == "guard_bypassed" and sample["what"] == "forked child"):
            assert sample["ok"], sample
        assert "hung" not in str(sample.get("outcome")), sample


@pytest.mark.slow
def test_a_tensor_through_a_queue_has_the_same_bytes_and_a_write_is_seen_on_the_other_side():
    samples = rehearse("cuda_ipc", "--case", "spawned receiver")
    [sender], [receiver], [seen] = of(samples, "sender"), of(samples, "receiver"), of(samples, "sender sees")
    assert receiver["value"]["ok"] and receiver["value"]["value"]["sha256"] == sender["sha256"]
    assert seen["value"]["first"] == 1, "the receiver added 1 to every element, and the first was 0"


@pytest.mark.slow
def test_a_killed_server_is_watched_until_nothing_of_it_is_left():
    samples = rehearse("memory_after_kill", "--servers", "1", "--bare", "3", "--seconds", "100")
    [bare], [killed], [whole] = of(samples, "bare round"), of(samples, "server killed"), of(samples, "in all")
    assert bare["said"] == ["holding"] * 3 and bare["left"] == 0 and bare["ms_until_gone"] > 0
    assert killed["victim"] == "launcher" and killed["left"] == 0 and killed["ms_until_gone"] > 0
    assert (whole["bare_killed"], whole["servers_killed"]) == (3, 1)


@pytest.mark.slow
@in_full
def test_each_touch_is_a_process_of_its_own_that_says_what_it_holds():
    samples = rehearse("what_a_touch_leaves")
    held = {one["case"]: one for one in of(samples, "holds")}
    assert "/dev/null" in held["nothing"]["devices"] and held["nothing"]["threads"] == 1
    assert held["nothing"]["guard"] is None
    assert held["torch, first operation"]["guard"] == {"is_in_bad_fork": False, "is_initialized": False}
    assert {one["case"] for one in of(samples, "touched")} == set(held)


@pytest.mark.slow
def test_each_of_the_server_s_processes_is_looked_at_and_only_engine_cores_map_torch():
    samples = rehearse("server_processes")
    found = {one["role"]: set(one["libraries"]) for one in of(samples, "process")}
    assert {"launcher", "api-0", "api-1", "engine-0", "engine-1", "coordinator"} <= set(found)
    assert {role for role, libraries in found.items() if "libtorch_cpu" in libraries} == {"engine-0", "engine-1"}
    assert all(one["host_memory"]["rss"] >= one["host_memory"]["uss"] > 0 for one in of(samples, "process"))


@pytest.mark.slow
def test_the_sweep_serves_a_model_of_random_weights_and_measures_each_point():
    samples = rehearse("server_step_times", "--models", "tiny", "--small", "1", "--front-ends", "1", "--seconds", "120")
    points = of(samples, "point")
    assert [(one["batch"], one["context"]) for one in points] == [(1, 32), (2, 32)]
    for one in points:
        assert one["load"]["completed"] == one["batch"] and not one["load"]["errors"]
        assert one["load"]["tokens"] == one["batch"] * one["output_tokens"], "every token is a piece of text"
        steps = one["looks"][-1][1] - one["looks"][0][1]
        assert steps >= one["output_tokens"], "the engine core's own count"
    [front_ends] = of(samples, "front ends")
    assert all(load["ok"] and load["value"]["completed"] for load in front_ends["loads"])


def test_of_the_cpu_time_of_api_servers_none_of_their_start_is_left_to_count(tmp_path):
    """Each has used as much by then as at the end of its start, and has said so."""
    from lab_support.experiments.served import server
    from lab_support.experiments.server_step_times import Plan, look_after_the_start

    plan = Plan("cpu", tmp_path, time.monotonic() + 100, (1,), (32,))
    with server("--device", "cpu", "--api-server-count", "6") as served:
        started = [sum(thread_seconds(served.pids[f"api-{index}"]).values()) for index in range(6)]
        look = look_after_the_start(served.url, 6, plan)
    published = [look[f'lab_api_cpu_seconds{{api_server="{index}"}}'] for index in range(6)]
    assert all(later > before > 0 for later, before in zip(published, started, strict=True)), (published, started)


def test_step_times_count_only_pairs_between_which_the_whole_batch_decoded():
    from lab_support.experiments.server_step_times import step_times

    looks = [
        [0.0, 10, 512, 0, 0.0, 0, 1.0],  # nobody runs
        [0.1, 12, 900, 2, 2.0, 0, 1.5],  # prompts were computed since
        [0.2, 22, 900, 22, 2.0, 0, 1.6],  # ten steps of the whole batch in 0.1 s
        [0.3, 22, 900, 22, 2.0, 0, 1.6],  # no step
        [0.4, 32, 900, 32, 1.0, 0, 1.8],  # one of two has ended
    ]
    assert step_times(looks, 2) == [10.0]

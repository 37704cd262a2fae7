"""The rule that may refuse to fork: a test for each reason, provoked for real where this machine can.

Captured input is named as such: WSL's /proc/version from public reports, a Ray actor from a real one that ran
elsewhere, a GPU's driver from a recording, macOS's name from Python's documentation.
"""

import ctypes
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from lab_support.config import ConfigError
from lab_support.instruments.record import recordings
from lab_support.supervision.seen_elsewhere import PLAIN, seen_elsewhere
from lab_support.supervision.start_rule import Seen, asked_for, choose, reasons

CAPTURED = seen_elsewhere()
SAY = "from lab_support.supervision.start_rule import *; print(repr(choose('fork', Seen.here()).warning))"


def warning_of(program: str) -> str:
    """The rule's answer in a fresh process that has run `program` before."""
    done = subprocess.run([sys.executable, "-c", f"{program}\n{SAY}\n"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().strip("'\"")


def forced_by(seen: Seen) -> str:
    choice = choose("fork", seen)
    assert choice.method == "spawn"
    assert len(choice.reasons) == 1
    return choice.reasons[0]


# ---- provoked for real -----------------------------------------------------------------------------------------------


def test_a_plain_program_may_fork() -> None:
    assert warning_of("pass") == ""


def test_another_thread_of_python_forces_spawn() -> None:
    said = warning_of(
        "import threading; threading.Thread(target=threading.Event().wait, name='pool_0', daemon=True).start()"
    )
    assert "1 other thread runs here, 1 of them Python's: pool_0" in said


def test_a_thread_that_has_ended_does_not() -> None:
    assert warning_of("import threading; t = threading.Thread(target=int); t.start(); t.join()") == ""


def test_threads_of_a_library_in_c_force_spawn() -> None:
    """ZeroMQ's, of which Python's `threading` knows nothing."""
    said = warning_of("import zmq; context = zmq.Context(); sock = context.socket(zmq.PUSH)")
    assert "2 other threads run here, none of them Python's" in said


def test_a_jupyter_kernel_forces_spawn() -> None:
    """The kernel's client is a process of its own as well: it leaves sockets in the one that it runs in."""
    program = f"from tests.notebook.kernels import Kernel; k = Kernel(); print(*k.run({SAY!r})); k.close()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "this is a Jupyter kernel" in done.stdout, done.stderr


def test_to_have_ipykernel_imported_is_no_reason() -> None:
    assert "Jupyter" not in warning_of("import ipykernel.kernelapp")


def test_pytorch_that_has_initialised_cuda_forces_spawn() -> None:
    """PyTorch's own variable, set by hand where there is no GPU; `is_initialized` is the real one."""
    pytest.importorskip("torch")
    said = warning_of("import torch; torch.cuda._initialized = True")
    assert "PyTorch has initialised CUDA in this process" in said


def test_to_ask_the_rule_initialises_nothing() -> None:
    """With PyTorch loaded, and its `is_available` removed, because nothing may call that."""
    pytest.importorskip("torch")
    assert "CUDA" not in warning_of("import torch; del torch.cuda.is_available")


def test_an_open_gpu_driver_forces_spawn() -> None:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        pytest.skip("no libcuda.so.1 here: the recording below stands for it")
    program = "import ctypes; assert ctypes.CDLL('libcuda.so.1').cuInit(0) == 0"
    assert "a GPU driver is initialised" in warning_of(program)


def test_a_ray_actor_forces_spawn() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: the captured actor below stands for it")
    done = subprocess.run(
        [sys.executable, "-m", "tests.supervision.in_ray_actor"], capture_output=True, text=True, timeout=120
    )
    assert "this is the Ray actor" in done.stdout, done.stderr


# ---- on captured input -----------------------------------------------------------------------------------------------


def test_captured_a_ray_actor() -> None:
    seen = CAPTURED["an actor of Ray 2.60"].seen
    actor = replace(PLAIN, ray_actor=seen.ray_actor)
    assert "this is the Ray actor d086fceccf4d3bf81b8db4bf01000000" in forced_by(actor)
    assert len(reasons(seen)) == 2  # it has threads, too


@pytest.mark.parametrize("name", ["WSL 1", "WSL 2"])
def test_captured_wsl(name: str) -> None:
    assert "this is WSL" in forced_by(CAPTURED[name].seen)


def test_recorded_a_gpu_driver_that_is_in_use() -> None:
    """By recordings from an NVIDIA H200, fork is ruled out after each use of CUDA, but not after NVML alone."""
    held = recordings.load("what_a_touch_leaves").of("holds")
    mapped = {each["case"]: each["device_mappings"] for each in held if "torch" not in each["case"]}
    seen = {touch: replace(PLAIN, device_mappings=count) for touch, count in mapped.items()}
    free = {touch for touch, each in seen.items() if choose("fork", each).method == "fork"}
    assert free == {"nothing", "NVML", "libcuda loaded", "libcudart loaded"}
    assert "it maps 3 parts of /dev/nvidia*" in forced_by(seen["cuInit"])


def test_a_gpu_is_named_once() -> None:
    """PyTorch's reason is the better one where both hold."""
    assert "PyTorch" in forced_by(replace(PLAIN, device_mappings=31, torch_has_cuda=True))


def test_documented_macos() -> None:
    mac = replace(PLAIN, platform="darwin", proc_version="")
    assert "this is macOS" in forced_by(mac)
    assert choose("forkserver", mac).method == "spawn"


# ---- the choice ------------------------------------------------------------------------------------------------------

BUSY = replace(PLAIN, threads=3, jupyter_kernel=True, ray_actor="77ab")


def test_all_reasons_stand_in_one_warning() -> None:
    choice = choose("fork", BUSY, "LAB_START_METHOD")
    assert choice.warning.startswith("got fork by LAB_START_METHOD, using spawn instead. Reasons: 3 other threads")
    assert choice.warning.count(";") >= 2
    assert "\n" not in choice.warning


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_does_not_copy_this_process_is_never_overridden(method: str) -> None:
    choice = choose(method, BUSY)
    assert (choice.method, choice.warning) == (method, "")


def test_who_asks() -> None:
    assert asked_for(None, {}) == ("spawn", "default")
    assert asked_for(None, {"LAB_START_METHOD": "fork"}) == ("fork", "LAB_START_METHOD")
    assert asked_for("fork", {}) == ("fork", "--start-method")
    method, by = asked_for("forkserver", {"LAB_START_METHOD": "fork"})
    assert method == "forkserver"
    assert by == "--start-method, which wins over LAB_START_METHOD=fork"


@pytest.mark.parametrize("value", ["vfork", "", "SPAWN"])
def test_an_unknown_method_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"LAB_START_METHOD: got .* expected one of spawn, forkserver, fork"):
        asked_for("fork", {"LAB_START_METHOD": value})
    with pytest.raises(ConfigError):
        choose(value, PLAIN)


def test_it_can_be_used_without_the_server() -> None:
    """Standard library only: a program that imports it gets no library of ours."""
    program = f"{SAY}; import sys; print({{'zmq', 'msgspec', 'torch', 'setproctitle'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=os.environ)
    assert done.stdout.splitlines()[-1] == "set()"

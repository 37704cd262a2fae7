"""The real server on a GPU: its holders, the processes that run while the model loads, and its memory after kill -9.

Each body runs on the CPU as well, where "holds the device" means "has mapped libtorch" and the device's memory is that
of the engine cores; so only the device differs from what has run. `pytest -m gpu` runs those on a GPU.
"""

import os
import select
import signal
import time
from pathlib import Path

import pytest

from lab_support.experiments.gpu_memory import Nvml
from lab_support.experiments.model_sizes import SIZES, write_folder
from lab_support.instruments import proc
from tests.engine.devices import CPU, CUDA, REAL, why_no_gpu
from tests.running_server import launched, running_server

MIB = 1 << 20
PACE = 0.02  # seconds between two looks at what nobody announces
SHARE = dict(gpu_memory_utilization=0.3)  # of a GPU; a CPU does without


@pytest.fixture(params=[CPU, REAL])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == CUDA and (reason := why_no_gpu()):
        pytest.skip(reason)
    return request.param


def opened(pid: int) -> list[str]:
    """The targets of `pid`'s descriptors."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            found.append(os.readlink(descriptor))
        except OSError:
            continue  # closed while we looked
    return found


def holds(device: str, pid: int) -> bool:
    """Whether `pid` has the GPU's files open or NVIDIA's driver mapped; on a CPU, whether it could compute at all."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    if device == CPU:
        return "libtorch" in maps
    return "libcuda.so" in maps or any(target.startswith("/dev/nvidia") for target in opened(pid))


def memory_used(device: str, pids: dict[str, int]) -> int:
    """Bytes: of the GPU by everybody, or on a CPU by the engine cores among `pids`."""
    if device == CUDA:
        return Nvml().used()
    sizes = [proc.read_memory(pid) for name, pid in pids.items() if name.startswith("engine-")]
    return sum(size.pss for size in sizes if size)


@pytest.mark.slow
def test_no_process_but_engine_cores_holds_the_device(device):
    with running_server(device=device, **SHARE) as server:
        for _ in range(4):  # so that every kind of process has had work
            assert server.post("/v1/completions", {"prompt": "Once", "max_tokens": 4}).status_code == 200
        assert {name for name, pid in server.pids.items() if holds(device, pid)} == {"engine-0"}
        if device == CUDA:
            ours = {pid: name for name, pid in server.pids.items()}
            told = {ours[pid] for pid in Nvml().processes() if pid in ours}
            print(f"NVML counts {told or 'pids of another namespace'}")
            assert told <= {"engine-0"}


@pytest.mark.slow
def test_api_servers_are_up_while_the_model_loads(device, tmp_path):
    """Up: past all imports and in their event loop, which shows as an epoll descriptor. Loading: more than half of the
    weights are still to come. The model, made on the device, is one that takes longer than an API server's start."""
    folder, size = tmp_path / "model", SIZES["0.1B" if device == CPU else "8B"]
    write_folder(folder, size)
    up: set[str] = set()
    with launched(device=device, model=folder, load_format="dummy", max_model_len=1024) as (process, ready, log, _):
        while up != {"api-0", "api-1"}:
            assert not select.select([ready], [], [], PACE)[0], f"ready, with only {up} seen:\n{log.read_text()}"
            roles = {one.title.removeprefix("lab:"): one.pid for one in proc.process_tree(process.pid)}
            up = {role for role, pid in roles.items() if role.startswith("api-") and loops(pid)}
        then = memory_used(device, roles)
        assert ready.readline(), log.read_text()
        grown = memory_used(device, roles) - then
        process.terminate()
        process.wait(30)
    print(f"{grown / MIB:.0f} MiB came after the API servers were up")
    assert grown > size.parameters, "bytes; at least two for each weight in all"


def loops(pid: int) -> bool:
    return "anon_inode:[eventpoll]" in opened(pid)


def test_kill_9_of_an_engine_core_frees_its_memory(device):
    before = Nvml().used() if device == CUDA else 0
    with running_server(device=device, **SHARE) as server:
        assert server.post("/v1/completions", {"prompt": "Once", "max_tokens": 4}).status_code == 200
        held = memory_used(device, server.pids) - before
        assert held > (1024 if device == CUDA else 64) * MIB
        os.kill(server.pids["engine-0"], signal.SIGKILL)
        server.process.wait(30)  # the launcher ends with it
        deadline = time.monotonic() + 30
        while (left := memory_used(device, server.pids) - before) > 2 * MIB and time.monotonic() < deadline:
            time.sleep(PACE)
        assert left <= 2 * MIB, f"{left / MIB:.0f} of {held / MIB:.0f} MiB are still held"

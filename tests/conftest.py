"""Fixtures for all tests: a real server to talk to, and a check that nothing of it is left behind."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.repository.scheduling import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401
from tests.running_server import RunningServer, running_server

if TYPE_CHECKING:
    from tests.notebook.kept_runs import KeptRuns


def pytest_configure() -> None:
    """Under nohup, or as a background job of a script, both are ignored, and every server started here would follow."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """One real server with two API servers, for all tests that only talk to it."""
    with running_server() as running:
        yield running


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of this session, for things that are made once."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def kept_runs(session_folder: Path) -> "KeptRuns":
    """The programs of notebooks, exercises and claims that have run in this session."""
    from tests.notebook.kept_runs import KeptRuns  # with IPython, which few tests need

    return KeptRuns(session_folder / "runs")


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No process and no descriptor more than before, apart from those of fixtures that live longer."""
    if "server" in request.fixturenames:
        request.getfixturevalue("server")
    if request.node.get_closest_marker("gpu"):
        _open_gpu()
    processes, descriptors = _children(), _descriptors()
    yield
    deadline = time.monotonic() + 5
    while (left := _children() - processes) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not left, f"processes left running: {[_command(pid) for pid in left]}"
    new = {fd: target for fd, target in _descriptors().items() if fd not in descriptors}
    sockets = {fd: target for fd, target in new.items() if not target.startswith(("/", "anon_inode"))}
    assert not sockets, f"descriptors left open: {sockets}"


def _open_gpu() -> None:
    """NVIDIA's driver opens pipes and sockets at its first use in a process, and keeps them."""
    import torch

    from lab_support.experiments.gpu_memory import Nvml
    from tests.engine.devices import why_no_gpu

    if not why_no_gpu():
        torch.zeros(1, device="cuda")
        Nvml().used()


def _children() -> set[int]:
    pids: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has just ended
            pids.update(map(int, path.read_text().split()))
    return {pid for pid in pids if "resource_tracker" not in _command(pid) and _command(pid)}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _descriptors() -> dict[str, str]:
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[path.name] = os.readlink(path)
        except OSError:
            continue
    return found

"""The doctor sees this machine as the kernel does, and says what is missing with what to do about it."""

import dataclasses
import os
import subprocess
import sys

import pytest

from lab_support import doctor
from tests.instruments.as_nobody import needs_root
from tests.without_torch import WITH_TORCH

WELL = doctor.Machine(
    system="Linux",
    kernel="6.18.1-lts",
    python="3.11.7",
    cores=2,
    memory=8 << 30,
    torch="2.13.0+cpu",
    gpus=1,
    gpu_driver="driver 1.0",
    missing_packages=(),
    kernel_views=dict.fromkeys(doctor.examine().kernel_views, True),
    strace="strace",
    descriptors=1024,
    processes=None,
    pids_max=None,
    shortfalls=(),
    temporary_folder="tmp",
    temporary_kind="tmpfs",
    temporary_free=1 << 30,
    temporary_writable=True,
    jupyterlab="4.6.6",
    widgets="8.1.9",
    lab_widgets="3.0.17",
    matplotlib="3.11.2",
    vllm="0.33.0",
    ray="2.60",
)


def but(**changes) -> doctor.Machine:
    return dataclasses.replace(WELL, **changes)


@WITH_TORCH
def test_what_it_sees_is_what_the_kernel_says():
    machine = doctor.examine()
    assert 1 <= machine.cores <= len(os.sched_getaffinity(0))
    assert machine.kernel == os.uname().release
    assert machine.temporary_kind
    assert machine.kernel_views["/proc"]
    assert machine.torch


def test_the_command_says_that_the_server_can_run_and_imports_nothing_heavy():
    script = (
        "import sys, lab_support.doctor as d; code = d.run_doctor_command(None);"
        "heavy = {'torch', 'zmq', 'uvicorn', 'matplotlib', 'IPython'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The server can run here" in done.stdout


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"system": "Darwin"}, "got Darwin, expected Linux"),
        ({"missing_packages": ("zmq",)}, "not installed: zmq: run `pip install"),
        ({"memory": 512 << 20}, "got 512 MB of memory"),
        ({"temporary_free": 1 << 20}, "1 MB free"),
        ({"temporary_writable": False}, "can't be written"),
        ({"shortfalls": ("open files: got a limit of 64",)}, "open files: got a limit of 64"),
        ({"kernel_views": {**WELL.kernel_views, "/proc": False}}, "mount -t proc"),
        ({"temporary_folder": ""}, "got no temporary folder"),
    ],
)
def test_what_keeps_the_server_from_running_is_said_with_what_to_do(change, sentence):
    assert doctor.obstacles(WELL) == []
    assert [sentence in obstacle for obstacle in doctor.obstacles(but(**change))] == [True]
    assert "can't run here" in doctor.describe(but(**change))


def test_the_command_ends_with_1_where_the_server_cannot_run(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: but(system="Darwin"))
    assert doctor.run_doctor_command(None) == 1


@pytest.mark.parametrize(
    ("change", "number", "loss"),
    [
        ({"gpus": 0}, "05", "no GPU: results about CUDA"),
        ({"strace": ""}, "03", "no strace"),
        ({"cores": 1}, "08", "no second core"),
        ({"kernel_views": {**WELL.kernel_views, "kcmp": False}}, "03", "no kcmp"),
        ({"vllm": ""}, "10", "no vLLM"),
    ],
)
def test_each_lack_is_named_in_the_notebooks_that_feel_it(change, number, loss):
    assert doctor.losses(WELL, number) == []
    assert any(loss in sentence for sentence in doctor.losses(but(**change), number))
    assert doctor.losses(but(**change), "07") == []


def test_notebooks_that_are_not_there_yet_are_named_as_planned(tmp_path, monkeypatch):
    (tmp_path / "00_start_here.ipynb").touch()
    monkeypatch.setattr(doctor, "NOTEBOOKS", tmp_path)
    text = doctor.describe(WELL)
    assert "00_start_here" in text
    assert "01, 02, 03, 04, 05, 06, 07, 08, 09, 10, 11" in text


def test_without_any_temporary_folder_it_says_so(monkeypatch):
    monkeypatch.setattr(doctor.tempfile, "gettempdir", raise_as_python_does)
    assert "got no temporary folder that is writable" in doctor.describe(doctor.examine())


def raise_as_python_does() -> str:
    raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")


@needs_root
def test_without_proc_it_says_that_the_server_cannot_run():
    script = f'mount -t tmpfs none /proc || exit 77; exec "{sys.executable}" -m lab_support doctor'
    done = subprocess.run(["unshare", "--mount", "bash", "-c", script], capture_output=True, text=True, timeout=60)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"mounts can't be made here: {done.stderr}")
    assert done.returncode == 1, done.stderr
    assert "✘ /proc can't be read" in done.stdout and "The server can't run here." in done.stdout

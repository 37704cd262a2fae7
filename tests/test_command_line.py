"""A command whose reader has gone, whose disk is full, or whose user has had enough: no traceback, and a right code."""

import os
import signal
import subprocess
import sys

import pytest

from tests.without_torch import WITH_TORCH

COMMANDS = (["doctor"], ["--help"], ["serve", "--help"], ["load", "--help"], ["xray", str(os.getpid())])


def lab(*words: str) -> list[str]:
    return [sys.executable, "-m", "lab_support", *words]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_reader_that_has_gone_is_no_error(words):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(lab(*words), stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert done.stderr == ""
    if words[-1] != "--help":  # argparse takes no notice of it
        assert done.returncode == 128 + signal.SIGPIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("words", [["doctor"], ["xray", str(os.getpid())]], ids=lambda words: words[0])
def test_no_room_for_what_is_printed_is_one_sentence(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(lab(*words), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("lab: stdout: got No space left on device") and done.stderr.count("\n") == 1


@WITH_TORCH
def test_a_closed_stdout_is_no_error():
    done = subprocess.run(["bash", "-c", '"$0" -m lab_support doctor >&-', sys.executable], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_ends_a_command_without_a_word():
    code = (
        "import os, signal, sys; from lab_support.command_line import run_command;"
        "sys.exit(run_command(lambda: os.kill(os.getpid(), signal.SIGINT)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, b"")

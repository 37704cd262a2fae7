"""Front ends and an engine as processes: results, errors, and nothing left."""

import os
import signal
from contextlib import suppress

import pytest

from lab_support.notebook.stages.front_ends import serve


def open_fifo(folder, flags):
    """A FIFO whose reader sees the end when the process that writes to it has ended."""
    with suppress(FileExistsError):
        os.mkfifo(f"{folder}/fifo")
    return os.open(f"{folder}/fifo", flags)


def fail(count, folder):
    open_fifo(folder, os.O_WRONLY)
    return [][0]


def until_it_has_failed(number, folder, own):
    assert os.read(open_fifo(folder, os.O_RDONLY), 1) == b""
    return own


def work_for_ever(count, folder):
    signal.pause()


def test_each_runs_in_a_process_of_its_own_and_returns_its_result():
    told = serve(
        lambda number, folder, own: [number, os.getpid(), own, os.path.isdir(folder)], work_for_ever, [["a"], ["b"]]
    )
    assert [(number, own, there) for number, _, own, there in told] == [(0, ["a"], True), (1, ["b"], True)]
    assert len({pid for _, pid, _, _ in told} | {os.getpid()}) == 3
    assert not any(os.path.exists(f"/proc/{pid}") for _, pid, _, _ in told)


def test_the_error_of_a_front_end_and_of_the_engine_are_told():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        serve(lambda number, folder, own: 1 / number, work_for_ever, [["a"]])
    with pytest.raises(RuntimeError, match="the engine: IndexError"):
        serve(until_it_has_failed, fail, [["a"]])

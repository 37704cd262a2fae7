"""`lab.watch`: a live picture in a cell, updated in place, of which the last one stays."""

import os
import signal
import threading
from collections.abc import Callable
from queue import Empty
from typing import Any

import pytest

import lab_support.notebook as lab
from lab_support.instruments import proc
from lab_support.instruments.xray.read import NoSuchProcess
from tests.notebook.kernels import Kernel
from tests.watch.watching import family


def until(watched: Any, true: Callable[[Any], bool]) -> None:
    """Wait for its thread to see something."""
    noticed = threading.Event()
    for _ in range(600):
        if true(watched):
            return
        noticed.wait(0.05)
    raise AssertionError(watched.events)


def test_a_server_s_picture_has_its_figures_and_its_x_ray() -> None:
    with lab.live_server(api_server_count=2, device="paced:8B") as server, lab.watch(server) as watched:
        gone = server.pids["api-1"]
        os.kill(gone, signal.SIGKILL)
        until(watched, lambda seen: any("takes the place" in words for words in seen.events))
        assert f"lab:api-1 ({gone}) ended by SIGKILL" in watched.events
        lab.drive(server, clients=2, requests=6, live=False)
        until(watched, lambda seen: "% of the blocks" in picture(seen))
        shown = picture(watched)
        assert shown.count("<svg ") == 3, "figures above the X-ray"
        assert all(f">{words}<" in shown for words in ("lab:api-1", "switches/s", "listening socket"))
        watched.stop()
        assert repr(watched).startswith("watched: lab:launcher: 5 processes")
    assert not [thread for thread in threading.enumerate() if thread.name == "watch"]


def test_it_ends_with_the_tree_and_a_second_one_ends_the_first() -> None:
    with family() as (parent, children):
        first = lab.watch(parent)
        with lab.watch(parent) as second:
            assert repr(first).startswith("watched")
            for pid in (*children, parent):
                os.kill(pid, signal.SIGKILL)
            until(second, lambda seen: repr(seen) == "watched: python -c has ended")
            assert f"python -c ({parent}) ended by SIGKILL" in second.events
    with pytest.raises(NoSuchProcess):
        lab.watch(parent)


def test_an_event_is_awaited_and_the_end_of_the_watch_ends_the_wait() -> None:
    with family() as (parent, children), lab.watch(parent) as watched:
        assert not watched.await_event("no such words", seconds=0.2)
        os.kill(children[0], signal.SIGKILL)
        assert watched.await_event(f"({children[0]}) ended by SIGKILL")
        for pid in (*children[1:], parent):
            os.kill(pid, signal.SIGKILL)
        assert not watched.await_event("no such words", seconds=600), "it waited for a tree that has ended"


def test_published_pictures_have_labels_in_place_of_pids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_STABLE_OUTPUT", "1")
    with family() as (parent, children), lab.watch(parent) as watched:
        os.kill(children[0], signal.SIGKILL)
        until(watched, lambda seen: "python -c (P1) ended by SIGKILL" in seen.events)
        watched.stop()
        shown = picture(watched)
        assert not any(f">{pid}<" in shown for pid in (parent, *children))
        assert ">pid P2<" in shown and ">pid P1<" not in shown, "the X-ray's labels are those of the table above it"


def test_a_cell_s_picture_changes_while_another_cell_runs() -> None:
    kernel = Kernel()
    try:
        kernel.run("import os, signal, subprocess, sys, time\nimport lab_support.notebook as lab")
        kernel.run("child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])")
        kernel.client.execute("watched = lab.watch(child.pid)")
        place = next_display(kernel, "display_data")["transient"]["display_id"]
        kernel.client.execute("child.kill(); child.wait(); time.sleep(2)")
        while "has ended" not in (shown := next_display(kernel, "update_display_data"))["data"]["text/plain"]:
            pass
        assert shown["transient"]["display_id"] == place
        assert "<svg " in shown["data"]["image/svg+xml"]
    finally:
        kernel.close()


def next_display(kernel: Kernel, kind: str) -> dict[str, Any]:
    while True:
        try:
            message = kernel.client.get_iopub_msg(timeout=30)
        except Empty:
            raise AssertionError(f"no {kind}") from None
        if message["msg_type"] == kind:
            return message["content"]


def picture(watched: Any) -> str:
    data, metadata = watched._repr_mimebundle_()
    assert metadata["image/svg+xml"]["alt"] == data["text/plain"]
    return data["image/svg+xml"]


def test_a_watch_leaves_the_watched_process_alone() -> None:
    with family() as (parent, children):
        lab.watch(parent).stop()
        assert all(proc.read_process(pid).state in "SR" for pid in (parent, *children))

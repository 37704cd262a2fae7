"""The instruments of notebooks: the live picture of a load, the accept queue, X-rays to query and to compare."""

import dataclasses
import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

import lab_support.notebook as lab
from lab_support.instruments.load.progress import Progress
from lab_support.instruments.queue_history import QueueHistory, QueueSample
from lab_support.notebook.page.record import STABLE
from lab_support.notebook.servers.live_load import LiveLoad
from tests.notebook.kernels import Kernel, running_kernel

DRIVE = """
import types, lab_support.notebook as lab
report = lab.drive(types.SimpleNamespace(url="{url}", api_key="{key}"), clients=2, requests=60, output_tokens=24)
print(report.tokens)
"""


@pytest.fixture(scope="module")
def live():
    with lab.live_server(api_server_count=2) as server:
        yield server


def frames(kernel: Kernel, code: str) -> tuple[list[dict], list[dict]]:
    """Every picture that the cell showed, and every one by which it was replaced."""
    kernel.client.execute(code)
    shown: list[dict] = []
    replaced: list[dict] = []
    while (message := kernel.client.get_iopub_msg(timeout=60))["content"].get("execution_state") != "idle":
        content = message["content"]
        assert message["msg_type"] != "error", content
        if "image/svg+xml" in content.get("data", {}):
            (shown if message["msg_type"] == "display_data" else replaced).append(content)
    kernel.client.get_shell_msg(timeout=60)
    return shown, replaced


# ---- a load ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loads_picture_is_replaced_in_place_while_it_runs_and_published_once(live):
    with running_kernel() as kernel:
        shown, replaced = frames(kernel, DRIVE.format(url=live.url, key=live.api_key))
        assert len(shown) == 1 and replaced
        assert {each["transient"]["display_id"] for each in replaced} == {shown[0]["transient"]["display_id"]}
        assert "60 of 60 requests ended" in replaced[-1]["metadata"]["image/svg+xml"]["alt"]
        kernel.run(f"import os; os.environ[{STABLE!r}] = '1'")
        shown, replaced = frames(kernel, DRIVE.format(url=live.url, key=live.api_key))
        assert len(shown) == 1 and not replaced
        assert "60 of 60 requests ended" in shown[0]["data"]["text/plain"]


def some_progress(*rates: float) -> LiveLoad:
    picture = LiveLoad("clients 2")
    for number, rate in enumerate(rates, 1):
        picture.add(
            Progress(number * 0.2, number, len(rates), 0, 100 * number, rate, 0.02 if number > 1 else None, None)
        )
    return picture


@pytest.mark.parametrize("rates", [(), (0.0,), (100.0, 250.0, 90_000.0), tuple(range(1, 400))])
def test_a_frame_is_a_picture_with_words_however_much_has_come(rates):
    picture = some_progress(*rates)
    root = ElementTree.fromstring(picture.svg())
    assert root.get("aria-label") == picture.alt
    numbers = [float(word) for line in root.iter("{http://www.w3.org/2000/svg}polyline") for word in
               line.get("points").replace(",", " ").split()]  # fmt: skip
    assert all(0 <= number <= 720 for number in numbers)


def test_a_frame_says_how_far_it_is_and_how_fast():
    assert some_progress(100, 500).finding == "2 of 2 requests ended; at most 500 tokens/s"
    assert "from 100 to 500" in some_progress(100, 500).alt


# ---- the accept queue ------------------------------------------------------------------------------------------------

HISTORY = QueueHistory(80, tuple(QueueSample(at / 10, waiting) for at, waiting in enumerate((0, 3, 5, 0))), 1, 4, 2)


def test_the_queues_figure_says_whether_it_was_full():
    picture = lab.accept_queue(HISTORY)
    assert "The queue was full: 5 waited; in 50% of the looks at least one waited" in picture.alt
    assert "One queue with a limit of 4. 2 connections met a full queue." in picture.alt
    far = lab.accept_queue(dataclasses.replace(HISTORY, limit=2048, queues=2))
    assert "At most 5 connections waited" in far.alt and "2 queues, together with a limit of 2048" in far.alt
    unknown = lab.accept_queue(dataclasses.replace(HISTORY, limit=None, overflows=None, reason="no sock_diag"))
    assert "an unknown limit" in unknown.alt and "no sock_diag" in unknown.alt
    assert all(each.png().startswith(b"\x89PNG") for each in (picture, far, unknown))


def test_a_servers_queue_can_be_watched(live):
    with lab.watch_accept_queue(live) as watch:
        assert "Accept queue of port" in lab.accept_queue(watch).alt
    assert watch.history().limit


# ---- X-rays ----------------------------------------------------------------------------------------------------------


def test_an_xray_says_who_holds_the_listening_socket_and_leaves_out_who_looks(live):
    seen = lab.xray(live)
    assert seen.who_holds(port=live.port) == ["lab:launcher", "lab:api-0", "lab:api-1"]
    (listening,) = [one for one in seen.listening_sockets if one.port == live.port]
    assert seen.holders(listening) == seen.who_holds(port=live.port)
    assert not [one for one in seen.graph.processes if one.outside]
    data, metadata = seen._repr_mimebundle_()
    assert f"pid {live.pids['launcher']}" in data["image/svg+xml"]
    assert metadata["image/svg+xml"]["alt"] == data["text/plain"] == str(seen)


@pytest.mark.slow
def test_the_xray_of_a_large_server_is_as_wide_as_the_page_and_its_captions_as_a_column():
    with lab.live_server(api_server_count=4, accept="exclusive") as server:
        picture = ElementTree.fromstring(lab.xray(server)._repr_mimebundle_()[0]["image/svg+xml"])
    drawn = float(picture.get("viewBox").split()[2])
    assert float(picture.get("width")) <= 840 < drawn
    captions = [
        one.text
        for one in picture.iter("{http://www.w3.org/2000/svg}text")
        if one.text and one.get("font-size") == "10"
    ]
    assert captions.count("exclusive") == 4
    assert max(len(each) for each in captions if each.startswith("epoll")) <= 16


def test_a_published_xray_has_labels_for_pids_and_every_other_number_as_it_is(live, monkeypatch):
    plain = lab.xray(live)
    svg = plain._repr_mimebundle_()[0]["image/svg+xml"]
    monkeypatch.setenv(STABLE, "1")
    published = plain._repr_mimebundle_()[0]["image/svg+xml"]
    assert "pid P0" in published and f"pid {live.pids['launcher']}" not in published
    for index, process in enumerate(plain.graph.processes):
        published = published.replace(f"pid P{index}<", f"pid {process.pid}<")
        published = published.replace(f"pid P{index},", f"pid {process.pid},")
        published = published.replace(f"(P{index})", f"({process.pid})")
    assert published == svg


def test_two_xrays_are_compared_in_words_and_with_stars(monkeypatch):
    code = """
import os, subprocess, sys
os.write(1, b"here")
sys.stdin.readline()
subprocess.Popen(["sleep", "60"])
os.write(1, b"made")
sys.stdin.readline()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.read(4)
        before = lab.xray(process.pid)
        assert not lab.compare(before, lab.xray(process.pid))
        process.stdin.write(b"\n")
        process.stdout.read(4)
        change = lab.compare(before, lab.xray(process.pid))
        (sleeper,) = change.difference.processes_new
        os.kill(sleeper.pid, 9)
        process.stdin.write(b"\n")
    assert change and f"process sleep ({sleeper.pid})" in str(change)
    monkeypatch.setenv(STABLE, "1")
    assert "process sleep (P1)" in str(change)
    assert "★" in change._repr_mimebundle_()[0]["image/svg+xml"]

"""Looks at process trees where something can't be read: another user's, or in a sandbox without netlink and kcmp."""

import json
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from lab_support.instruments import proc
from lab_support.instruments.xray.text import text
from lab_support.watch.engine_figures import EngineFigures, by_engine
from lab_support.watch.observer import Observation, Observer
from lab_support.watch.still import still
from lab_support.watch.target import NoTarget, find_target
from tests.instruments.as_nobody import as_nobody, in_a_sandbox, needs_root, needs_x86_64
from tests.watch.watching import family

_LISTENER = ("-c", "import socket, time; s = socket.create_server(('127.0.0.1', 0)); time.sleep(600)")


def observed(pid: int, true: Callable[[Observation], Any]) -> Any:
    """Observe the tree below `pid` until `true` of an observation; return what it is."""
    with Observer(proc.read_process(pid).identity) as observer:
        while not (found := true(observer.observe())):
            observer.wait()
        return found


@needs_root
def test_another_user_s_processes_are_shown_with_what_may_be_read() -> None:
    with family() as (parent, children):
        data, words, picture = as_nobody(lambda: observed(parent, _all_that_is_shown))
        assert [row["pid"] for row in data["processes"]] == [parent, *children]
        assert all(row["descriptors"] is None and row["threads"] == 1 for row in data["processes"])
        assert "Not readable" in words and "–" in picture


@needs_x86_64
def test_in_a_sandbox_the_accept_queue_is_read_from_proc() -> None:
    with family(program=_LISTENER) as (parent, _):
        port = observed(parent, lambda seen: len(seen.look.queues) == 2 and seen.look.queues[0].port)
        with socket.create_connection(("127.0.0.1", port)):
            seen = in_a_sandbox(lambda: observed(parent, lambda seen: seen.look.queues and seen.look.as_data()))
        assert sorted(waiting for _, waiting, _ in seen["queues"]) == [0, 1]
        assert all(limit is None for *_, limit in seen["queues"]) and "sock_diag" in seen["reason"]


def test_a_process_that_ends_in_the_midst_of_a_look_is_left_out() -> None:
    with family() as (parent, children), Observer(proc.read_process(parent).identity) as observer:
        observer.observe()
        for pid in (parent, *children):
            os.kill(pid, signal.SIGKILL)
        while observer.observe().look.running:
            observer.wait()
        assert observer.observe(again=True).xray is None


def test_the_metrics_of_vllm_are_read_by_the_same_names() -> None:
    told = by_engine(
        "# HELP vllm:num_requests_running Number of requests\n"
        'vllm:num_requests_running{engine="0",model_name="m"} 3.0\n'
        'vllm:num_requests_running{engine="1",model_name="m"} 4.0\n'
        'vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 2.0\n'
        'vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 5.0\n'
        'vllm:iteration_tokens_total_bucket{engine="0",le="1.0",model_name="m"} 7.0\n'
        "python_info 1.0\n"
    )
    assert told == {
        0: {"vllm:num_requests_running": 3.0, "vllm:request_success_total": 7.0},
        1: {"vllm:num_requests_running": 4.0},
    }


def _all_that_is_shown(seen: Observation) -> Any:
    if seen.xray is None:
        return None
    picture = still(seen.look, EngineFigures(reason="none"), [], "a name")
    return json.loads(json.dumps(seen.look.as_data())), text(seen.xray.graph), picture


def test_figures_that_are_no_finite_numbers_are_left_out():
    series = ('x{engine="0"} NaN', 'y{engine="0"} +Inf', 'z{engine="0"} garbage', 'w{engine="0"} 3', 'w{engine="٣"} 4')
    assert by_engine("\n".join(series)) == {0: {"w": 3.0}}
    many = "\n".join(f'x{{engine="{index}"}} 1' for index in range(1000))
    assert len(by_engine(many)) == 256


@pytest.mark.parametrize("given", ["http://127.evil.example:80", "http://[::1", "https://127.0.0.1", "²", "9" * 5000])
def test_what_is_no_server_of_this_machine_is_refused_before_anything_is_asked(given):
    with pytest.raises(NoTarget, match="expected"):
        find_target(given)

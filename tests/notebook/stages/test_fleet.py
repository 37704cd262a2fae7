"""Processes that a cell stops, continues and waits for, and the engine cores made of them."""

import os
import signal
import time
from pathlib import Path

import pytest
import zmq

from lab_support.instruments import proc
from lab_support.notebook.stages.engine_cores import engine_cores
from lab_support.notebook.stages.fleet import fleet


def test_each_returns_the_result_of_its_work():
    with fleet() as processes:
        members = [processes.start(lambda a, b: [a, b, os.getpid()], number, "x" * 100_000) for number in range(3)]
        results = [member.result() for member in members]
    assert [(number, len(text)) for number, text, _ in results] == [(0, 100_000), (1, 100_000), (2, 100_000)]
    assert len({os.getpid(), *(pid for _, _, pid in results)}) == 4


@pytest.mark.parametrize("work", [lambda: 1 / 0, lambda: os._exit(3), lambda: {1, 2}])
def test_one_that_returns_nothing_is_told_as_such(work):
    with fleet() as processes, pytest.raises(RuntimeError, match="got no result of a process"):
        processes.start(work).result()


def test_one_that_goes_on_for_too_long_is_told_as_such():
    with fleet() as processes, pytest.raises(RuntimeError, match=r"within 0.1 s"):
        processes.start(signal.pause).result(0.1)


def test_a_stopped_one_does_nothing_until_it_goes_on():
    with fleet() as processes:
        member = processes.start(_pid_after_a_while)
        member.stop()
        assert not member.has_result(0.5)
        member.go_on()
        assert member.result() > 0


def _pid_after_a_while() -> int:
    time.sleep(0.1)
    return os.getpid()


def test_one_that_stops_itself_is_waited_for_and_one_that_ends_instead_is_an_error():
    with fleet() as processes:
        member = processes.start(lambda: os.kill(os.getpid(), signal.SIGSTOP))
        member.await_stop()
        assert not member.has_result(0)
        with pytest.raises(RuntimeError, match="got a process that ended"):
            processes.start(lambda: None).await_stop()


def test_nothing_is_left_of_any():
    before = {process.identity for process in proc.process_tree(os.getpid())}
    with fleet() as processes:
        for _ in range(3):
            processes.start(signal.pause)
        processes.start(signal.pause).stop()
        folder = Path(processes.address("door").removeprefix("ipc://")).parent
        assert folder.is_dir()
        assert len({each.identity for each in proc.process_tree(os.getpid())} - before) == 4
    assert {each.identity for each in proc.process_tree(os.getpid())} <= before
    assert not folder.exists()


# ---- engine cores ----------------------------------------------------------------------------------------------------


def ask(addresses: tuple[str, ...], count: int) -> list[list[str]]:
    with zmq.Context() as context:
        return [[_asked(context, address) for _ in range(count)] for address in addresses]


def _asked(context: zmq.Context, address: str) -> str:
    with context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(address)
        dealer.send(b"a prompt")
        return dealer.recv().decode() if dealer.poll(1000) else "no answer"


def test_engine_cores_answer_whoever_asks_and_a_stopped_one_nobody():
    with engine_cores(2) as cores:
        assert cores.front_ends(2, ask, 3) == [[["a prompt"] * 3] * 2] * 2
        cores.stop(1)
        assert cores.front_ends(1, ask, 1) == [[["a prompt"], ["no answer"]]]
        cores.go_on(1)
        assert cores.front_ends(1, ask, 1) == [[["a prompt"], ["a prompt"]]]


def test_engine_cores_connect_under_their_numbers():
    with engine_cores(2, connect=True) as cores, zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        (address,) = set(cores.addresses)
        router.bind(address)
        assert sorted(router.recv_multipart() for _ in range(2)) == [[b"0", b"READY"], [b"1", b"READY"]]
        router.send_multipart([b"1", b"a prompt"])
        assert router.recv_multipart() == [b"1", b"a prompt"]

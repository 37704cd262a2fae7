"""A crew: workers that stand still, go on and die as they are told, and clients that know what became of them."""

import os
import socket
import time
from pathlib import Path

import pytest

from lab_support.notebook.crew import crew, crew_of
from lab_support.notebook.stages.clients import CUT_OFF, NOTHING, STRANGER


def keep(listening_socket: socket.socket) -> None:
    kept = []
    while True:
        kept.append(listening_socket.accept())


def test_each_client_is_answered_by_a_worker_and_all_workers_end():
    with crew(2) as workers:
        pids = list(workers.pids.values())
        answers = workers.connect(10).answers()
        assert {answer.by for answer in answers} <= {"worker 1", "worker 2"}
        assert len(answers) == 10
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_while_they_stand_still_clients_wait_in_one_queue_and_are_answered_when_they_go_on():
    with crew(2) as workers:
        workers.stop()
        clients = workers.connect(5)
        assert workers.queued() == [5]
        workers.go_on()
        assert clients.outcome()["answered"] == 5


def test_own_sockets_have_a_queue_each_and_a_killed_workers_is_cut_off():
    with crew(2, reuseport=True) as workers:
        workers.stop()
        clients = workers.connect(40)
        first, second = workers.queued()
        assert first + second == 40
        workers.kill(1)
        assert list(workers.pids) == ["worker 2"]
        workers.go_on()
        assert clients.outcome() == {"answered": second, CUT_OFF: first, NOTHING: 0, STRANGER: 0}


def test_who_accepts_and_says_nothing_leaves_clients_without_an_answer():
    with crew(1, keep) as workers:
        clients = workers.connect(3)
        workers.await_accepted()
        assert clients.outcome(0.2)[NOTHING] == 3


def test_another_program_on_the_port_is_a_stranger_and_without_reuseport_it_is_refused():
    with crew(1, reuseport=True) as ours, crew(1, reuseport=True, port=ours.port):
        outcome = ours.connect(60).outcome()
    assert outcome["answered"] + outcome[STRANGER] == 60
    assert outcome[STRANGER] > 0, "false alarm once in 10^18 runs"
    with crew(1) as workers, pytest.raises(OSError, match="in use"), crew(1, port=workers.port):
        pass


def test_each_worker_may_have_a_function_of_its_own():
    def as_number(number: int):
        def serve(listening_socket: socket.socket) -> None:
            while True:
                with listening_socket.accept()[0] as connection:
                    connection.sendall(b"%d" % os.getpid() if number else b"somebody")

        return serve

    with crew(2, [as_number(0), as_number(1)]) as workers:
        workers.stop(1)
        assert [answer.by for answer in workers.connect(2).answers()] == ["worker 2", "worker 2"]
        workers.go_on()
        workers.stop(2)
        assert [answer.by for answer in workers.connect(2).answers()] == [STRANGER, STRANGER]


def test_a_worker_that_does_not_wait_is_an_error():
    with pytest.raises(RuntimeError, match="does not wait"), crew(1, lambda listening_socket: time.sleep(0)):
        pass


def test_clients_of_a_web_server_ask_and_know_its_name():
    answer = b"HTTP/1.1 200 OK\r\nX-Served-By: api-7\r\n\r\n"

    def web(listening_socket: socket.socket) -> None:
        while True:
            with listening_socket.accept()[0] as connection:
                assert connection.recv(1000).startswith(b"GET /ping ")
                connection.sendall(answer)

    with crew(1, web) as workers:
        seen = crew_of(workers.port, {"api-7": workers.pids["worker 1"]}).connect(2).answers()
    assert [each.by for each in seen] == ["api-7", "api-7"]

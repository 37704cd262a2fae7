"""The accept queue over time: what the thread saw is what was done."""

import socket
import threading

import pytest

from lab_support.instruments.queue_history import NothingListens, QueueWatch, watching_accept_queue


def until_seen(watch: QueueWatch, waiting: int) -> None:
    looks = len(watch.history().samples)
    while not any(sample.waiting == waiting for sample in watch.history().samples[looks:]):
        pass


def test_it_sees_the_queue_grow_meet_its_limit_and_go_down():
    with socket.create_server(("127.0.0.1", 0), backlog=2) as listening_socket:
        address = listening_socket.getsockname()
        with watching_accept_queue(address[1], every=0.001) as watch:
            clients = []
            for number in range(3):  # the kernel takes one more than the limit: listen(2)
                clients.append(socket.create_connection(address))
                until_seen(watch, number + 1)
            one_too_many = socket.socket()
            one_too_many.setblocking(False)
            one_too_many.connect_ex(address)
            for left in (2, 1, 0):
                listening_socket.accept()[0].close()
                until_seen(watch, left)
        for each in (*clients, one_too_many):
            each.close()
    history = watch.history()
    assert (history.most, history.limit, history.queues) == (3, 2, 1)
    assert history.overflows is None or history.overflows >= 1
    assert 0 < history.share_of_time_waiting < 1
    assert [sample.at for sample in history.samples] == sorted(sample.at for sample in history.samples)


def test_nothing_of_it_is_left_and_a_port_without_a_listener_is_refused():
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        port = listening_socket.getsockname()[1]
        with watching_accept_queue(port):
            assert threading.active_count() == threads + 1
    assert threading.active_count() == threads
    with pytest.raises(NothingListens, match=f"got port {port}"), watching_accept_queue(port):
        pass

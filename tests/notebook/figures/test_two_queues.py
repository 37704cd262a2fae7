"""The drawings of a socket's two queues say what they show."""

import pytest

import lab_support.notebook as lab

pytestmark = pytest.mark.usefixtures("empty_record")


def test_every_process_and_connection_is_named():
    picture = lab.two_queues(3, connections=2)
    assert picture.alt.startswith("3 descriptors, one socket, two queues.")
    assert "2 complete connections" in picture.alt and "3 entries, one for the epoll set" in picture.alt
    assert picture.png().startswith(b"\x89PNG")


def test_the_wait_queue_is_drawn_in_four_states_once_their_prediction_is_answered():
    waits = lab.wait_queues(prediction="04.4")
    lab.predict("04.4", "who has those that stay", options={"a": "5", "b": "10"})
    assert "Predict first" in repr(waits)
    lab.answer("04.4", "b")
    words = repr(waits)
    assert "epoll: entries without a mark, all four are woken, and the order stays." in words
    assert (
        "EPOLLEXCLUSIVE, taken out and put in again: exclusive entries, the first is woken, and goes to the back."
        in words
    )
    assert lab.wait_queues().png().startswith(b"\x89PNG")

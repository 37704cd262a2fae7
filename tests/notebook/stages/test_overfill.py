"""Senders whose reader hangs: what the stage says of their messages is what became of them."""

import os
import signal

import pytest
import zmq

from lab_support.notebook.stages import overfill
from lab_support.notebook.stages.engine_cores import engine_cores

MARK = 1000  # ZeroMQ's default


def reader(address: str) -> int:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.connect(address)
        dealer.send(b"hello")
        dealer.recv()
        os.kill(os.getpid(), signal.SIGSTOP)
        return sum(1 for _ in iter(dealer.recv, b"end"))


@pytest.mark.parametrize(
    ("kind", "mark", "flags", "stopped", "waited", "arrives"),
    [
        (zmq.DEALER, MARK, 0, True, True, True),
        (zmq.DEALER, MARK, zmq.NOBLOCK, True, False, True),
        (zmq.DEALER, 0, 0, False, False, True),
        (zmq.ROUTER, MARK, 0, False, False, False),
    ],
)
def test_a_sender_waits_is_refused_keeps_or_loses_messages(kind, mark, flags, stopped, waited, arrives):
    with overfill.started(reader) as (hung, address), zmq.Context() as context, context.socket(kind) as sender:
        sender.sndhwm = mark
        sender.bind(address)
        seen = overfill.overfill(sender, hung, flags)
    assert (seen["stopped"], seen["waited"]) == (stopped, waited)
    assert (seen["arrived"] == seen["sent"]) == arrives
    assert (seen["sent"] == overfill.COUNT) == (not stopped)
    assert (seen["grown_mb"] > overfill.COUNT * overfill.SIZE / 1e6 / 2) == (mark == 0)


def test_an_error_of_the_sender_itself_is_not_taken_for_a_full_queue():
    with overfill.started(reader) as (hung, address), zmq.Context() as context, context.socket(zmq.DEALER) as sender:
        sender.bind(address)
        with pytest.raises(TypeError):
            overfill.overfill(sender, hung, flags="at once")


def offers(mandatory: bool) -> dict:
    def offer(router: zmq.Socket, message: list[bytes]) -> str:
        try:
            router.send_multipart(message, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            return "full" if error.errno == zmq.EAGAIN else "gone"
        return "taken"

    with engine_cores(2, connect=True) as cores, zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.router_mandatory = mandatory
        router.bind(cores.addresses[0])
        return overfill.offer_in_turn(router, cores, offer)


def test_offers_are_counted_as_taken_full_and_answered_and_a_core_that_is_not_there_is_told_apart():
    seen = offers(mandatory=True)
    assert seen["served"] == seen["taken"] + seen["full"] == overfill.OFFERS
    assert 0 < seen["answered"] == seen["taken"] < overfill.OFFERS
    assert seen["two"] == {"gone": overfill.OFFERS}


def test_offers_that_were_dropped_are_taken_and_never_answered():
    seen = offers(mandatory=False)
    assert (seen["served"], seen["taken"], seen["full"]) == (overfill.OFFERS, overfill.OFFERS, 0)
    assert seen["two"] == {"taken": overfill.OFFERS}
    assert 0 < seen["answered"] < overfill.OFFERS

"""A child has the descriptors that its launcher gave it, and no others, under each start method."""

import os
import socket

import pytest

from lab_support.boundary.counters import Counters
from lab_support.supervision.children import Said
from tests.boundary.conftest import CHILDREN_UNDER_TEST


def first_message(children, signals):
    return next(event.message for event in children.events(signals) if isinstance(event, Said))


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_passed_socket_is_the_same_kernel_object(family, method: str) -> None:
    children, signals = family
    with socket.create_server(("127.0.0.1", 0)) as listening:
        children.start(method, "child", CHILDREN_UNDER_TEST, "report_socket", listening)
        told = first_message(children, signals).details
        assert told["inode"] == os.fstat(listening.fileno()).st_ino
        # spawn: the descriptor stayed open across exec; forkserver: it was sent, and got the next free number
        assert (told["number"] == listening.fileno()) == (method != "forkserver")


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_child_holds_no_descriptor_that_it_was_not_given(family, method: str) -> None:
    children, signals = family
    with socket.create_server(("127.0.0.1", 0)) as not_given, open(__file__) as also_not:
        children.start(method, "child", CHILDREN_UNDER_TEST, "report_descriptors")
        held = first_message(children, signals).details
        assert f"socket:[{os.fstat(not_given.fileno()).st_ino}]" not in held.values()
        assert also_not.name not in held.values()
        assert sum(target.startswith("socket:") for target in held.values()) == 1  # its control connection


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_what_lies_in_its_arguments_a_child_does_hold(family, method: str) -> None:
    children, signals = family
    with socket.create_server(("127.0.0.1", 0)) as given, Counters(2) as counters:
        children.start(method, "child", CHILDREN_UNDER_TEST, "report_descriptors", given, [{"deep": counters}])
        held = first_message(children, signals).details
        assert f"socket:[{os.fstat(given.fileno()).st_ino}]" in held.values()
        assert [target for target in held.values() if "memfd" in target]


def test_a_forked_child_lets_go_of_its_siblings_control_connections(family) -> None:
    children, signals = family
    children.start("fork", "first", CHILDREN_UNDER_TEST, "wait_for_ever")
    assert first_message(children, signals) is not None
    siblings = {os.readlink(f"/proc/self/fd/{fd}") for fd in control_descriptors(children)}
    children.start("fork", "second", CHILDREN_UNDER_TEST, "report_descriptors")
    held = first_message(children, signals).details
    assert siblings.isdisjoint(held.values())


def control_descriptors(children) -> list[int]:
    return [child.control.fileno() for child in children._children.values()]

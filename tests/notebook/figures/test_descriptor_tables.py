"""Two tables before and after: the entry that came is found, and so is the object that it leads to."""

import pytest

from lab_support.instruments.xray.graph import Graph, Hold, KernelObject, ProcessNode
from lab_support.notebook.figures.descriptor_tables import descriptor_tables

PROCESSES = tuple(
    ProcessNode(pid, 1, 0, name, name, "S", 1, 6) for pid, name in ((1, "sender"), (2, "receiver"), (3, "third"))
)
OBJECTS = (
    KernelObject("socket:7", "listening socket", "127.0.0.1:7"),
    KernelObject("socket:8", "listening socket", "127.0.0.1:8"),
    KernelObject("unix:1-2", "Unix connection", ""),
)


def graph(*holds: tuple[int, str, int], processes: int = 2) -> Graph:
    return Graph(
        1, PROCESSES[:processes], OBJECTS, tuple(Hold(pid, thing, number, "read") for pid, thing, number in holds)
    )


BEFORE = ((1, "unix:1-2", 1), (1, "unix:1-2", 3), (1, "socket:7", 5), (2, "unix:1-2", 4), (2, "socket:8", 5))


def test_the_entry_that_came_is_told_with_the_socket_that_it_leads_to():
    picture = descriptor_tables(graph(*BEFORE), graph(*BEFORE, (2, "socket:7", 3)), "It came as 3")
    before, after = picture.alt.removeprefix("It came as 3. Before: ").split(" After: ")
    assert before.endswith("receiver: 3 free, 4 channel, 5 listening socket 127.0.0.1:8.")
    assert after.endswith("receiver: 3 listening socket 127.0.0.1:7, 4 channel, 5 listening socket 127.0.0.1:8.")
    assert picture.png().startswith(b"\x89PNG")


def test_standard_streams_are_left_out():
    assert "sender: 3 channel" in descriptor_tables(graph(*BEFORE), graph(*BEFORE), "Nothing came").alt


def test_three_processes_do_not_fit():
    with pytest.raises(ValueError, match="got 3 processes, expected 2"):
        descriptor_tables(graph(*BEFORE), graph(*BEFORE, processes=3), "Three")

"""Two predictions of notebook 03 with other numbers: several descriptors on the way into a child, and other rooms."""

from collections.abc import Mapping
from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found
from lab_support.notebook.page.tables import Table

Given = Mapping[str, Any]

# ---- 03.1: several descriptors ---------------------------------------------------------------------------------------

_THINGS = {
    "pipe ends": "multiprocessing.Pipe()[0]",
    "listening sockets": 'socket.create_server(("127.0.0.1", 0))',
    "UDP sockets": "socket.socket(type=socket.SOCK_DGRAM)",
}
_WAYS = {
    "spawn": "as arguments of a spawned child",
    "forkserver": "as arguments of a child of the fork server",
    "later": "through a pipe, one by one, to a spawned child that runs already",
}
_SEVERAL = """\
import multiprocessing, socket
from lab_support.instruments import audit
from lab_support.notebook.script import emit

def child(pipe, things):
    for _ in range({count} if not things else 0):
        things = [*things, pipe.recv()]
    pipe.send([thing.fileno() for thing in things])

if __name__ == "__main__":
    things = [{thing} for _ in range({count})]
    ours, theirs = multiprocessing.Pipe()
    with audit.unix_sends() as sends:
        arguments = (theirs, [] if {later} else things)
        process = multiprocessing.get_context("{way}").Process(target=child, args=arguments)
        process.start()
        for thing in things if {later} else []:
            ours.send(thing)
        emit(arrived=ours.recv())
        process.join()
        numbers = [thing.fileno() for thing in things]
        emit(messages=sum(any(map(each.carries, numbers)) for each in sends))
"""


def draw_things(random: Random) -> Given:
    return {
        "count": random.choice((3, 4, 5)),
        "things": random.choice(list(_THINGS)),
        "way": random.choice(("spawn", "forkserver", "later")),
    }


def several(given: Given) -> str:
    later = given["way"] == "later"
    way = "spawn" if later else given["way"]
    return _SEVERAL.format(count=given["count"], thing=_THINGS[given["things"]], later=later, way=way)


def count_messages(result: ProcessResult, given: Given) -> Found:
    told = result.told
    rows = (
        (f"{len(told['arrived'])} of {given['count']}", ", ".join(map(str, told["arrived"])), str(told["messages"])),
    )
    return Found(
        measured=told["messages"],
        shown=Table(("arrived", "numbers in the child", "messages with them"), rows),
    )


def letter_of_messages(messages: int, given: Given) -> str:
    return {0: "a", 1: "b", given["count"]: "c"}.get(messages, "d")


# ---- 03.4: other rooms -----------------------------------------------------------------------------------------------

_ROOM = """\
import os, socket
from lab_support.notebook.script import emit

def count_open():
    return len(os.listdir("/proc/self/fd"))

ours, theirs = socket.socketpair()
socket.send_fds(ours, [b"!"], [0] * {count})
before = count_open()
_, _, flags, _ = theirs.recvmsg(1, {size})
emit(arrived=count_open() - before, cut=bool(flags & socket.MSG_CTRUNC))
"""


def draw_room(random: Random) -> Given:
    room = random.choice((2, 3))
    macro = random.choice(("CMSG_LEN", "CMSG_SPACE", "CMSG_SPACE", ""))
    return {"room": room, "count": room + random.choice((2, 3, 4)), "macro": macro}


def size_of(given: Given, prefix: str = "") -> str:
    """Room for so many descriptors, as the question writes it; without a macro it is their bytes alone."""
    size = 4 * given["room"]
    return f"{prefix}{given['macro']}({size})" if given["macro"] else str(size)


def count_arrivals(result: ProcessResult, given: Given) -> Found:
    told = result.told
    row = (f"{told['arrived']} of {given['count']}", str(told["cut"]))
    return Found(measured=told["arrived"], shown=Table(("arrived", "MSG_CTRUNC"), (row,)))


def letter_of_arrivals(arrived: int, given: Given) -> str:
    return {0: "a", given["room"]: "b", given["room"] + 1: "c", given["count"]: "d"}.get(arrived, "")


AGAIN = (
    Again(
        "03.1",
        draw=draw_things,
        words=lambda given: (
            f"messages that carry at least one of {given['count']} {given['things']} {_WAYS[given['way']]}"
        ),
        options=lambda given: {"a": "0", "b": "1", "c": f"{given['count']}", "d": "another number"},
        program=several,
        find=count_messages,
        letter=letter_of_messages,
        timeout=20,
    ),
    Again(
        "03.4",
        draw=draw_room,
        words=lambda given: (
            f"how many of {given['count']} descriptors in a message arrive, with recvmsg(1, {size_of(given)})"
        ),
        options=lambda given: {
            "a": "0",
            "b": f"{given['room']}",
            "c": f"{given['room'] + 1}",
            "d": f"{given['count']}",
        },
        program=lambda given: _ROOM.format(count=given["count"], size=size_of(given, "socket.")),
        find=count_arrivals,
        letter=letter_of_arrivals,
        timeout=10,
    ),
)

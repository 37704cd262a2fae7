"""Notebook 03, second loop: a descriptor sent by hand, and its traps. The programs, and what breaks their claims."""

from lab_support.notebook.moves.exercises import BrokenClaim, changed

BY_HAND = """\
%%python_process --name by_hand --timeout 20 --into by_hand
import array, os, socket
from lab_support.notebook.script import emit, xray
def send(channel, number):
    channel.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [number]))])

def receive(channel):
    _, [(level, kind, data)], flags, _ = channel.recvmsg(1, socket.CMSG_LEN(4))
    return array.array("i", data)[0]

ours, theirs = socket.socketpair()
if os.fork() == 0:  # the receiver: made before there is a socket to inherit
    own = os.open("/dev/zero", os.O_RDONLY)  # it gets the number that `sock` has below
    theirs.send(b"ready")
    arrived = receive(theirs)
    emit(own=own, arrived=arrived, leads_to_there=os.readlink(f"/proc/self/fd/{arrived}"))
    theirs.send(b"got it")
    os._exit(len(theirs.recv(1)) - 1)
sock = socket.create_server(("127.0.0.1", 0))  # the sender
ours.recv(9), xray("before")
send(ours, sock.fileno())
emit(sent=sock.fileno(), leads_to_here=os.readlink(f"/proc/self/fd/{sock.fileno()}"))
ours.recv(9), xray("after")
ours.send(b"!")
"""

FULL = """\
%%python_process --name full --timeout 10 --into full
import socket
from lab_support.notebook.script import emit

ours, theirs = socket.socketpair()  # nobody reads from `theirs`
ours.setblocking(False)  # so that a send that would wait is an error instead
sent = 0
try:
    while sent < 20_000:
        socket.send_fds(ours, [b"!"], [0])
        sent += 1
except BlockingIOError as error:
    emit(sent=sent, then=str(error))
"""

TRUNCATED = """\
%%python_process --name truncated --timeout 10 --into truncated
import os, socket
from lab_support.notebook.script import emit

def open_numbers():
    return {int(name) for name in os.listdir("/proc/self/fd")}

ours, theirs = socket.socketpair()
len_4, space_4 = socket.CMSG_LEN(4), socket.CMSG_SPACE(4)
for room, size in (("none", 0), ("CMSG_LEN(4)", len_4), ("CMSG_SPACE(4)", space_4)):
    before = open_numbers()
    socket.send_fds(ours, [b"!"], [0, 1, 2])
    data, ancillary, flags, _ = theirs.recvmsg(1, size)
    arrived = len(open_numbers() - before)
    emit(room=room, read=data.decode(), arrived=arrived, flag=bool(flags & socket.MSG_CTRUNC))
"""

ON_ARRIVAL = """\
%%python_process --name on_arrival --timeout 10 --into on_arrival
import os, socket, subprocess, sys
from lab_support.notebook.script import emit

ours, theirs = socket.socketpair()
for name, flags in (("plain", 0), ("MSG_CMSG_CLOEXEC", socket.MSG_CMSG_CLOEXEC)):
    reads, writes = os.pipe()
    socket.send_fds(ours, [b"!"], [writes])
    _, [(_, _, data)], _, _ = theirs.recvmsg(1, socket.CMSG_LEN(4), flags)
    arrived = int.from_bytes(data, sys.byteorder)
    look = f"test -e /proc/self/fd/{arrived}"
    leaked = subprocess.run(["sh", "-c", look], close_fds=False).returncode == 0
    emit(received=name, inheritable=os.get_inheritable(arrived), in_the_next_program=leaked)
"""


_ROOM_FOR_THREE = changed(TRUNCATED, "theirs.recvmsg(1, size)", "theirs.recvmsg(1, socket.CMSG_LEN(12))")
_SENDS_THE_NUMBER_ALONE = changed(
    BY_HAND,
    '[b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [number]))]',
    '[array.array("i", [number])]',
    "    _, [(level, kind, data)], flags, _ = channel.recvmsg(1, socket.CMSG_LEN(4))",
    "    data = channel.recv(4)",
)

BROKEN_CLAIMS = (
    BrokenClaim(
        "The descriptor arrived under another number than it was sent with",
        BY_HAND,
        _SENDS_THE_NUMBER_ALONE,
        lambda result: result.told["arrived"] != result.told["sent"],
    ),
    BrokenClaim(
        "It leads to the sender's socket all the same",
        BY_HAND,
        _SENDS_THE_NUMBER_ALONE,
        lambda result: result.told["leads_to_there"] == result.told["leads_to_here"],
    ),
    BrokenClaim(
        "With no reader, a sender must wait after some hundred messages",
        FULL,
        changed(
            FULL,
            "        sent += 1\n",
            "        sent += 1\n        socket.recv_fds(theirs, 1, 0)\n",
            "except BlockingIOError as error:\n    emit(sent=sent, then=str(error))",
            "finally:\n    emit(sent=sent)",
        ),
        lambda result: 30 < result.told["sent"] < 5000,
    ),
    BrokenClaim(
        "Whoever reads without room for descriptors loses them, and gets the data",
        TRUNCATED,
        _ROOM_FOR_THREE,
        lambda result: result.by("room")["none"]["arrived"] == 0 and result.by("room")["none"]["read"] == "!",
    ),
    BrokenClaim(
        "With room for one of three, one arrives",
        TRUNCATED,
        _ROOM_FOR_THREE,
        lambda result: result.by("room")["CMSG_LEN(4)"]["arrived"] == 1,
    ),
    BrokenClaim(
        "CMSG_SPACE for one makes room for two, so that one is open that nobody asked for",
        TRUNCATED,
        _ROOM_FOR_THREE,
        lambda result: result.by("room")["CMSG_SPACE(4)"]["arrived"] == 2,
    ),
    BrokenClaim(
        "Each time, MSG_CTRUNC is the only sign",
        TRUNCATED,
        _ROOM_FOR_THREE,
        lambda result: all(each["flag"] for each in result.by("room").values()),
    ),
    BrokenClaim(
        "It arrives inheritable, and the next program has it too",
        ON_ARRIVAL,
        changed(ON_ARRIVAL, '("plain", 0)', '("plain", socket.MSG_CMSG_CLOEXEC)'),
        lambda result: result.by("received")["plain"]["in_the_next_program"],
    ),
    BrokenClaim(
        "With MSG_CMSG_CLOEXEC, it ends at the exec",
        ON_ARRIVAL,
        changed(ON_ARRIVAL, '("MSG_CMSG_CLOEXEC", socket.MSG_CMSG_CLOEXEC)', '("MSG_CMSG_CLOEXEC", 0)'),
        lambda result: not result.by("received")["MSG_CMSG_CLOEXEC"]["in_the_next_program"],
    ),
)

"""03.1, must: several descriptors in the place of one, and none that the next program has too."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

TWO = '''\
%%python_process --name two --timeout 10 --expect any --into two
import array, os, socket

def send(channel, numbers):
    """Send the descriptors `numbers`, a list."""
    rights = array.array("i", numbers[:1])  # only the first: change this
    channel.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

def receive(channel, count):
    """Receive `count` descriptors, in order. None of them is to survive an exec."""
    _, [(level, kind, data)], flags, _ = channel.recvmsg(1, socket.CMSG_LEN(4))
    return list(array.array("i", data))

if __name__ == "__main__":
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        for number in receive(theirs, 2):
            print(number, "is a", os.readlink(f"/proc/self/fd/{number}").split(":")[0], end=", ")
            print("inheritable" if os.get_inheritable(number) else "closed on exec")
        os._exit(0)
    sock, (reads, writes) = socket.create_server(("127.0.0.1", 0)), os.pipe()
    send(ours, [sock.fileno(), writes])
    os.wait()
'''
_ONE = '    rights = array.array("i", numbers[:1])  # only the first: change this\n'
_ROOM = "channel.recvmsg(1, socket.CMSG_LEN(4))"
_ALL = '    rights = array.array("i", numbers)\n'
TWO_RIGHT = changed(TWO, _ONE, _ALL, _ROOM, "channel.recvmsg(1, socket.CMSG_LEN(4 * count), socket.MSG_CMSG_CLOEXEC)")
_BODY_OF_SEND = _ONE + '    channel.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])\n'
_BODY_OF_RECEIVE = f'    _, [(level, kind, data)], flags, _ = {_ROOM}\n    return list(array.array("i", data))\n'
TWO_BY_THE_LIBRARY = changed(
    TWO,
    _BODY_OF_SEND,
    '    socket.send_fds(channel, [b"!"], numbers)\n',
    _BODY_OF_RECEIVE,
    """\
    _, numbers, _, _ = socket.recv_fds(channel, 1, count)
    for number in numbers:
        os.set_inheritable(number, False)
    return numbers
""",
    "import array, os, socket",
    "import os, socket",
)
TWO_ONE_BY_ONE = changed(
    TWO,
    _BODY_OF_SEND,
    """\
    for number in numbers:
        rights = array.array("i", [number])
        channel.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
""",
    _BODY_OF_RECEIVE,
    """\
    arrived = []
    while len(arrived) < count:
        _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        arrived += [number for _, _, data in ancillary for number in array.array("i", data)]
    return arrived
""",
)

TOO_FEW_SENT = "fewer descriptors were sent than `send` was given: put all of `numbers` into the message"
NO_ROOM = (
    "there was no room for all: the kernel cut the list short and set MSG_CTRUNC; `socket.CMSG_LEN` takes the bytes of "
    "all descriptors, 4 for each"
)
BARE_NUMBERS = (
    "numbers were sent, and no descriptors: a number means something in one table only; the kernel translates what is "
    "in an SCM_RIGHTS item, and nothing else"
)
SURVIVES = (
    "the next program would have them too: the kernel enters what arrives without close-on-exec, unless `recvmsg` is "
    "given MSG_CMSG_CLOEXEC"
)
OTHER_ORDER = "they arrived in another order than they were sent in: the list in the message is in order, keep it so"
LEAKS = "more descriptors are open than `receive` returned: what arrived and is not returned has to be closed"

TWO_WRONG = (
    Wrong(TOO_FEW_SENT, changed(TWO_RIGHT, _ALL, '    rights = array.array("i", numbers[:1])\n')),
    Wrong(NO_ROOM, changed(TWO_RIGHT, "CMSG_LEN(4 * count)", "CMSG_LEN(4)")),
    Wrong(NO_ROOM, changed(TWO_RIGHT, "CMSG_LEN(4 * count)", "CMSG_SPACE(4)")),
    Wrong(
        BARE_NUMBERS,
        changed(
            TWO,
            _BODY_OF_SEND,
            '    channel.send(array.array("i", numbers))\n',
            _BODY_OF_RECEIVE,
            '    return list(array.array("i", channel.recv(4 * count)))\n',
        ),
    ),
    Wrong(SURVIVES, changed(TWO_RIGHT, ", socket.MSG_CMSG_CLOEXEC", "")),
    Wrong(
        LEAKS,
        changed(TWO_RIGHT, 'list(array.array("i", data))', '[os.dup(number) for number in array.array("i", data)]'),
    ),
)

MEASURE_TWO = """
import json, os, socket
from lab_support.notebook.script import emit
import answer

def open_numbers():
    return {int(name) for name in os.listdir("/proc/self/fd")}

def link(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return "nothing"

def descriptors_in_what_it_sends(numbers):
    channel, theirs = socket.socketpair()
    answer.send(channel, numbers)
    channel.close()
    total = 0
    while True:
        data, ancillary, _, _ = theirs.recvmsg(100, socket.CMSG_SPACE(400))
        if not data and not ancillary:
            return total
        total += sum(len(content) // 4 for _, kind, content in ancillary if kind == socket.SCM_RIGHTS)

channel, theirs = socket.socketpair()
reads, writes = os.pipe()
if os.fork() == 0:
    before = open_numbers()
    arrived = answer.receive(theirs, 3)
    more = len(open_numbers()) - len(before)
    links = [link(number) for number in arrived]
    inheritable = [number for number in arrived if link(number) != "nothing" and os.get_inheritable(number)]
    os.write(writes, json.dumps({"links": links, "more": more, "inheritable": len(inheritable)}).encode())
    os._exit(0)
os.close(writes)
sent = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0))]
answer.send(channel, [each.fileno() for each in sent])
in_messages = descriptors_in_what_it_sends([each.fileno() for each in sent])
channel.shutdown(socket.SHUT_WR)
told = os.read(reads, 65536)
if told:
    seen = json.loads(told)
    right = [link(each.fileno()) for each in sent]
    emit(measured=seen | {
        "right": seen["links"] == right, "known": len(set(seen["links"]) & set(right)), "sent": in_messages})
os.wait()
"""


def judge_two(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_TWO)
    unreturned = max(0, seen["more"] - len(seen["links"]))
    measured = (
        f"of 3 descriptors, {seen['sent']} were sent and {seen['known']} arrived; {seen['inheritable']} "
        f"would survive an exec; {unreturned} more are open than were returned"
    )
    findings = (
        (seen["sent"] == 0, BARE_NUMBERS),
        (seen["sent"] < 3, TOO_FEW_SENT),
        (unreturned > 0, LEAKS),
        (seen["known"] < 3, NO_ROOM),
        (not seen["right"], OTHER_ORDER),
        (seen["inheritable"] > 0, SURVIVES),
    )
    cause = next((cause for found, cause in findings if found), "")
    if cause:
        return failed(measured, "all 3 arrive, in their order; none survives an exec; no other is open", cause)
    return passed("3 descriptors of 3 arrived in their order; none would survive an exec, and no other is open")


EXERCISES = (
    Exercise(
        name="03.1",
        kind="must",
        task="change `send` and `receive` so that all descriptors arrive, and none of them survives an exec",
        skeleton=TWO,
        reference=TWO_RIGHT,
        also_right=(TWO_BY_THE_LIBRARY, TWO_ONE_BY_ONE),
        wrong=TWO_WRONG,
        hints=(
            "How many descriptors are in the message, and for how many does the receiver make room?",
            "`socket.CMSG_LEN(4)` is room for one: a descriptor is an int of 4 bytes. `count` are to arrive.",
            "`channel.recvmsg(1, socket.CMSG_LEN(4 * count), socket.MSG_CMSG_CLOEXEC)`",
        ),
        judge=judge_two,
    ),
)

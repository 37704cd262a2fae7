"""03.3, could: a live connection changes its process in mid-answer, and the client notices nothing."""

from typing import Any

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

HAND_OVER = '''\
%%python_process --name hand_over --timeout 10 --expect any --into handed_over
import os, socket

def line(number):
    return b"line %d, written by %d\\n" % (number, os.getpid())

def first(connection, channel, until):
    """Write the lines below `until`, then hand the connection over, and let go of it."""
    for number in range(20):  # all 20: change this
        connection.sendall(line(number))
    connection.close()

def second(channel):
    """In another process: take the connection over, write the rest, and end it."""

if __name__ == "__main__":
    here, there = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        if os.fork() == 0:
            second(there)
            os._exit(0)
        client = socket.create_connection(listening_socket.getsockname(), timeout=2)
        first(listening_socket.accept()[0], here, 7)
        print(f"{len([*client.makefile()])} lines for the client")
'''
_ALL = "    for number in range(20):  # all 20: change this\n"
_END = "        connection.sendall(line(number))\n    connection.close()\n"
_SECOND = '    """In another process: take the connection over, write the rest, and end it."""\n'
_BELOW = "    for number in range(until):\n"
_SEND = '    socket.send_fds(channel, [b"%d" % until], [connection.fileno()])\n'
_TAKE = """\
    place, [number], _, _ = socket.recv_fds(channel, 100, 1)
    with socket.socket(fileno=number) as connection:
        for number in range(int(place), 20):
            connection.sendall(line(number))
"""
HAND_OVER_RIGHT = changed(
    HAND_OVER,
    _ALL,
    _BELOW,
    _END,
    f"        connection.sendall(line(number))\n{_SEND}    connection.close()\n",
    _SECOND,
    _SECOND + _TAKE,
)
HAND_OVER_BY_MULTIPROCESSING = changed(
    HAND_OVER,
    _ALL,
    _BELOW,
    _END,
    """\
        connection.sendall(line(number))
    channel.sendall(bytes([until]))
    reduction.send_handle(channel, connection.fileno(), None)
    os.close(connection.detach())
""",
    _SECOND,
    _SECOND
    + """\
    (until,) = channel.recv(1)
    number = reduction.recv_handle(channel)
    rest = b"".join(line(each) for each in range(until, 20))
    while rest:
        rest = rest[os.write(number, rest):]
    os.close(number)
""",
    "import os, socket\n",
    "import os, socket\nfrom multiprocessing import reduction\n",
)
HAND_OVER_BY_HAND = changed(
    HAND_OVER_RIGHT,
    _SEND,
    """\
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connection.fileno()]))
    channel.sendmsg([until.to_bytes(4, "big")], [rights])
""",
    _TAKE,
    """\
    data, [(_, _, rights)], _, _ = channel.recvmsg(4, socket.CMSG_LEN(4))
    connection = socket.socket(fileno=array.array("i", rights)[0])
    lines = connection.makefile("wb")
    lines.writelines(line(number) for number in range(int.from_bytes(data, "big"), 20))
    lines.flush()
    lines.close()
    connection.close()
""",
    "import os, socket\n",
    "import array, os, socket\n",
)

ONE_WROTE = "one process wrote it all: the second one is to take the connection over and write the rest"
TWICE = "both write the same lines: the one that hands over must stop where the other begins"
PLACE = (
    "the second process began at the wrong line: the descriptor brings the connection and nothing else, so the place "
    "in the answer has to be sent along"
)
SHUT = (
    "the connection was ended for both: shutdown() acts on the socket, whoever calls it; close() lets go of one "
    "descriptor only"
)
KEPT = (
    "the first process still holds the connection after it was handed over: the client would not see its end while "
    "that process lives"
)
RELAYED = (
    "the lines went through the first process, and ended with it: what is to be sent is the descriptor, not the lines"
)
NUMBER = "no descriptor arrived, only a number or nothing: numbers mean something in one process's table only"
NOT_ENDED = "the client did not see the end: the second process, too, has to close the connection when it is done"

HAND_OVER_WRONG = (
    Wrong(TWICE, changed(HAND_OVER_RIGHT, _SEND, "", _BELOW, _SEND + "    for number in range(20):\n")),
    Wrong(PLACE, changed(HAND_OVER_RIGHT, "range(int(place), 20)", "range(20)")),
    Wrong(PLACE, changed(HAND_OVER_RIGHT, "range(int(place), 20)", "range(10, 20)")),
    Wrong(SHUT, changed(HAND_OVER_RIGHT, _SEND, _SEND + "    connection.shutdown(socket.SHUT_RDWR)\n")),
    Wrong(KEPT, changed(HAND_OVER_RIGHT, f"{_SEND}    connection.close()\n", _SEND)),
    Wrong(
        RELAYED,
        changed(
            HAND_OVER,
            _ALL,
            _BELOW,
            _END,
            """\
        connection.sendall(line(number))
    channel.sendall(b"%d" % until)
    while piece := channel.recv(4096):
        connection.sendall(piece)
    connection.close()
""",
            _SECOND,
            _SECOND
            + """\
    for number in range(int(channel.recv(100)), 20):
        channel.sendall(line(number))
    channel.shutdown(socket.SHUT_WR)
""",
        ),
    ),
    Wrong(
        NUMBER,
        changed(
            HAND_OVER_RIGHT,
            _SEND,
            '    channel.sendall(b"%d %d" % (until, connection.fileno()))\n',
            "    place, [number], _, _ = socket.recv_fds(channel, 100, 1)\n",
            "    place, number = map(int, channel.recv(100).split())\n",
        ),
    ),
)

MEASURE_HAND_OVER = """
import os, select, signal, socket, time
from lab_support.notebook.script import emit, inputs
import answer

until = inputs()["until"]
original = answer.line
gate_here, gate_there = socket.socketpair()

def gated(number):
    # Three lines into the second one's part it waits here, while the first one is looked at and killed.
    if number == until + 3:
        gate_there.send(b"!")
        gate_there.recv(1)
    return original(number)

def start(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            signal.pause()
        except (BrokenPipeError, ConnectionResetError):
            os._exit(32)
        finally:
            os._exit(1)
    return pid

def how_it_ended(pid):
    deadline = time.monotonic() + 1.0
    while not (found := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    return {0: "runs", 1: "error", 32: "broken pipe"}[os.waitstatus_to_exitcode(found[1]) if found[0] else 0]

def holds_connection(pid):
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}") == accepted:
                return True
        except OSError:
            continue  # closed while we looked
    return False

def run_second():
    answer.line = gated
    answer.second(there)

def run_first():
    there.close()
    answer.first(connection, here, until)

here, there = socket.socketpair()
second = start(lambda: (here.close(), run_second()))
listening_socket = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listening_socket.getsockname())
connection = listening_socket.accept()[0]
accepted = os.readlink(f"/proc/self/fd/{connection.fileno()}")
first = start(lambda: (listening_socket.close(), client.close(), run_first()))
for each in (here, there, connection, listening_socket):
    each.close()

came, end, kept, deadline = b"", "waits", None, time.monotonic() + 4
while (left := deadline - time.monotonic()) > 0:
    ready = select.select([client, gate_here], [], [], left)[0]
    if client in ready:
        try:
            piece = client.recv(4096)
        except ConnectionResetError:
            end = "cut"
            break
        if not piece:
            end = "ended"
            break
        came += piece
    elif gate_here in ready:
        gate_here.recv(1)
        settled = time.monotonic() + 0.7
        while (kept := holds_connection(first)) and time.monotonic() < settled:
            time.sleep(0.01)
        os.kill(first, signal.SIGKILL)
        gate_here.send(b"!")
lines = came.decode().splitlines()
writers = [{first: "first", second: "second"}.get(int(each.split()[-1]), "?") for each in lines]
numbers = [int(each.split()[1].rstrip(",")) for each in lines]
told = how_it_ended(second) if len(numbers) < 20 else "runs"
emit(measured={"numbers": numbers, "writers": writers, "end": end, "kept": kept, "second": told})
for pid in (first, second):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
_ENDS = {"waits": "and then waited in vain for the end", "cut": "and was cut off", "ended": "and then the end"}


def judge_hand_over(attempt: Attempt) -> Verdict:
    said = ""
    for until in (7, 13):
        seen = attempt.measure(MEASURE_HAND_OVER, inputs={"until": until})
        measured = _in_words(seen, until)
        if cause := _cause(seen, until):
            return failed(measured, f"lines 0 to 19 once each, the first {until} by one process, then the end", cause)
        said = measured
    return passed(f"twice: {said}; the process that began was killed meanwhile")


def _in_words(seen: dict[str, Any], until: int) -> str:
    by_first = seen["writers"].count("first")
    by_second = seen["writers"].count("second")
    whole = "each line once, in order" if seen["numbers"] == list(range(20)) else f"{len(seen['numbers'])} lines"
    return (
        f"handed over before line {until}, the client got {whole}: {by_first} by the first process, {by_second} by the "
        f"second, {_ENDS[seen['end']]}"
    )


def _cause(seen: dict[str, Any], until: int) -> str:
    numbers, writers = seen["numbers"], seen["writers"]
    by_second = [number for number, writer in zip(numbers, writers, strict=True) if writer == "second"]
    by_first = [number for number, writer in zip(numbers, writers, strict=True) if writer == "first"]
    findings = (
        (by_first == list(range(20)) and not by_second, ONE_WROTE),
        (len(by_first) > until, TWICE),
        (bool(by_second) and by_second[0] != until, PLACE),
        (bool(seen["kept"]) and len(numbers) < 20, RELAYED),
        (bool(seen["kept"]), KEPT),
        (len(numbers) < 20 and seen["second"] == "error", NUMBER),
        (len(numbers) < 20, SHUT),
        (seen["end"] != "ended", NOT_ENDED),
        (numbers != list(range(20)), TWICE),
    )
    return next((cause for found, cause in findings if found), "")


EXERCISES = (
    Exercise(
        name="03.3",
        kind="could",
        task="let `first` hand the connection over in mid-answer, and `second` go on, so that the client gets 20 lines",
        skeleton=HAND_OVER,
        reference=HAND_OVER_RIGHT,
        also_right=(HAND_OVER_BY_MULTIPROCESSING, HAND_OVER_BY_HAND),
        wrong=HAND_OVER_WRONG,
        hints=(
            "What does the second process need to go on: only the connection?",
            "`socket.send_fds` carries bytes too. They can say where the answer has got to.",
            "`first`: write, `socket.send_fds(channel, [place], [connection.fileno()])`, close. `second`: "
            "`socket.recv_fds`, then `socket.socket(fileno=…)`, write the rest, close.",
        ),
        judge=judge_hand_over,
    ),
)

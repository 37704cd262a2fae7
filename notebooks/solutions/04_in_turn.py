"""04.1, must: who took five connections goes to the back of the wait queue."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

IN_TURN = '''\
%%python_process --after 04.3 --name in_turn --timeout 20 --expect any --into in_turn
import select
from lab_support.notebook.script import listeners

def wait(listening_socket, take):
    """Runs in each of four processes. take() accepts one connection and answers it; False if there was none."""
    flags = select.EPOLLIN | select.EPOLLEXCLUSIVE
    poll = select.epoll()
    poll.register(listening_socket, flags)
    while True:                                         # five each, and then the next: change this loop
        poll.poll()
        take(listening_socket)

if __name__ == "__main__":
    found = listeners(4, wait, connections=100)
    print([row["accepted"] for row in found["processes"]], "connections each;", end=" ")
    print(found["wakeups_per_connection"], "wake-ups for one connection")
'''
_LOOP = """\
    while True:                                         # five each, and then the next: change this loop
        poll.poll()
        take(listening_socket)
"""
_REARM = "poll.unregister(listening_socket)\n            poll.register(listening_socket, flags)\n"
IN_TURN_RIGHT = changed(
    IN_TURN,
    _LOOP,
    f"""\
    taken = 0
    while True:
        poll.poll()
        taken += take(listening_socket)
        if taken == 5:
            taken = 0
            {_REARM}""",
)
IN_TURN_FIVE_TIMES = changed(
    IN_TURN,
    _LOOP,
    """\
    while True:
        for _ in range(5):
            poll.poll()
            take(listening_socket)
        poll.unregister(listening_socket)
        poll.register(listening_socket, flags)
""",
)
IN_TURN_NEW_SET = changed(
    IN_TURN,
    _LOOP,
    """\
    left = 5
    while True:
        poll.poll()
        left -= take(listening_socket)
        if not left:
            poll.close()                                # with it, its place in the wait queue
            poll, left = select.epoll(), 5
            poll.register(listening_socket, flags)
""",
)

NOBODY_ELSE = (
    "one process takes all: the kernel wakes the first in the wait queue, and who never leaves the queue stays first"
)
HERD = "all processes are woken for each connection: what is registered without EPOLLEXCLUSIVE wakes with the others"
ONE_EACH = (
    "each takes one, and then it is the next one's turn: going to the back after every wake-up is too often; count the "
    "connections that `take` reports"
)
OTHER_NUMBER = "they take turns, but not after five connections each: count what `take` returned True for"

IN_TURN_WRONG = (
    Wrong(NOBODY_ELSE, changed(IN_TURN_RIGHT, "if taken == 5:", "if taken == -5:")),
    Wrong(ONE_EACH, changed(IN_TURN_RIGHT, "if taken == 5:", "if taken:")),
    Wrong(HERD, changed(IN_TURN_RIGHT, "select.EPOLLIN | select.EPOLLEXCLUSIVE", "select.EPOLLIN")),
    Wrong(OTHER_NUMBER, changed(IN_TURN_RIGHT, "if taken == 5:", "if taken > 5:")),
    Wrong(
        ONE_EACH,
        changed(IN_TURN_FIVE_TIMES, "            poll.poll()\n            take", "            take").replace(
            "        for _ in range(5):\n", "        poll.poll()\n        for _ in range(5):\n"
        ),
    ),
)

MEASURE_IN_TURN = """
import itertools, os
import answer
from lab_support.instruments.kernel import wait_until_asleep
from lab_support.notebook.crew import crew
from lab_support.notebook.script import emit, listeners

def take(listening_socket):
    try:
        connection, _ = listening_socket.accept()
    except BlockingIOError:
        return False
    with connection:
        connection.sendall(b"%d" % os.getpid())
    return True

def serve(listening_socket):
    listening_socket.setblocking(False)
    answer.wait(listening_socket, take)

order = []
with crew(4, serve) as workers:
    for _ in range(40):
        wait_until_asleep(workers.pids.values())
        order += [got.by for got in workers.connect(1).answers(2.0)]
runs = [len([*same]) for _, same in itertools.groupby(order)]
woken = listeners(4, answer.wait, connections=40)["wakeups_per_connection"]
emit(measured={"runs": runs, "woken": woken, "processes": len(set(order))})
"""


def judge_in_turn(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_IN_TURN)
    runs = ", ".join(map(str, seen["runs"][:8]))
    measured = f"in a row, they took {runs} of 40 connections; {seen['woken']:.1f} wake-ups for each"
    findings = (
        (seen["woken"] > 2, HERD),
        (seen["processes"] < 2, NOBODY_ELSE),
        (max(seen["runs"]) == 1, ONE_EACH),
        (seen["runs"] != [5] * 8, OTHER_NUMBER),
    )
    cause = next((cause for found, cause in findings if found), "")
    if cause:
        return failed(measured, "each of four takes 5 in a row, and one process is woken for each connection", cause)
    return passed(f"each took 5 in a row, and then the next one; {seen['woken']:.1f} wake-ups for each connection")


EXERCISES = (
    Exercise(
        name="04.1",
        kind="must",
        task="change the loop of `wait`: each process takes five connections in a row, then it is the next one's turn",
        skeleton=IN_TURN,
        reference=IN_TURN_RIGHT,
        also_right=(IN_TURN_FIVE_TIMES, IN_TURN_NEW_SET),
        wrong=IN_TURN_WRONG,
        hints=(
            "Who is woken next, and what would have to happen so that it is another one?",
            "`unregister` and `register` again put a process at the back of the wait queue. After which connections?",
            "Count what `take` returns; `if taken == 5:` go to the back, and begin to count anew.",
        ),
        judge=judge_in_turn,
    ),
)

"""04.2, could: take a connection only if no sibling has fewer open ones, by counters in shared memory."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

FEWEST = '''\
%%python_process --name fewest --timeout 20 --expect any --into fewest
import mmap, os, select
from lab_support.notebook.crew import crew

def worker(listening_socket, counts, me):
    """Runs in each of four processes. counts: open connections of each, in shared memory; mine is counts[me]."""
    listening_socket.setblocking(False)
    poll, kept = select.epoll(), {}
    poll.register(listening_socket, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            if number in kept:                          # its client has hung up
                kept.pop(number).close()
                continue
            try:
                connection, _ = listening_socket.accept()
            except BlockingIOError:
                continue                                # another one was faster
            kept[connection.fileno()] = connection
            poll.register(connection, select.EPOLLIN)
            connection.sendall(b"%d" % os.getpid())
if __name__ == "__main__":
    counts = memoryview(mmap.mmap(-1, 32)).cast("q")    # four numbers that all processes have in common
    with crew(4, [lambda sock, me=me: worker(sock, counts, me) for me in range(4)]) as workers:
        print("open connections:", workers.connect(20).outcome(), list(counts))
'''
_HUNG_UP = "                kept.pop(number).close()\n"
_TRY = "            try:\n"
_OPENED = "            kept[connection.fileno()] = connection\n"
_PATIENT = """\
            patience = 20
            while min(counts) < counts[me] and patience:
                time.sleep(0.001)                       # one that has fewer is to come first
                patience -= 1
"""
_WITH_TIME = ("import mmap, os, select\n", "import mmap, os, select, time\n")
_COUNTED = (
    *_WITH_TIME,
    _HUNG_UP,
    _HUNG_UP + "                counts[me] -= 1\n",
    _OPENED,
    "            counts[me] += 1\n" + _OPENED,
)
FEWEST_RIGHT = changed(FEWEST, *_COUNTED, _TRY, _PATIENT + _TRY)
FEWEST_OUT_OF_THE_QUEUE = changed(
    FEWEST,
    *_WITH_TIME,
    _HUNG_UP,
    _HUNG_UP + "                counts[me] = len(kept)\n",
    _TRY,
    """\
            until = time.monotonic() + 0.02
            while any(other < len(kept) for other in counts) and time.monotonic() < until:
                os.sched_yield()
            try:
""",
    _OPENED,
    _OPENED + "            counts[me] = len(kept)\n",
)
FEWEST_LATER = changed(
    FEWEST,
    *_COUNTED,
    "    poll, kept = select.epoll(), {}\n",
    "    poll, kept, stood_back = select.epoll(), {}, 0\n",
    _TRY,
    """\
            if min(counts) < counts[me] and stood_back < 20:
                stood_back += 1
                time.sleep(0.001)
                continue                                # it will be reported again, if it is still there
            stood_back = 0
            try:
""",
)

LOPSIDED = (
    "one worker has far more open than the others: who has not the fewest is to let the connection lie for a moment"
)
NOT_COUNTED_DOWN = "one that has closed a connection has fewer open ones: count down, too, when a client hangs up"
STUCK = (
    "with one worker hanging, clients wait for ever: it has the fewest, and all others wait for it; wait for a moment "
    "only, and then take the connection"
)
NOBODY_TAKES = "clients get no answer although all workers run: if all have the same number, somebody has to take it"
NOT_SHARED = "the counts in shared memory stay at zero, so nobody knows of the others: write your own into counts[me]"

_FOREVER = "            while min(counts) < counts[me]:\n                time.sleep(0.001)\n"
FEWEST_WRONG = (
    Wrong(NOT_SHARED, changed(FEWEST, *_WITH_TIME, _TRY, _PATIENT + _TRY)),
    Wrong(LOPSIDED, changed(FEWEST, *_COUNTED)),
    Wrong(NOT_COUNTED_DOWN, changed(FEWEST_RIGHT, "                counts[me] -= 1\n", "")),
    Wrong(STUCK, changed(FEWEST_RIGHT, _PATIENT, _FOREVER)),
    Wrong(
        NOBODY_TAKES,
        changed(
            FEWEST_RIGHT, _PATIENT, "            if min(counts) <= counts[me]:\n                continue\n"
        ).replace("min(counts) <= counts[me]:\n", "sum(other <= counts[me] for other in counts) > 1:\n"),
    ),
)

MEASURE_FEWEST = """
import mmap, socket
from collections import Counter
import answer
from lab_support.instruments.kernel import wait_until_asleep
from lab_support.notebook.crew import crew
from lab_support.notebook.script import emit

def four(counts):
    return crew(4, [lambda sock, me=me: answer.worker(sock, counts, me) for me in range(4)])

counts = memoryview(mmap.mmap(-1, 32)).cast("q")
still_open, clients, silent = Counter(), [], 0
with four(counts) as workers:
    names = {b"%d" % pid: name for name, pid in workers.pids.items()}
    for number in range(40):
        client = socket.create_connection(("127.0.0.1", workers.port))
        client.settimeout(1.0)
        try:
            name = names.get(client.recv(100), "nobody")
        except TimeoutError:
            silent += 1
            break
        if number % 2:
            client.close()                       # every second one stays
        else:
            still_open[name] += 1
            clients.append(client)
        wait_until_asleep(workers.pids.values(), 0.05)
    shared = list(counts)
hangs = {"no answer": 0}
if not silent:
    counts = memoryview(mmap.mmap(-1, 32)).cast("q")
    with four(counts) as workers:
        workers.stop(1)
        hangs = workers.connect(12).outcome(2.0)
emit(measured={"open": sorted(still_open.values(), reverse=True), "silent": silent, "shared": shared,
               "hang": hangs["no answer"]})
"""


def judge_fewest(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_FEWEST)
    still_open = ", ".join(map(str, seen["open"]))
    measured = (
        f"of 20 connections that stayed, the workers had {still_open or 'none'}; their counts: "
        f"{', '.join(map(str, seen['shared']))}; with one worker hanging, {seen['hang']} of 12 clients got no answer"
    )
    findings = (
        (seen["silent"] > 0, NOBODY_TAKES),
        (not any(seen["shared"]), NOT_SHARED),
        (sum(seen["shared"]) > 25, NOT_COUNTED_DOWN),
        (_is_lopsided(seen["open"]), LOPSIDED),
        (seen["hang"] > 0, STUCK),
    )
    cause = next((cause for found, cause in findings if found), "")
    if cause:
        return failed(measured, "of 20 that stay, each of four has about 5, and one that hangs holds up nobody", cause)
    return passed(f"of 20 connections that stayed, the workers had {still_open}; one that hung held up nobody")


def _is_lopsided(still_open: list[int]) -> bool:
    """Of the right answers, each worker has 5 of 20; by chance, 7, 6, 4 and 3 is as even as it gets."""
    return len(still_open) < 4 or max(still_open) - min(still_open) > 2


EXERCISES = (
    Exercise(
        name="04.2",
        kind="could",
        task="let a worker take a connection only if no sibling has fewer open; one that hangs is to hold up nobody",
        skeleton=FEWEST,
        reference=FEWEST_RIGHT,
        also_right=(FEWEST_OUT_OF_THE_QUEUE, FEWEST_LATER),
        wrong=FEWEST_WRONG,
        hints=(
            "What does a worker know of its siblings? Write your own number where all can see it, up and down.",
            "Before accept(): is `min(counts) < counts[me]`? Then another one should have it. How long do you wait?",
            "Look again every millisecond, some 20 times; then take the connection, if it is still there.",
        ),
        judge=judge_fewest,
    ),
)

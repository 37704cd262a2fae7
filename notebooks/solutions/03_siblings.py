"""03.2, should: one worker made the listening socket non-blocking, and its sibling dies of it."""

from typing import Any

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

SIBLINGS = '''\
%%python_process --after 03.5 --name siblings --timeout 10 --expect any --into siblings
import multiprocessing, socket, time

def patient(listening_socket):
    """Waits for clients, and does nothing else."""
    while True:
        listening_socket.accept()[0].sendall(b"patient")

def eager(listening_socket, tick=lambda: None):
    """Takes clients too, and calls tick() all the while."""
    listening_socket.setblocking(False)
    while True:
        tick()
        try:
            listening_socket.accept()[0].sendall(b"eager")
        except BlockingIOError:
            time.sleep(0.02)

if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as sock:
        for worker in (patient, eager):
            multiprocessing.Process(target=worker, args=(sock,), daemon=True).start()
        for _ in range(8):
            with socket.create_connection(sock.getsockname()) as client:
                print("answered by the", client.recv(100).decode(), "one")
'''
_PATIENT = """\
    while True:
        listening_socket.accept()[0].sendall(b"patient")
"""
SIBLINGS_RIGHT = changed(
    SIBLINGS,
    _PATIENT,
    """\
    while True:
        select.select([listening_socket], [], [])
        try:
            listening_socket.accept()[0].sendall(b"patient")
        except BlockingIOError:
            continue  # the sibling took it
""",
    "import multiprocessing, socket, time",
    "import multiprocessing, select, socket, time",
)
SIBLINGS_WITH_A_TIMEOUT = changed(
    SIBLINGS,
    _PATIENT,
    """\
    listening_socket.settimeout(3600)  # Python itself then waits, and asks again
    while True:
        try:
            connection, _ = listening_socket.accept()
        except TimeoutError:
            continue
        with connection:
            connection.sendall(b"patient")
""",
)
SIBLINGS_WITH_ASYNCIO = changed(
    SIBLINGS,
    _PATIENT,
    """\
    async def answer(reader, writer):
        writer.write(b"patient")
        writer.close()

    async def serve():
        async with await asyncio.start_server(answer, sock=listening_socket) as server:
            await server.serve_forever()

    asyncio.run(serve())
""",
    "import multiprocessing, socket, time",
    "import asyncio, multiprocessing, socket, time",
)

FLAG = (
    "non-blocking mode is a flag of the open file description, and that is one for both workers: whoever sets it sets "
    "it for the other, and a worker that waits for clients has to live with it"
)
SPINS = "the patient worker asks again and again, and keeps a core busy: let the kernel tell it when there is a client"
EAGER_SLEEPS = (
    "the eager worker sleeps in accept(), and its other work stands still: it needs the flag, or an own timeout"
)
EAGER_IS_GONE = "the eager worker serves nobody any more: both are to serve clients"

SIBLINGS_WRONG = (
    Wrong(FLAG, changed(SIBLINGS, _PATIENT, "    listening_socket.setblocking(True)\n" + _PATIENT)),
    Wrong(
        FLAG,
        changed(
            SIBLINGS,
            "    listening_socket.setblocking(False)\n",
            "    listening_socket = listening_socket.dup()\n    listening_socket.setblocking(False)\n",
        ),
    ),
    Wrong(
        SPINS,
        changed(
            SIBLINGS,
            _PATIENT,
            """\
    while True:
        try:
            listening_socket.accept()[0].sendall(b"patient")
        except BlockingIOError:
            continue
""",
        ),
    ),
    Wrong(EAGER_SLEEPS, changed(SIBLINGS, "    listening_socket.setblocking(False)\n", "")),
    Wrong(
        FLAG,
        changed(
            SIBLINGS,
            _PATIENT,
            """\
    while True:
        try:
            listening_socket.accept()[0].sendall(b"patient")
        except BlockingIOError:
            return
""",
        ),
    ),
    Wrong(
        EAGER_IS_GONE,
        changed(
            SIBLINGS,
            """\
    listening_socket.setblocking(False)
    while True:
        tick()
        try:
            listening_socket.accept()[0].sendall(b"eager")
        except BlockingIOError:
            time.sleep(0.02)
""",
            """\
    while True:
        tick()
        time.sleep(0.02)
""",
        ),
    ),
)

MEASURE_SIBLINGS = """
import mmap, os, signal, socket, time
from lab_support.instruments import proc
from lab_support.notebook.script import emit
import answer

ticks = mmap.mmap(-1, 8)
cells = memoryview(ticks).cast("Q")

def tick():
    cells[0] += 1

def start(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid

def until(holds, seconds):
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds()

def ended(pid):
    process = proc.read_process(pid)
    return process is None or process.ended

def sleeps(pid):
    return proc.read_process(pid).state == "S" if not ended(pid) else True

def ask():
    try:
        with socket.create_connection(sock.getsockname(), timeout=1.5) as client:
            return client.recv(100).decode()
    except OSError:
        return "nobody"

def ask_while_stopped(stopped):
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: ended(stopped) or proc.read_process(stopped).state == "T", 2)
    answers = [ask() for _ in range(3)]
    os.kill(stopped, signal.SIGCONT)
    return answers

sock = socket.create_server(("127.0.0.1", 0))
patient = start(lambda: answer.patient(sock))
until(lambda: sleeps(patient), 1)
eager = start(lambda: answer.eager(sock, tick))
ticking = until(lambda: cells[0] >= 3, 1.5)
seen = {"ticking": ticking, "of_patient": ask_while_stopped(eager) if ticking else []}
seen["patient_ended"] = until(lambda: ended(patient), 0.3)
seen["of_eager"] = [] if seen["patient_ended"] or not ticking else ask_while_stopped(patient)
before, looks = cells[0], []
for _ in range(60):
    time.sleep(0.005)
    looks.append(sleeps(patient))
seen |= {"asleep": sum(looks) / len(looks), "ticks": until(lambda: cells[0] >= before + 3, 1.5)}
emit(measured=seen | {"patient_ended": ended(patient)})
for pid in (patient, eager):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""


def judge_siblings(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_SIBLINGS)
    cause = _cause(seen)
    measured = (
        f"alone, the patient worker answered {_served(seen, 'patient')} of 3 clients and the eager one "
        f"{_served(seen, 'eager')} of 3; the patient one {_state(seen)}; the eager one "
        f"{'goes on ticking' if seen['ticking'] and seen['ticks'] else 'stands still'}"
    )
    if cause:
        return failed(measured, "each answers 3 of 3 alone, the one sleeps between clients, the other ticks", cause)
    return passed(measured)


def _served(seen: dict[str, Any], worker: str) -> int:
    return int(seen[f"of_{worker}"].count(worker))


def _state(seen: dict[str, Any]) -> str:
    if seen["patient_ended"]:
        return "has ended"
    return "sleeps between clients" if seen["asleep"] > 0.5 else "is busy without clients"


def _cause(seen: dict[str, Any]) -> str:
    findings = (
        (not seen["ticking"], EAGER_SLEEPS),
        (seen["patient_ended"] or _served(seen, "patient") < 3, FLAG),
        (_served(seen, "eager") < 3, EAGER_IS_GONE),
        (not seen["ticks"], EAGER_SLEEPS),
        (seen["asleep"] <= 0.5, SPINS),
    )
    return next((cause for found, cause in findings if found), "")


EXERCISES = (
    Exercise(
        name="03.2",
        kind="should",
        task="one worker does not survive what the other does; mend the program so that both serve clients",
        skeleton=SIBLINGS,
        reference=SIBLINGS_RIGHT,
        also_right=(SIBLINGS_WITH_A_TIMEOUT, SIBLINGS_WITH_ASYNCIO),
        wrong=SIBLINGS_WRONG,
        hints=(
            "Which worker dies, with which error, and who set what it complains about?",
            "A flag of the open file description is both workers' flag, and the eager one needs it. What can the "
            "patient one do before it calls accept()?",
            "`select.select([listening_socket], [], [])` sleeps until there is a client. The sibling may be faster, so "
            "a BlockingIOError from accept() only means: wait again.",
        ),
        judge=judge_siblings,
    ),
)

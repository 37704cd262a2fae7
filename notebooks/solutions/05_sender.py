"""05.2, should: a runtime whose thread is gone after a fork, and whose queue is not."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

SENDER = '''\
%%python_process --name sender --timeout 2 --expect any --into sender
import os, queue, threading

class Sender:
    """Writes lines to a descriptor, by a thread of its own: who sends does not wait for the reader."""
    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.start()

    def start(self):
        self.lines = queue.Queue()
        threading.Thread(target=self.work, args=(self.lines,), daemon=True).start()

    def work(self, lines):
        while True:
            os.write(self.descriptor, lines.get() + b"\\n")
            lines.task_done()
if __name__ == "__main__":
    sender = Sender(1)
    sender.lines.put(b"from the parent")
    if os.fork() == 0:
        sender.lines.put(b"from the child")
        sender.lines.join()                             # until all is written
        os._exit(0)
    os.wait()
'''
_INIT = "        self.descriptor = descriptor\n        self.start()\n"
_START = """\
    def start(self):
        self.lines = queue.Queue()
        threading.Thread(target=self.work, args=(self.lines,), daemon=True).start()
"""
_THREAD = "        threading.Thread(target=self.work, args=(self.lines,), daemon=True).start()\n"


def _hooked(hook: str) -> str:
    return changed(SENDER, _INIT, f"{_INIT}        os.register_at_fork({hook})\n")


SENDER_ANEW = _hooked("after_in_child=self.start")
SENDER_BY_PID = changed(
    SENDER,
    _START,
    """\
    def start(self):
        self.pid, self.own = os.getpid(), queue.Queue()
        threading.Thread(target=self.work, args=(self.own,), daemon=True).start()

    @property
    def lines(self):
        if self.pid != os.getpid():                     # the first use after a fork
            self.start()
        return self.own
""",
)
SENDER_ALIVE = changed(
    SENDER,
    _START,
    """\
    def start(self):
        self.own = queue.Queue()
        self.thread = threading.Thread(target=self.work, args=(self.own,), daemon=True)
        self.thread.start()

    @property
    def lines(self):
        self.thread.is_alive() or self.start()
        return self.own
""",
)

STUCK = "the child has the queue and no thread: nobody takes the line out, so the child waits for ever"
TWICE = (
    "the child wrote a line that the parent wrote as well: what waited in the queue was copied by the fork, so the "
    "child needs a queue of its own, too"
)
REFUSED = "the child got an error: here, both processes are to write"
LOST = "the child's line was never written"
FORK_WAITS = "the fork itself waited for the reader: a sender must not make its program wait"

SENDER_WRONG = (
    Wrong(
        STUCK,
        changed(
            _hooked("after_in_child=self.fresh"),
            _START,
            f"{_START}\n    def fresh(self):\n        self.lines = queue.Queue()\n",
        ),
    ),
    Wrong(STUCK, _hooked("after_in_parent=self.start")),
    Wrong(STUCK, changed(SENDER, "daemon=True", "daemon=False")),
    Wrong(
        TWICE,
        changed(_hooked("after_in_child=self.revive"), _START, f"{_START}\n    def revive(self):\n{_THREAD}"),
    ),
    Wrong(
        REFUSED,
        changed(
            _hooked("after_in_child=self.refuse"),
            _START,
            f"{_START}\n    def refuse(self):\n        self.lines = None\n",
        ),
    ),
    Wrong(
        LOST,
        changed(
            _hooked("after_in_child=self.never_wait"),
            _START,
            f"{_START}\n    def never_wait(self):\n        self.lines.join = lambda: None\n",
        ),
    ),
    Wrong(FORK_WAITS, _hooked("before=lambda: self.lines.join(), after_in_child=self.start")),
)

MEASURE_SENDER = """
import os, threading, time
from lab_support.notebook.script import emit, in_child
import answer

reads, writes = os.pipe()
os.set_blocking(writes, False)
filled = 0
try:
    while True:
        filled += os.write(writes, b"." * 4096)
except BlockingIOError:
    os.set_blocking(writes, True)                       # full: who writes now waits for the reader
sender, taken = answer.Sender(writes), threading.Event()
for line in (b"parent 1", b"parent 2"):
    sender.lines.put(line)
deadline = time.monotonic() + 1
while sender.lines.qsize() > 1 and time.monotonic() < deadline:
    time.sleep(0.01)                                    # until the thread is in its write, with one line to come

begin, came = threading.Event(), []

def drain():
    begin.wait(0.7)
    while piece := os.read(reads, 65536):
        came.append(piece)

def fork():
    began = time.monotonic()
    child = os.fork()
    if child:
        took.append(time.monotonic() - began)
        begin.set()
    return child

def write():
    sender.lines.put(b"child")
    sender.lines.join()

reader, took = threading.Thread(target=drain), []
reader.start()
said = in_child(write, 1.0, fork=fork)
sender.lines.put(b"parent 3")
deadline = time.monotonic() + 2
while b"parent 3\\n" not in b"".join(came) and time.monotonic() < deadline:
    time.sleep(0.01)
lines = b"".join(came)[filled:].decode().splitlines()
emit(measured={"lines": sorted(lines), "said": said, "waited": took[0] > 0.5})
os._exit(0)
"""


def judge_sender(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_SENDER, timeout=6.0)
    lines = seen["lines"]
    told = {"stuck": "the child waited without end", None: "the child ended"}.get(
        seen["said"], f"the child: {seen['said']}"
    )
    measured = f"{told}; written: {', '.join(lines) or 'nothing'}"
    expected = "the child ends, and the lines parent 1, parent 2, parent 3 and child are written once each"
    findings = (
        (len(set(lines)) < len(lines), TWICE),
        (bool(seen["waited"]), FORK_WAITS),
        (seen["said"] == "stuck", STUCK),
        (seen["said"] is not None, REFUSED),
        ("child" not in lines, LOST),
        (lines != ["child", "parent 1", "parent 2", "parent 3"], LOST),
    )
    if cause := next((cause for found, cause in findings if found), ""):
        return failed(measured, expected, cause)
    return passed(measured)


EXERCISES = (
    Exercise(
        name="05.2",
        kind="should",
        task="find out what the child waits for, and mend the class `Sender`; no line may be written twice",
        skeleton=SENDER,
        reference=SENDER_ANEW,
        also_right=(SENDER_BY_PID, SENDER_ALIVE),
        wrong=SENDER_WRONG,
        hints=(
            "The report below the cell names the line in which the child stands. Who was to take its line out?",
            "`os.register_at_fork(after_in_child=…)` calls you in each forked child. What must be new there?",
            "Thread *and* queue: lines that waited in the parent's queue are in the copy, too, and are the parent's. "
            "`os.register_at_fork(after_in_child=self.start)` makes both.",
        ),
        judge=judge_sender,
    ),
)

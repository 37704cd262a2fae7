"""The blanks of appendix 04a: right and wrong fillings, and their judges."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed

# ---- 04a.b1: a lock on a file ----------------------------------------------------------------------------------------

NOT_ALONE = (
    "several processes are past the lock at once: ask for LOCK_EX, on the file that this process opened, because flock "
    "locks an open file description"
)
DOES_NOT_WAIT = "LOCK_NB does not wait for the lock: it raises BlockingIOError, and the worker ends"
NEVER_RELEASED = (
    "the lock is not released when its holder dies: the kernel does that for a lock on a file (flock, lockf)"
)


def judge_holders(result: ProcessResult) -> Verdict:
    if "BlockingIOError" in result.output:
        return failed("a worker ended by BlockingIOError", "a worker that has not the lock waits for it", DOES_NOT_WAIT)
    by_row = result.by("row")
    hangs, killed = (by_row[f"a lock on a file, worker 1 {fate}"]["answered"] for fate in ("hangs", "is killed"))
    measured = f"of 20 clients, {hangs} were answered while the holder hung, and {killed} after its death"
    expected = "none while the holder hangs, because it alone may wait, and all after its death"
    if hangs:
        return failed(measured, expected, NOT_ALONE)
    return passed(measured) if killed == 20 else failed(measured, expected, NEVER_RELEASED)


# ---- 04a.b2: a word --------------------------------------------------------------------------------------------------

NOTHING_SAID = (
    "no byte of theirs reached the kernel, so nothing has changed: each client has to send something, by clients.say"
)


def judge_spoken(result: ProcessResult) -> Verdict:
    silent, speaking = (result.by("speaks")[spoke] for spoke in (False, True))
    measured = f"without an answer: {silent['no answer']} of 20, and with a word {speaking['no answer']}"
    if speaking["no answer"]:
        return failed(measured, "each client that says a word gets an answer", NOTHING_SAID)
    return passed(measured)


BLANKS = (
    Blank(
        name="04a.b1",
        cell="holders",
        task="write a lock on a file: the process waits for it when it enters, and lets go when it leaves",
        right=(
            ("fcntl.flock(self.file, fcntl.LOCK_EX)", "fcntl.flock(self.file, fcntl.LOCK_UN)"),
            ("fcntl.lockf(self.file, fcntl.LOCK_EX)", "fcntl.lockf(self.file, fcntl.LOCK_UN)"),
            ("fcntl.flock(self.file.fileno(), fcntl.LOCK_EX)", "self.file.close()"),
        ),
        wrong=(
            WrongFilling(NOT_ALONE, ("fcntl.flock(self.file, fcntl.LOCK_SH)", "fcntl.flock(self.file, fcntl.LOCK_UN)")),
            WrongFilling(NOT_ALONE, ("fcntl.flock(shared, fcntl.LOCK_EX)", "fcntl.flock(shared, fcntl.LOCK_UN)")),
            WrongFilling(NOT_ALONE, ("pass", "pass")),
            WrongFilling(
                DOES_NOT_WAIT,
                ("fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)", "fcntl.flock(self.file, fcntl.LOCK_UN)"),
            ),
        ),
        hints=(
            "Which file do you lock: the one that all have inherited, or the one that this process opened?",
            "`fcntl.flock(file, operation)`: LOCK_EX is for one process alone, LOCK_SH for several, LOCK_UN lets go.",
            "`fcntl.flock(self.file, fcntl.LOCK_EX)`, and the same with LOCK_UN",
        ),
        judge=judge_holders,
    ),
    Blank(
        name="04a.b2",
        cell="spoken",
        task="let each client say a word",
        right=(
            ('clients.say(b"hello")',),
            ('clients.say(b"GET / HTTP/1.1\\r\\n\\r\\n")',),
        ),
        wrong=(
            WrongFilling(NOTHING_SAID, ('clients.say(b"")',)),
            WrongFilling(NOTHING_SAID, ("workers.go_on()",)),
            WrongFilling(NOTHING_SAID, ("workers.connect(4)",)),
        ),
        hints=(
            "Who has to speak: the worker, or those who believe that they are connected?",
            "`clients` has a method that sends the same bytes from each of them.",
            '`clients.say(b"hello")`',
        ),
        judge=judge_spoken,
    ),
)

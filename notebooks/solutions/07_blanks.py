"""The blanks of notebook 07."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed, stopped_by

# ---- b2: message and sentinel ----------------------------------------------------------------------------------------

EXPECTED = {"slow": "ready", "killed": "dead", "raises": "dead", "stuck": "late"}
NO_ANSWER = (
    "it waits beyond its limit: no message comes from a child that is dead or stuck, and recv() on its own has no limit"
)
NOT_THE_MESSAGE = "the slow child said READY, and the wait did not end: the list lacks the pipe, which brings messages"
NOT_THE_END = "a child is dead, and the wait did not end: the list lacks what tells of the end of a process"
ANY_IS_READY = "it takes whatever came for READY: ask whether the pipe is among what came"
NOTHING_IS_READY = "it says ready for the stuck child, from which nothing came: not to have ended is not to be ready"
READY_IS_DEAD = "the slow child said READY, and it is taken for dead: ask whether the pipe is among what came"


def judge_both(waits: ProcessResult) -> Verdict:
    rows = [event.fields for event in waits.events if event.fields.get("parent") == "message_and_end"]
    said = {row["child"]: row["said"] for row in rows}
    for answer in said.values():
        if "Error" in answer:
            return stopped_by(answer)
    measured, expected = (", ".join(f"{child}: {each}" for child, each in told.items()) for told in (said, EXPECTED))
    dead = {said["killed"], said["raises"]}
    findings = (
        ("no answer" in said.values(), NO_ANSWER),
        (said["slow"] == "late", NOT_THE_MESSAGE),
        ("late" in dead, NOT_THE_END),
        (said["slow"] == "dead", READY_IS_DEAD),
        ("ready" in dead, ANY_IS_READY),
        (said["stuck"] == "ready", NOTHING_IS_READY),
    )
    cause = next((cause for found, cause in findings if found), "")
    return failed(measured, expected, cause) if cause else passed(measured)


BLANKS = (
    Blank(
        name="07.b2",
        cell="waits",
        task="wait for a message and for the end of the child at once, and tell which of the two came",
        right=(
            ("[child.pipe, child.sentinel]", "child.pipe in came"),
            ("(child.sentinel, child.pipe)", "child.pipe.poll()"),
            ("{child.pipe, child.sentinel}", "came and child.sentinel not in came"),
        ),
        wrong=(
            WrongFilling(NOT_THE_END, ("[child.pipe]", "child.pipe in came")),
            WrongFilling(NOT_THE_MESSAGE, ("[child.sentinel]", "child.pipe in came")),
            WrongFilling(ANY_IS_READY, ("[child.pipe, child.sentinel]", "came")),
            WrongFilling(NOTHING_IS_READY, ("[child.pipe, child.sentinel]", "child.sentinel not in came")),
            WrongFilling(READY_IS_DEAD, ("[child.pipe, child.sentinel]", "not came")),
            WrongFilling(NO_ANSWER, ("[child.pipe, child.sentinel]", 'child.pipe.recv() == "READY"')),
        ),
        hints=(
            "Two things can end the wait. What does a child have for each: `child.…`, and `child.…`?",
            "`connection.wait` takes a list, and returns those of it that are readable; none, if the limit has passed.",
            "`[child.pipe, child.sentinel]`, and `child.pipe in came`.",
        ),
        judge=judge_both,
    ),
)

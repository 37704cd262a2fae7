"""What breaks the claims of notebook 09: for each, its experiment with the effect taken away."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left
from lab_support.notebook.moves.verdicts import broken_claim, broken_rows

# ---- 09.1: a launcher's end ------------------------------------------------------------------------------------------

LAUNCHERS = cell("09", "launchers")
_OTHER_ENDS = changed(
    LAUNCHERS,
    "    for end in ENDS:\n        emit(end=end, **after(launcher, end))",
    "    for end, other in zip(ENDS, reversed(ENDS)):\n        emit(end=end, **after(launcher, other))",
)


def _run_on(result: ProcessResult) -> bool:
    found = result.by("end")
    return all(found[end]["running"] == 2 and not found[end]["free"] for end in ("SIGTERM", "SIGKILL"))


# ---- 09.2: two precautions -------------------------------------------------------------------------------------------

PRECAUTIONS = blank("09.b1").reference
_NO_PRECAUTION = changed(
    PRECAUTIONS,
    "        emit(fate(precaution, event))",
    "        def nothing(parent, pipe):\n            pass\n"
    "        emit(fate(nothing, event) | {'precaution': precaution.__name__})",
)
_ONE_OF_BOTH = changed(
    PRECAUTIONS, "    the_signal(parent, pipe)\n    the_pipe(parent, pipe)\n", "    the_pipe(parent, pipe)\n"
)
_NO_SIBLING = changed(
    PRECAUTIONS,
    "        emit(fate(precaution, event))",
    "        emit(fate(precaution, event.replace('has forked a sibling, and ', '')) | {'event': event})",
)


def _only_siblings_write(result: ProcessResult) -> bool:
    by_pipe = [each.fields for each in result.events if each.fields["precaution"] == "the_pipe"]
    writers = {each["event"]: each["writers"] for each in by_pipe if "killed" in each["event"]}
    return writers == {event: ["a sibling"] * ("sibling" in event) for event in writers}


# ---- 09.3 and 09.4: a real server ------------------------------------------------------------------------------------

DEATHS, STOPPED = cell("09", "killed"), blank("09.b2").reference
_ANOTHER_DIES = changed(
    DEATHS,
    "    found = fate(role, state)\n",
    '    another = {"launcher": "engine-0", "coordinator": "api-0", "api-0": "launcher", "engine-0": "launcher"}\n'
    '    found = fate(another[role], state) | {"role": role}\n',
    ', ("api-0", "idle"), ("engine-0", "starting")',
    "",
)
_NO_DEADLINE = changed(STOPPED, "liveness_timeout=deadline", "liveness_timeout=0")

# ---- 09.5 and 09.6: a wait for all -----------------------------------------------------------------------------------

VLLMS, MINE = cell("09", "vllms"), blank("09.b3").reference
_EVERY_END_FAILS = changed(VLLMS, "if proc.exitcode != 0:", "if proc.name not in asked:")
_BY_EXIT_CODE = changed(MINE, "child.name in asked", "child.exitcode == 0")
_ONE_SUCCESSOR = changed(
    MINE,
    "            successor = start(child.name)\n",
    "            if child not in children:\n"
    '                raise RuntimeError("it has ended again")\n'
    "            successor = start(child.name)\n",
)


BROKEN_CLAIMS = (
    *broken_rows("09.1", LAUNCHERS, _OTHER_ENDS),
    BrokenClaim(
        "After SIGTERM and after SIGKILL both API servers run on, and the port is in use",
        LAUNCHERS,
        _OTHER_ENDS,
        _run_on,
    ),
    *broken_rows("09.2", PRECAUTIONS, _NO_PRECAUTION),
    broken_claim(
        "09.2",
        "Taken together, they work in every event but one: the end of the thread that made the worker",
        PRECAUTIONS,
        _ONE_OF_BOTH,
    ),
    BrokenClaim(
        "After the parent's death, nobody has the pipe's write end but a forked sibling",
        PRECAUTIONS,
        _NO_SIBLING,
        _only_siblings_write,
    ),
    *broken_rows("09.3", DEATHS, _ANOTHER_DIES),
    broken_claim(
        "09.3",
        "Of these deaths, only that of an API server does not end the server, and none leaves a process",
        DEATHS,
        _ANOTHER_DIES,
    ),
    broken_claim(
        "09.4",
        "Without a deadline nobody notices within 6 s, and with one the launcher does",
        STOPPED,
        _NO_DEADLINE,
    ),
    broken_claim(
        "09.5",
        "An end with exit code 0 that nobody asked for is no failure there: it waits for the others",
        VLLMS,
        _EVERY_END_FAILS,
    ),
    broken_claim(
        "09.6",
        "Whatever its exit code, an API server that ends unasked has a successor, which has one, too",
        MINE,
        _BY_EXIT_CODE,
    ),
    broken_claim(
        "09.6",
        "A rule without a memory starts a server that breaks at once again and again, without a pause",
        MINE,
        _ONE_SUCCESSOR,
    ),
    nothing_left("Nothing that this notebook started is running", PRECAUTIONS),
)

"""The claims of notebook 05, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left, on_recording
from lab_support.notebook.recordings.cuda_findings import ALLOWED, DRIVER_CASES, ERROR, REFUSED, TOUCHES, WORKS

GUARD, THREE_ENDS = cell("05", "guard"), cell("05", "three_ends")
MULTIPLY, ORPHAN = blank("05.b3").reference, blank("05.b4").reference
FLAGGED, GOES_ON = "refused: the flag is set", "may go on"

# ---- the guard

_TOLD_TOO_EARLY = changed(GUARD, "guard = Guard()\n", "guard = Guard()\nguard.register()\n")
_NEVER_TOLD = changed(GUARD, "guard.register()   ", "pass               ")
_IN_A_CHILD = changed(GUARD, 'parent itself", flag=guard.is_set())', 'parent itself", flag=in_child(guard.is_set))')
_FORKED_INSTEAD = changed(GUARD, 'flag=done.stdout.strip() != "False")', "flag=in_child(guard.is_set))")

# ---- below it

_USED_BEFORE = changed(
    THREE_ENDS, "said = [in_child(", "driver.store(1)\nsaid = [in_child(", "store(7)))]", "store(7)), 1)]"
)
_STARTED_ANEW = changed(
    THREE_ENDS,
    "    return driver.load(handle)\n",
    "    return driver.load(driver.store(7))\n",
    "the parent's first use\n",
    "the parent's first use\nos.register_at_fork(after_in_child=driver.forget)\n",
)
_COPIED = changed(
    THREE_ENDS,
    "import faulthandler, os\n",
    "import faulthandler, mmap, os\nmmap.MADV_DONTFORK = mmap.MADV_NORMAL  # nothing is kept back\n",
)
_NOT_HOOKED = changed(THREE_ENDS, "os.register_at_fork(after_in_child=driver.refuse)\n", "")
_WRITTEN_OVER = changed(THREE_ENDS, "parent=load())", "parent=driver.load(driver.store(8)))")

# ---- two real runtimes

_ONE_THREAD = changed(MULTIPLY, "import os, torch\n", "import os, torch\ntorch.set_num_threads(1)\n")
_COUNTED_IN_PARENT = changed(
    MULTIPLY,
    "gets=in_child(work, 3), **in_child(threads))",
    "gets=in_child(work, 3), **threads())",
)

# ---- whose memory it is

_SIGN = '    """Runs in a forked child of the owner. memory: its descriptor."""\n'
_BOTH_LET_GO = changed(ORPHAN, _SIGN, f"{_SIGN}    os.close(memory)\n")


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events]


def _flag(result: ProcessResult, row: str) -> Any:
    return next((fields["flag"] for fields in _told(result) if fields.get("row") == row), None)


def _said(result: ProcessResult, place: int) -> str:
    return str(_told(result)[1]["said"][place])


def _last(result: ProcessResult) -> dict[str, Any]:
    return _told(result)[-1]


def _first_child(result: ProcessResult) -> dict[str, Any]:
    return _told(result)[1]


def _kept(result: ProcessResult, child: int) -> float:
    """The share of the owner's memory that stays while its child lives."""
    told = _told(result)[child]
    owned, killed = (step["seen"][-1][1] - told["before"] for step in told["steps"][:2])
    return float(killed / max(owned, 1))


def _guard_row(row: str, option: str, broken: str) -> BrokenClaim:
    return BrokenClaim(
        f"After the parent's first call, {row}: {option}",
        GUARD,
        broken,
        lambda result: _flag(result, row) is (option == FLAGGED),
    )


GUARD_ROWS = (
    _guard_row("the parent itself", GOES_ON, _IN_A_CHILD),
    _guard_row("a child that was forked before", GOES_ON, _TOLD_TOO_EARLY),
    _guard_row("a child that is forked after", FLAGGED, _NEVER_TOLD),
    _guard_row("that child's own child", FLAGGED, _NEVER_TOLD),
    _guard_row("a new program that the parent starts", GOES_ON, _FORKED_INSTEAD),
)


def _pretend_row(place: int, words: str, broken: str, begins: str) -> BrokenClaim:
    return BrokenClaim(
        f"With the pretend driver, {words}", THREE_ENDS, broken, lambda result: _said(result, place).startswith(begins)
    )


PRETEND_ROWS = (
    _pretend_row(0, "store and load, in a child forked before the parent's first use: it works", _USED_BEFORE, "7"),
    _pretend_row(1, "load, in a child forked after: it never comes back", _STARTED_ANEW, "stuck"),
    _pretend_row(2, "peek, in a child forked after: the child crashes", _COPIED, "ended by"),
    _pretend_row(3, "load, in a child where a hook has called refuse: an error", _NOT_HOOKED, "RuntimeError"),
    _pretend_row(4, "peek, in a child where a hook has called refuse: the child crashes", _COPIED, "ended by"),
)

# ---- on the recordings of a GPU: the words, the experiment, what is found in it, and an edit that breaks it

_FIRST = '"asks": "first operation", "outcome": '
_GUARD_SAID = '"error": "RuntimeError", "text": "Cannot re-initialize CUDA in forked", "was": '


def _touch_row(row: str, option: str) -> BrokenClaim:
    touch, way = TOUCHES[row]
    begins = f'"case": "{touch}, {way}", "touch": "{touch}", {_FIRST}'
    edits = (f'{begins}"raised"', f'{begins}"returned"')
    if option == ALLOWED:
        edits = (f'{begins}"returned"', f'{begins}"raised", {_GUARD_SAID}"returned"')
    words = f"A worker whose launcher did only this, {row}: {option}"
    return on_recording(words, "what_trips_the_guard", f"touch_ends({row!r}, {option!r})", *edits)


_BARRING = ("torch.cuda.is_available()", "a tensor on the GPU")
TOUCH_ROWS = tuple(_touch_row(row, REFUSED if row in _BARRING else ALLOWED) for row in TOUCHES)


def _driver_row(row: str, option: str) -> BrokenClaim:
    case, call = DRIVER_CASES[row]
    begins = (
        f'"what": "forked child", "case": "{case}", "call": "{call}", "outcome": "returned", "ok": true, "value": {{'
    )
    edits = (f'{begins}"call": "{call}", "code": ', f'{begins}"code": {int(option == WORKS)}, "was": ')
    words = f"In a forked child, {row}: {option}"
    return on_recording(words, "driver_after_fork", f"driver_ends({row!r}, {option!r})", *edits)


_WORKING = ("cuInit, if the parent has called nothing", "cudaGetDeviceCount, after the parent's own")
DRIVER_ROWS = tuple(_driver_row(row, WORKS if row in _WORKING else ERROR) for row in DRIVER_CASES)

ON_RECORDINGS = (
    *TOUCH_ROWS,
    *DRIVER_ROWS,
    on_recording(
        "In a forked child, a tensor by PyTorch, with the guard taken away: an error",
        "guard_bypassed",
        "bypassed_is_an_error",
        '"what": "forked child", "case": "first operation", "outcome": "raised"',
        '"what": "forked child", "case": "first operation", "outcome": "hung"',
    ),
    on_recording(
        "On the GPU, the memory stays while an idle child lives, and goes with it",
        "idle_forked_child",
        "kept_until_the_child_ends",
        '"child_lives": true, "watched": [',
        '"child_lives": true, "watched": [{"ms": 9.0, "used": 0}, ',
    ),
    on_recording(
        "NVML names the owner while it lives, and not the child",
        "idle_forked_child",
        "child_is_not_counted",
        '"threads": 1, "gpu": {"source": "NVML", "used": 1832779776, "processes": {',
        '"threads": 1, "gpu": {"source": "NVML", "used": 1832779776, "processes": {"99999": 1, ',
    ),
    on_recording(
        "Children by spawn and by forkserver work",
        "fork_after_cuda",
        "new_programs_work",
        '"method": "spawn", "repeat": 0, "outcome": "returned"',
        '"method": "spawn", "repeat": 0, "outcome": "hung"',
    ),
    on_recording(
        "A started child waits for PyTorch's start, not for CUDA's",
        "fork_after_cuda",
        "starting_costs",
        '"ms_to_entry": ',
        '"ms_to_entry": 1, "was": ',
    ),
    on_recording(
        "A child that was forked before works",
        "fork_before_cuda",
        "forked_first_works",
        '"what": "forked child", "repeat": 0, "outcome": "returned"',
        '"what": "forked child", "repeat": 0, "outcome": "hung"',
    ),
)

BROKEN_CLAIMS = (
    *GUARD_ROWS,
    BrokenClaim(
        "PyTorch refuses, by the text that you know",
        GUARD,
        _NEVER_TOLD,
        lambda result: "Cannot re-initialize CUDA in forked" in str(_last(result).get("said")),
    ),
    *PRETEND_ROWS,
    BrokenClaim(
        "The kernel keeps one part of the parent's memory from the child, by the flag dc",
        THREE_ENDS,
        _COPIED,
        lambda result: _told(result)[0]["parent"] == _told(result)[0]["child"] + 1,
    ),
    BrokenClaim(
        "The parent's driver has come to no harm",
        THREE_ENDS,
        _WRITTEN_OVER,
        lambda result: _last(result)["parent"] == 7,
    ),
    BrokenClaim(
        "A child forked after its parent multiplied never comes back",
        MULTIPLY,
        _ONE_THREAD,
        lambda result: _first_child(result)["gets"] == "stuck",
    ),
    BrokenClaim(
        "It counts on two threads, and the kernel counts one",
        MULTIPLY,
        _COUNTED_IN_PARENT,
        lambda result: (_first_child(result)["PyTorch says"], _first_child(result)["the kernel counts"]) == (2, 1),
    ),
    BrokenClaim(
        "Here, the memory goes with the last process that has its descriptor",
        ORPHAN,
        _BOTH_LET_GO,
        lambda result: _kept(result, 0) > 0.5 > _kept(result, 1),
    ),
    nothing_left("Nothing that this notebook started is running", THREE_ENDS),
    *ON_RECORDINGS,
)

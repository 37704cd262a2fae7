"""The claims of notebook 05, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left, on_recording

GUARD, REFUSED, THREE_ENDS, MULTIPLY = (cell("05", name) for name in ("guard", "refused", "three_ends", "multiply"))
ORPHAN = cell("05", "orphan")

# ---- the guard

_TOLD_TOO_EARLY = changed(GUARD, "guard = Guard()\n", "guard = Guard()\nguard.register()\n")
_NEVER_TOLD = changed(GUARD, "    guard.register()  ", "    pass  ")
_FORKED_INSTEAD = changed(GUARD, 'flag=said.strip() != "False")', "flag=in_child(guard.is_set))")
_NOT_ASKED = changed(REFUSED, "    guard.register()\n", "")

# ---- below it

_USED_BEFORE = changed(
    THREE_ENDS, "before = in_child(", "driver.store(1)\nbefore = in_child(", "store(7)))\n", "store(7)), 1)\n"
)
_STARTED_ANEW = changed(
    THREE_ENDS, "import os\n", "import os\n", "handle = driver.store(7)\n",
    "handle = driver.store(7)\nos.register_at_fork(after_in_child=driver.forget)\n",
    "load, peek = (lambda: driver.load(handle)),", "load, peek = (lambda: driver.load(driver.store(7))),",
)  # fmt: skip
_COPIED = changed(
    THREE_ENDS,
    "import os\n",
    "import mmap, os\nmmap.MADV_DONTFORK = mmap.MADV_NORMAL  # nothing is kept back\n",
)
_NOT_HOOKED = changed(THREE_ENDS, "os.register_at_fork(after_in_child=driver.refuse)\n", "")
_WRITTEN_OVER = changed(THREE_ENDS, "parent=load())", "parent=driver.load(driver.store(8)))")

# ---- the same in PyTorch

_PARENT_USED_THEM = changed(
    MULTIPLY,
    'emit(who="child, forked before", gets=in_child(work, 20)',
    'work()\nemit(who="child, forked before", gets=in_child(work, 2)',
)
_ONE_THREAD = changed(MULTIPLY, "import os, torch\n", "import os, torch\ntorch.set_num_threads(1)\n")
_COUNTED_IN_PARENT = changed(
    MULTIPLY,
    "gets=in_child(work, 2), **in_child(threads))",
    "gets=in_child(work, 2), **threads())",
)


# ---- whose memory it is

_LET_GO = changed(ORPHAN, "        os.read(lives, 1)  ", "        os.close(memory)\n        os.read(lives, 1)  ")
_LIVES_ON = changed(ORPHAN, "os.close(keeps)\nselect.select([ended], [], [], 5)\n", "")
_HALF = 128 << 20


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events]


def _flag(result: ProcessResult, row: str) -> Any:
    return next((fields["flag"] for fields in _told(result) if fields.get("row") == row), None)


def _said(result: ProcessResult, place: int) -> str:
    return str(_told(result)[1]["said"][place])


def _kept(result: ProcessResult) -> dict[str, int]:
    return _told(result)[0]


def _last(result: ProcessResult) -> dict[str, Any]:
    return _told(result)[-1]


def _stays(result: ProcessResult) -> bool:
    told = result.told
    return min(used for _, used in told["orphaned"]) > told["before"] + _HALF


def _is_free(result: ProcessResult) -> bool:
    told = result.told
    return bool(told["free"][-1][1] < told["before"] + _HALF)


def _holds(result: ProcessResult) -> bool:
    return any("memfd:held" in link for link in result.told["links"])


# ---- on the recordings of a GPU: the words, the experiment, what is found in it, and an edit that breaks it

_FIRST = '"asks": "first operation", "outcome": '
ON_RECORDINGS = (
    on_recording(
        "Engine cores alone hold the GPU",
        "server_processes",
        "engine_cores_alone_hold_it",
        '"role": "engine-0"',
        '"role": "api-9"',
    ),
    on_recording(
        "To ask torch.cuda.is_available() bars the child",
        "what_trips_the_guard",
        "a_question_bars",
        f'"case": "is_available, plain", "touch": "is_available", {_FIRST}"raised"',
        f'"case": "is_available, plain", "touch": "is_available", {_FIRST}"returned"',
    ),
    on_recording(
        "Questions by way of NVML do not",
        "what_trips_the_guard",
        "nvml_does_not_bar",
        f'"case": "device_count, plain", "touch": "device_count", {_FIRST}"returned"',
        f'"case": "device_count, plain", "touch": "device_count", {_FIRST}"raised"',
    ),
    on_recording(
        "After the parent's cuInit, every call of the child gets one and the same error",
        "driver_after_fork",
        "driver_refuses",
        '"call": "cuDeviceGetCount", "code": 3',
        '"call": "cuDeviceGetCount", "code": 0',
    ),
    on_recording(
        "If the parent has called nothing, the child can start it",
        "driver_after_fork",
        "untouched_starts",
        '"call": "cuInit", "code": 0',
        '"call": "cuInit", "code": 3',
    ),
    on_recording(
        "The runtime counts GPUs, and allocates nothing",
        "driver_after_fork",
        "counts_but_refuses",
        '"call": "cudaGetDeviceCount", "code": 0',
        '"call": "cudaGetDeviceCount", "code": 3',
    ),
    on_recording(
        "Without the guard comes an error as well, no hang, no crash",
        "guard_bypassed",
        "only_errors",
        '"case": "synchronise", "outcome": "raised"',
        '"case": "synchronise", "outcome": "hung"',
    ),
    on_recording(
        "A parent comes to no harm by it",
        "guard_bypassed",
        "parents_unharmed",
        '"tensor": {"ok": true',
        '"tensor": {"ok": false',
    ),
    on_recording(
        "Who reads the parent's tensor passes the guard",
        "guard_bypassed",
        "guard_is_not_asked",
        '"error": "torch.AcceleratorError", "text": "',
        '"error": "RuntimeError", "text": "Cannot re-initialize CUDA in forked subprocess. ',
    ),
    on_recording(
        "The memory stays taken while an idle child lives",
        "idle_forked_child",
        "outlives_its_owner",
        '"child_lives": true, "watched": [',
        '"child_lives": true, "watched": [{"ms": 9.0, "used": 0}, ',
    ),
    on_recording(
        "It is free when the child is gone as well",
        "idle_forked_child",
        "goes_with_the_child",
        '"what": "child gone as well", "watched": [',
        '"what": "child gone as well", "watched": [{"ms": 0.0, "used": 999999999999}], "was": [',
    ),
    on_recording(
        "The child has all its parent's descriptors",
        "idle_forked_child",
        "child_holds_the_device",
        '"what": "idle child", "case": "leaves at once", "device_files": [',
        '"what": "idle child", "case": "leaves at once", "device_files": [], "were": [',
    ),
    on_recording(
        "The child lacks a mapping of the device",
        "idle_forked_child",
        "child_lacks_a_mapping",
        '"device_mappings": ',
        '"device_mappings": 30, "were": ',
    ),
    on_recording(
        "NVML does not count the child",
        "idle_forked_child",
        "child_is_not_counted",
        '"threads": 1, "gpu": {',
        '"threads": 1, "gpu": {"processes": {"1": 1}}, "was": {',
    ),
    on_recording(
        "Killed without a child, each gives its memory back",
        "memory_after_kill",
        "all_came_free",
        '"left": 0, "trace"',
        '"left": 1, "trace"',
    ),
    on_recording(
        "After the parent's use, a forked child is refused",
        "fork_after_cuda",
        "forked_is_refused",
        f'{_FIRST}"raised"',
        f'{_FIRST}"returned"',
    ),
    on_recording(
        "Children by spawn and by forkserver work",
        "fork_after_cuda",
        "new_programs_work",
        '"method": "spawn", "repeat": 0, "outcome": "returned"',
        '"method": "spawn", "repeat": 0, "outcome": "hung"',
    ),
    on_recording(
        "What they wait for is PyTorch's start, not CUDA's",
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
    on_recording(
        "One forked after the parent's use does not",
        "fork_before_cuda",
        "forked_later_is_refused",
        '"what": "forked child after that", "outcome": "raised"',
        '"what": "forked child after that", "outcome": "returned"',
    ),
)

BROKEN_CLAIMS = (
    BrokenClaim(
        "The parent may go on, and so may a child that was forked before",
        GUARD,
        _TOLD_TOO_EARLY,
        lambda result: not _flag(result, "the parent itself") and not _flag(result, "a child that was forked before"),
    ),
    BrokenClaim(
        "A child that is forked after is refused",
        GUARD,
        _NEVER_TOLD,
        lambda result: bool(_flag(result, "a child that is forked after")),
    ),
    BrokenClaim(
        "So is that child's own child",
        GUARD,
        _NEVER_TOLD,
        lambda result: bool(_flag(result, "that child's own child")),
    ),
    BrokenClaim(
        "A new program begins without the flag",
        GUARD,
        _FORKED_INSTEAD,
        lambda result: _flag(result, "a new program that the parent starts") is False,
    ),
    BrokenClaim(
        "PyTorch refuses, by the text that you know",
        REFUSED,
        _NOT_ASKED,
        lambda result: "Cannot re-initialize CUDA in forked" in str(_last(result).get("said")),
    ),
    BrokenClaim(
        "Forked before the parent's first use, the child can use the driver",
        THREE_ENDS,
        _USED_BEFORE,
        lambda result: _said(result, 0) == "7",
    ),
    BrokenClaim(
        "Forked after, a child that needs the driver's thread waits for ever",
        THREE_ENDS,
        _STARTED_ANEW,
        lambda result: _said(result, 1) == "stuck",
    ),
    BrokenClaim(
        "A child that reads the device's memory crashes",
        THREE_ENDS,
        _COPIED,
        lambda result: _said(result, 2).startswith("ended by"),
    ),
    BrokenClaim(
        "With a hook that refuses, the same child gets an error",
        THREE_ENDS,
        _NOT_HOOKED,
        lambda result: "Error" in _said(result, 3),
    ),
    BrokenClaim(
        "The parent's driver has come to no harm",
        THREE_ENDS,
        _WRITTEN_OVER,
        lambda result: _last(result)["parent"] == 7,
    ),
    BrokenClaim(
        "The parent has a part that its child lacks",
        THREE_ENDS,
        _COPIED,
        lambda result: _kept(result)["parent"] == _kept(result)["child"] + 1,
    ),
    BrokenClaim(
        "A child forked before multiplies", MULTIPLY, _PARENT_USED_THEM, lambda result: _told(result)[0]["gets"] == 700
    ),
    BrokenClaim(
        "A child forked after never comes back", MULTIPLY, _ONE_THREAD, lambda result: _last(result)["gets"] == "stuck"
    ),
    BrokenClaim(
        "It believes that it has two threads", MULTIPLY, _ONE_THREAD, lambda result: _last(result)["PyTorch says"] == 2
    ),
    BrokenClaim(
        "The kernel counts one",
        MULTIPLY,
        _COUNTED_IN_PARENT,
        lambda result: _last(result)["the kernel counts"] == 1,
    ),
    BrokenClaim("The killed owner's 256 MiB stay in use while its child lives", ORPHAN, _LET_GO, _stays),
    BrokenClaim("They are free when the child is gone", ORPHAN, _LIVES_ON, _is_free),
    BrokenClaim("The child has a descriptor of them, which it never used", ORPHAN, _LET_GO, _holds),
    nothing_left("Nothing that this notebook started is running", THREE_ENDS),
    *ON_RECORDINGS,
)

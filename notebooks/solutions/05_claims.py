"""The claims of notebook 05, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cell_result import ProcessResult
from lab_support.notebook.exercises import BrokenClaim, cell, changed, nothing_left

GUARD, REFUSED, THREE_ENDS, MULTIPLY = (cell("05", name) for name in ("guard", "refused", "three_ends", "multiply"))

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
    nothing_left("Nothing that this notebook started is running", THREE_ENDS),
)

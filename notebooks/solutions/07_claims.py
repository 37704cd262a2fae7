"""What breaks the claims of notebook 07: for each, its experiment with the effect taken away."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed
from lab_support.notebook.moves.verdicts import broken_claim, judge_of

# ---- 07.3: three parents, three children -----------------------------------------------------------------------------

_PARENTS = cell("07", "parents")
# The sleeper sleeps longer and looks, the poller looks and never asks, the waiter waits for neither.
_OTHERWISE = changed(
    _PARENTS,
    '    time.sleep(1)\n    return "ready"\n',
    '    time.sleep(2)\n    return "ready" if child.is_alive() else "dead"\n',
    '        if child.answers_health():\n            return "ready"\n',
    '        if not child.is_alive():\n            return "dead"\n',
    'if __name__ == "__main__":\n',
    'def waiter(child):\n    time.sleep(LIMIT)\n    return "late"\n\nif __name__ == "__main__":\n',
)


def _row(row: str, option: str) -> BrokenClaim:
    def holds(result: ProcessResult) -> bool:
        return judge_of("07.3").find(result).rows[row] == option

    return BrokenClaim(f"{row}: the parent {option}", _PARENTS, _OTHERWISE, holds)


# ---- 07.4: the message alone -----------------------------------------------------------------------------------------

_WAITS = blank("07.b2").reference
_CLOSED = changed(_WAITS, "    try:\n", "    child.theirs.close()\n    try:\n")
_NO_SENTINEL = changed(_WAITS, "[child.pipe, child.sentinel]", "[child.pipe]")

BROKEN_CLAIMS = (
    *(_row(row, option) for row, option in judge_of("07.3").expected.items()),
    broken_claim(
        "07.4",
        "With the message alone, the parent waits to its limit for both dead children, and holds their ends",
        _WAITS,
        _CLOSED,
    ),
    broken_claim("07.4", "With the sentinel as well, it is late for the stuck child alone", _WAITS, _NO_SENTINEL),
)

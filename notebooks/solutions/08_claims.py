"""What breaks the claims of notebook 08: for each, its experiment with the effect taken away."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import cell, changed
from lab_support.notebook.moves.verdicts import broken_claim

COUNTS, WORK, COSTS = cell("08", "counts"), blank("08.b1").reference, blank("08.b2").reference
PACES = cell("08", "paces")
_FOUR_TIMES_THE_ROWS = changed(COUNTS, "max_num_seqs=16", "max_num_seqs=4 * count")
_NOTHING_COMPUTED = changed(
    COUNTS,
    "for count in (1, 2, 4, 8):\n",
    'open("table.txt", "w").write("1 1 5\\n16 1 5\\n")\nfor count in (1, 2, 4, 8):\n',
    "max_num_seqs=16",
    'max_num_seqs=16, device="paced:table.txt"',
)
_ONE_TWICE = changed(WORK, "(1, 4)", "(1, 1)")
_COMPUTED = changed(COSTS, 'device="paced:easy.txt", ', "")

BOTH = f"{COSTS}\n{PACES}"
_SLOWER = changed(PACES, "{milliseconds}\\n{ROWS}", "{3 * milliseconds}\\n{ROWS}")
_SLOWER = changed(_SLOWER, "ROWS} 1 {milliseconds}", "ROWS} 1 {3 * milliseconds}")
_ROWS_FOR_EACH = changed(PACES, "max_num_seqs=ROWS", "max_num_seqs=ROWS * count // 2")
_FEW_CLIENTS = changed(PACES, '"clients": 3 * ROWS', '"clients": 4')


def _twice(result: ProcessResult) -> list[ProcessResult]:
    """The verdict takes two results, and looks in each for its own rows."""
    return [result, result]


BROKEN_CLAIMS = (
    broken_claim(
        "08.1", "On the CPU engine, two or four API servers give no third more than one", COUNTS, _FOUR_TIMES_THE_ROWS
    ),
    broken_claim(
        "08.1", "With one API server, the engine core is the busiest process, by far", COUNTS, _NOTHING_COMPUTED
    ),
    broken_claim("08.2", "With four API servers, a token costs them more CPU time than with one", WORK, _ONE_TWICE),
    broken_claim("08.3", "Over half of a token's CPU time is the API server's", COSTS, _COMPUTED),
    broken_claim(
        "08.4",
        "What was measured is within a quarter of what was predicted",
        BOTH,
        f"{COSTS}\n{_SLOWER}",
        given=_twice,
    ),
    broken_claim(
        "08.4",
        "At the easy pace, a second API server changes nothing",
        BOTH,
        f"{COSTS}\n{_ROWS_FOR_EACH}",
        given=_twice,
    ),
    broken_claim(
        "08.4",
        "With more API servers than cores, the cores are predicted as the limit, and all of them work",
        BOTH,
        f"{COSTS}\n{_FEW_CLIENTS}",
        given=_twice,
    ),
)

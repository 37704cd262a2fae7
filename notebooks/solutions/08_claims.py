"""What breaks the claims of notebook 08: for each, its experiment with the effect taken away."""

from pathlib import Path

from lab_support.notebook.moves.answer_files import load
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed
from lab_support.notebook.moves.verdicts import broken_claim

verdicts = load(Path(__file__).with_name("08_verdicts.py"))

BIRTHS, REPAID = cell("08", "births"), blank("08.b3").reference
_BOTH_SPAWNED = changed(BIRTHS, 'server_by("fork", **flags)', 'server_by("spawn", **flags)')
_LONG_ANSWERS = changed(BIRTHS, "clients=64, ", 'clients=64, tokens={"spawn": 16, "fork": 64}[method], ')
_FEWER_ROWS = changed(BIRTHS, 'server_by("fork", **flags)', 'server_by("fork", **flags, max_num_seqs=8)')
_A_START_EACH_SECOND = changed(
    REPAID, 'start = spent_so_far(server)["cpu"]', 'start = 3600 * spent_so_far(server)["cpu"]'
)


def _row(row: str, option: str, broken: str) -> BrokenClaim:
    """One row of the table of 08.5."""
    return BrokenClaim(
        f"A forked API server, compared with a spawned one: {row}: {option}",
        BIRTHS,
        broken,
        lambda result: verdicts.fork_against_spawn(result).rows[row] == option,
    )


BROKEN_CLAIMS = (
    _row(verdicts.BORN_CPU, verdicts.LESS, _BOTH_SPAWNED),
    _row(verdicts.BORN_OWN, verdicts.LESS, _BOTH_SPAWNED),
    _row(verdicts.PER_TOKEN, verdicts.SAME, _LONG_ANSWERS),
    _row(verdicts.PER_SECOND, verdicts.SAME, _FEWER_ROWS),
    broken_claim(
        "08.5",
        "Under load, the forked one takes over twice as many page faults: it copies what it writes to",
        BIRTHS,
        _BOTH_SPAWNED,
    ),
    broken_claim(
        "08.6",
        "Over an hour of this load, the start adds less than a hundredth to what a token costs",
        REPAID,
        _A_START_EACH_SECOND,
    ),
)

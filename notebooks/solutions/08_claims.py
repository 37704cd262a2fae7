"""What breaks the claims of notebook 08: for each, its experiment with the effect taken away."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.answer_files import load
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left, on_recording
from lab_support.notebook.moves.verdicts import broken_claim

COUNTS, WORK, COSTS = cell("08", "counts"), blank("08.b1").reference, blank("08.b2").reference
PACES = cell("08", "paces")

# ---- 08.1 ------------------------------------------------------------------------------------------------------------

_MORE_ROWS = changed(
    COUNTS,
    '"max_num_seqs": 16} for count in (1, 2, 4)',
    '"max_num_seqs": 2 * count} for count in (1, 2, 4)',
)
_NOTHING_COMPUTED = changed(
    COUNTS,
    '"max_num_seqs": 16} for count in (1, 2, 4)',
    '"max_num_seqs": 16, "device": "paced:8B"} for count in (1, 2, 4)',
)

# ---- 08.2 ------------------------------------------------------------------------------------------------------------

_ONE_TWICE = changed(WORK, "for count in (1, 8)]", "for count in (1, 1)]")

# ---- 08.3 ------------------------------------------------------------------------------------------------------------

_COMPUTED = changed(COSTS, '"device": f"paced:{table}", ', "", '"clients": 3 * ROWS', '"clients": 16')

# ---- 08.4 ------------------------------------------------------------------------------------------------------------

_THREE = changed(PACES, "(12, 1), (4, 1), (4, 2), (3, 2), (3, 4)", "(4, 1), (3, 2), (3, 4)")
_A_QUARTER_COUNTED = changed(
    _THREE,
    "emit(found, ",
    'found["us_per_token"] = {kind: us / 4 for kind, us in found["us_per_token"].items()}\n            emit(found, ',
)
_FEW_CLIENTS = changed(_THREE, '"clients": 3 * ROWS', '"clients": 4')


def _with_own_costs(result: ProcessResult) -> Iterable[Any]:
    """The costs are those of the very run: of its busiest row with one API server, and of its last one, with four."""
    rows = [event.fields for event in result.events]
    one = max((row for row in rows if row["api_servers"] == 1), key=lambda row: row["busy"]["api-0"])
    own = [SimpleNamespace(fields={**row, "limits": []}) for row in (one, rows[-1])]
    return [SimpleNamespace(events=own), result]


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


# ---- one process in Rust ---------------------------------------------------------------------------------------------

_RUST = '"engine": "paced", "front_end": "vllm-rs-1", "title": "vllm-rs × 1",'

BROKEN_CLAIMS = (
    on_recording(
        "On the recorded H200, four API servers gave less than a quarter more tokens than one",
        "server_step_times",
        "hardly_faster",
        '"api_servers": 4, "seconds": 2.677',
        '"api_servers": 4, "seconds": 1.677',
        module="front_ends",
    ),
    broken_claim(
        "08.1",
        "For each second of the engine core's work, two or four API servers give not much more than one",
        COUNTS,
        _MORE_ROWS,
    ),
    broken_claim(
        "08.1", "With one API server, the engine core is the busiest process, by far", COUNTS, _NOTHING_COMPUTED
    ),
    broken_claim(
        "08.2",
        "A token in eight API servers costs more than in one, above all with few answers at once",
        WORK,
        _ONE_TWICE,
    ),
    broken_claim("08.3", "Over half of a token's CPU time is the API server's", COSTS, _COMPUTED),
    broken_claim(
        "08.4",
        "All points, or all but one, are within a quarter of what was predicted",
        PACES,
        _A_QUARTER_COUNTED,
        given=_with_own_costs,
    ),
    broken_claim(
        "08.4",
        "With more API servers than cores, the cores are predicted as the limit, and all of them work",
        PACES,
        _FEW_CLIENTS,
        given=_with_own_costs,
    ),
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
    on_recording(
        "At this pace, both answer as many requests in a second, give or take a tenth",
        "front_ends",
        "at_the_same_rate",
        f'{_RUST} "round": 0, "clients": 256',
        f'{_RUST} "round": 0, "clients": 16',
        f'{_RUST} "round": 1, "clients": 64',
        f'{_RUST} "round": 1, "clients": 16',
        module="one_process",
    ),
    on_recording(
        "The kernel's part of a token is the same in both, give or take a half",
        "front_ends",
        "the_kernel_takes_the_same",
        '"kernel_share": 0.1',
        '"kernel_share": 0.8',
        module="one_process",
    ),
    on_recording(
        "One process in Rust has more memory than one API server, and less than four",
        "front_ends",
        "memory_between_one_and_four",
        '"front_end": "lab-1"',
        '"front_end": "one"',
        '"front_end": "lab-4"',
        '"front_end": "lab-1"',
        '"front_end": "one"',
        '"front_end": "lab-4"',
        module="one_process",
    ),
    nothing_left("Nothing that this notebook started is running", COUNTS),
)

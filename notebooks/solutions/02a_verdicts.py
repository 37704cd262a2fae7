"""How the predictions of appendix 02a are judged, drawn and claimed."""

import sys

from lab_support.instruments import import_time
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.import_picture import imports
from lab_support.notebook.figures.start_costs import start_costs
from lab_support.notebook.figures.timeline import timeline
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

# ---- what fits through the pipe --------------------------------------------------------------------------------------

REFUSES, DIES, ARRIVES = "start() refuses", "the child starts, and dies", "the child has it"
PARCELS = {
    "a lambda to run": REFUSES,
    "a function from below the guard, to run": DIES,
    "an open file": REFUSES,
    "a lock": REFUSES,
    "a socket": ARRIVES,
}


def parcels_sent(parcels: ProcessResult) -> Found:
    ends = {event.fields["parcel"]: event.fields["ends"] for event in parcels.events}
    return Found(rows={name: _option(ends[name]) for name in PARCELS}, seen={name: ends[name] for name in PARCELS})


def _option(end: str) -> str:
    return REFUSES if "refuses" in end else ARRIVES if end.endswith("with 0") else DIES


# ---- the guard -------------------------------------------------------------------------------------------------------


def without_guard(unguarded: ProcessResult) -> Found:
    children = unguarded.spawned
    return Found(
        measured=(len(children), "the work is done" in unguarded.output),
        shown=lambda: timeline(unguarded),
        claims=(
            Claim("Without the guard there is one child, and no grandchild", len(children) == 1, len(children)),
            Claim("The child stops with a RuntimeError before it does its work", stopped_in_bootstrap(unguarded)),
            Claim("The parent ends as if all were well", unguarded.exit_code == 0, unguarded.exit_code),
        ),
    )


def stopped_in_bootstrap(unguarded: ProcessResult) -> bool:
    return "bootstrapping phase" in unguarded.output and unguarded.spawned[0].exit_code == 1


def letter_of_unguarded(seen: tuple[int, bool]) -> str:
    children, worked = seen
    if children == 1:
        return "b" if worked else "d"
    return "c" if 900 <= children < 1100 else "a"


def ways_to_miss_it(relatives: ProcessResult) -> Found:
    by_method, by_input = relatives.by("program").values()
    rows = tuple(tuple(map(str, seen.values())) for seen in (by_method, by_input))
    return Found(
        shown=Table(("program", "its child's last line", "did its work", "exit code"), rows),
        claims=(
            Claim(
                "Set outside the guard, the start method is set once more in the child",
                "already been set" in by_method["said"],
            ),
            Claim(
                "A program from standard input has no file that its child could run",
                "<stdin>" in by_input["said"],
            ),
            Claim(
                "Neither does its work, and both end with 0",
                not any(each["worked"] or each["code"] for each in (by_method, by_input)),
            ),
        ),
    )


# ---- a function of a notebook's cell ---------------------------------------------------------------------------------


def from_a_notebook(from_cell: ProcessResult) -> Found:
    code = from_cell.spawned[0].exit_code
    lost = "AttributeError" in from_cell.output and code == 1
    return Found(claims=(Claim("A child can't find a function that a notebook's cell defines", lost, code),))


def in_a_pool(pool: ProcessResult) -> Found:
    dead, count = workers_that_died(pool)
    return Found(
        measured=_outcome_of_map(pool),
        shown=lambda: timeline(pool),
        claims=(
            Claim("Pool.map does not return: the deadline ended it", pool.ended == "timeout", pool.ended),
            Claim("Workers died, and others took their place", dead >= 1 and count > 2, f"{dead} dead of {count}"),
        ),
    )


def workers_that_died(pool: ProcessResult) -> tuple[int, int]:
    """The workers that ended with 1, and all workers."""
    return sum(each.exit_code == 1 for each in pool.spawned), len(pool.spawned)


def _outcome_of_map(pool: ProcessResult) -> str:
    if pool.ended == "timeout":
        return "waits"
    return "None" if "[None, None]" in pool.output else "raises"


def letter_of_map(outcome: str) -> str:
    return {"waits": "a", "raises": "b", "None": "c"}.get(outcome, "")


def in_an_executor(executor: ProcessResult) -> Found:
    said = executor.output_of("P0").strip()
    return Found(
        claims=(Claim("ProcessPoolExecutor notices that a worker died", "noticed: BrokenProcessPool" in said, said),)
    )


# ---- what a child costs ----------------------------------------------------------------------------------------------


def bare_children(bare: ProcessResult) -> Found:
    costs = start_costs(bare)
    slow, quick = costs.ms("spawn", 4) / costs.ms("fork", 4), costs.ms("spawn", 4) / costs.ms("forkserver", 4)
    memory = costs.mb("spawn", 4) / costs.mb("fork", 4)
    return Found(
        measured={method: costs.ms(method, 4) for method in ("fork", "forkserver", "spawn")},
        shown=lambda: costs.figure(),
        claims=(
            Claim("Four spawned children take over 5 times as long as four forked ones", slow > 5, slow),
            Claim("A running fork server is over 1.5 times as fast as spawn", quick > 1.5, quick),
            Claim(
                "A spawned child has over 2.5 times the memory of its own that a forked one has",
                memory > 2.5,
                memory,
                costs.no_memory,
            ),
        ),
    )


def letter_of_bare(ms: dict[str, float]) -> str:
    if max(ms.values()) < 1.5 * min(ms.values()):
        return "d"
    if ms["forkserver"] < ms["fork"]:
        return "c"
    return "a" if ms["forkserver"] > 0.75 * ms["spawn"] else "b"


def imports_of_child(imported: ProcessResult) -> Found:
    names = modules_imported(imported)
    from_numpy = sum(name.startswith("numpy") for name in names)
    return Found(
        shown=lambda: imports(imported, imported.spawned[0].name),
        claims=(
            Claim("A child that does nothing imported over 140 modules first", len(names) > 140, len(names)),
            Claim("Dozens of them are parts of numpy, which nobody used", from_numpy > 40, from_numpy),
        ),
    )


def modules_imported(imported: ProcessResult) -> list[str]:
    text = imported.output_of(imported.spawned[0].name, "err")
    return [each.name for top in import_time.parse(text) for each in top]


def roles_of_server(roles: ProcessResult) -> Found:
    told = [event.fields for event in roles.events]
    unknown = "" if all(each["uss"] for each in told) else NO_MEMORY
    rows = tuple(
        (each["role"], f"{each['ms']:.0f} ms", f"{sum(each['uss']) / 1e6:.0f} MB" if each["uss"] else "unknown")
        for each in told
    )
    ratio = 0.0 if unknown else engine_by_api_server(roles)
    return Found(
        shown=Table(("imports what it needs", "ready after", "memory of its own"), rows),
        claims=(
            Claim(
                "A spawned engine core has over 2.5 times an API server's memory: it needs torch",
                ratio > 2.5,
                ratio,
                unknown,
            ),
        ),
    )


NO_MEMORY = "this kernel does not report private memory (/proc/PID/smaps_rollup)"


def engine_by_api_server(roles: ProcessResult) -> float:
    api, engine = (event.fields["uss"][0] for event in roles.events)
    return float(engine) / float(api)


# ---- what differs, and what else comes along -------------------------------------------------------------------------


def tops_by_fork_server(again: ProcessResult) -> Found:
    return Found(
        claims=(
            Claim(
                "Each of a fork server's children runs the script's top level, unless this Python has mended it",
                runs_of_top(again) == (2 if mended() else 4),
                runs_of_top(again),
            ),
        )
    )


def mended() -> bool:
    return sys.version_info >= (3, 14, 1) or (3, 13, 8) <= sys.version_info < (3, 14)


def runs_of_top(again: ProcessResult) -> int:
    return sum("top" in event.fields for event in again.events)


KEPT, NEW = "as in the parent", "as if new, or not at all"
ROWS = {
    "sys.argv has a word more": ("argv", KEPT),
    "sys.path has a folder more": ("path", KEPT),
    "the program runs at lower priority (nice)": ("nice", KEPT),
    "the process may use one core only": ("core", KEPT),
    "there is something to read from sys.stdin": ("stdin", NEW),
    "Python was started with -X dev": ("dev", KEPT),
}


def more_along(more: ProcessResult) -> Found:
    found = more.events[-1].fields
    return Found(
        rows={row: KEPT if found[name] else NEW for row, (name, _) in ROWS.items()},
        claims=(Claim("Descriptor 0 itself is inherited", found["number_0"]),),
    )


_COSTS = {"fork": 6.0, "forkserver": 26.0, "spawn": 99.0}

JUDGES = (
    Judge("02a.1", find=parcels_sent, expected=PARCELS, row_words="Sent to a spawned child, {row}: {option}"),
    Judge(
        "02a.2",
        find=without_guard,
        letter=letter_of_unguarded,
        reached={"a": (64, False), "b": (1, True), "c": (1000, False), "d": (1, False)},
    ),
    Judge("02a.relatives", find=ways_to_miss_it),
    Judge("02a.cell", find=from_a_notebook),
    Judge(
        "02a.3",
        find=in_a_pool,
        letter=letter_of_map,
        reached={"a": "waits", "b": "raises", "c": "None"},
    ),
    Judge("02a.executor", find=in_an_executor),
    Judge(
        "02a.4",
        find=bare_children,
        letter=letter_of_bare,
        reached={
            "a": _COSTS | {"forkserver": 95.0},
            "b": _COSTS,
            "c": _COSTS | {"forkserver": 3.0},
            "d": dict.fromkeys(_COSTS, 20.0),
        },
    ),
    Judge("02a.imports", find=imports_of_child),
    Judge("02a.roles", find=roles_of_server),
    Judge("02a.tops", find=tops_by_fork_server),
    Judge(
        "02a.5",
        find=more_along,
        expected={row: option for row, (_, option) in ROWS.items()},
        row_words="To a spawned child, {row}: {option}",
    ),
)

"""How the predictions of notebook 02 are judged, drawn and claimed."""

import sys
from collections.abc import Mapping
from statistics import median

from lab_support.notebook.canvas.plots import Picture
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.figures.spans import spans, spans_of
from lab_support.notebook.figures.start_costs import Costs, start_costs
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

METHODS = ("fork", "spawn", "forkserver")

# ---- the puzzle ------------------------------------------------------------------------------------------------------


def gpus_of_workers(workers: ProcessResult) -> Found:
    found = gpus_by_method(workers)
    default, documented = workers.told["default"], "forkserver" if sys.version_info >= (3, 14) else "fork"
    rows = tuple((method, *gpus) for method, gpus in found.items())
    return Found(
        shown=Table(("start method", "worker 0 finds", "worker 1 finds", "worker 2 finds"), rows),
        claims=(
            Claim(
                "Started by forkserver, all three workers find the first one's GPU",
                found["forkserver"] == ["0", "0", "0"],
                ", ".join(found["forkserver"]),
            ),
            Claim(
                "The default start method is the documented one for this Python and Linux",
                default == documented,
                default,
            ),
        ),
    )


def gpus_by_method(workers: ProcessResult) -> dict[str, list[str]]:
    return _by_method(workers, "gpu")


def _by_method(result: ProcessResult, field: str) -> dict[str, list[str]]:
    """The values of `field` that the workers of each start method reported, in order."""
    told = [event.fields for event in result.events if field in event.fields]
    return {method: [each[field] for each in told if each["method"] == method] for method in METHODS}


# ---- before the first line -------------------------------------------------------------------------------------------

PYTHON, SCRIPT, PIPE = "Python starts", "the script imports torch", "the pipe brings the function"


def time_before_work(steps: ProcessResult) -> Found:
    (child,) = steps.spawned
    return Found(
        measured=ms_before_work(steps),
        shown=lambda: spans(steps),
        claims=(
            Claim("The child ran the top of the script once more", runs_of_the_top(steps) == 2, runs_of_the_top(steps)),
            Claim(
                "The kernel has another command line for the child than for its parent",
                child.execs[-1].command != steps.processes[0].command,
                child.execs[-1].command.partition(" ")[2],
            ),
        ),
    )


def ms_before_work(steps: ProcessResult) -> dict[str, float]:
    """Milliseconds in the kernel, in Python's start, in the script's top, and in the pipe."""
    spent = {(span.process, span.done): span.ms for span in spans_of(steps)}
    child = steps.spawned[0].name
    return {
        "kernel": spent["P0", "start() returns"],
        "python": spent[child, PYTHON],
        "script": spent[child, SCRIPT],
        "pipe": spent[child, PIPE],
    }


def runs_of_the_top(steps: ProcessResult) -> int:
    return sum(event.fields.get("done") == SCRIPT for event in steps.events)


def letter_of_most(ms: dict[str, float]) -> str:
    return {"kernel": "a", "python": "b", "script": "c", "pipe": "d"}[max(ms, key=lambda part: ms[part])]


# ---- ready, or only started ------------------------------------------------------------------------------------------


def first_client(ready: ProcessResult) -> Found:
    got = ready.by("waits")
    rows = tuple((words, got[waits]["error"] or "a connection") for waits, words in KNOCKS.items())
    return Found(
        measured=knock(ready),
        shown=Table(("the client connects", "what it gets"), rows),
        claims=(
            Claim("When start() returns, the worker does not listen yet", knock(ready) == REFUSED, got[False]["error"]),
        ),
    )


KNOCKS = {False: "as soon as start() has returned", True: "after the launcher has waited"}
REFUSED, HELD, ANSWERED = "an error", "a connection, after waiting in connect()", "a connection"


def knock(ready: ProcessResult) -> str:
    """The outcome of the first client, which comes at once."""
    if ready.by("waits")[False]["error"]:
        return REFUSED
    listens, knocks = ready.by("listens")[False]["at"], ready.by("knocks")[False]["at"]
    return ANSWERED if listens <= knocks else HELD


def letter_of_knock(got: str) -> str:
    return {REFUSED: "a", ANSWERED: "b", HELD: "c"}.get(got, "")


# ---- torch -----------------------------------------------------------------------------------------------------------


def torch_by_method(with_torch: ProcessResult) -> Found:
    costs = start_costs(with_torch, "torch")
    slow = costs.ms("spawn", 1)
    return Found(
        measured=next_by_first(costs),
        shown=lambda: bars(
            {
                method: {"each worker": costs.all_ms(method, 1), "once, before the first": costs.once_ms(method)}
                for method in costs.methods
            },
            unit="milliseconds until the worker is ready",
            finding=f"A fork of a process that has torch is ready {slow / copied(costs):.0f} times sooner",
        ),
        claims=(
            Claim(
                "The fork server's second worker takes over a third of a spawned one's time: it imports torch anew",
                next_by_spawned(costs) > 1 / 3,
                next_by_spawned(costs),
            ),
            Claim(
                "A fork of a process that has torch is ready over 8 times sooner than a spawned worker",
                slow / copied(costs) > 8,
                slow / copied(costs),
            ),
        ),
    )


def next_by_first(costs: Costs) -> float:
    """The second worker's time by a fork server that has nothing, as a share of the first one's."""
    first, second = costs.all_ms("forkserver", 1)
    return second / first


def next_by_spawned(costs: Costs) -> float:
    """The second worker's time by such a fork server, as a share of that by spawn."""
    return costs.all_ms("forkserver", 1)[1] / costs.ms("spawn", 1)


def copied(costs: Costs) -> float:
    """Milliseconds by the slower of the two methods that fork a process with torch."""
    return max(costs.ms("fork", 1), costs.ms("forkserver, preloaded", 1))


def letter_of_next(share: float) -> str:
    return "a" if share < 0.2 else "b" if share < 0.45 else "d" if share < 2.5 else "c"


def memory_by_method(with_torch: ProcessResult, preloaded: ProcessResult) -> Found:
    costs, mine = start_costs(with_torch, "torch"), memory_of_workers(preloaded)
    unknown = "" if mine and not costs.no_memory else NO_MEMORY
    times = 0.0 if unknown else mine["rss"] / mine["uss"]
    return Found(
        measured=None if unknown else (mine["rss"], mine["uss"]),
        shown=None if unknown else lambda: _memory_figure(costs, mine),
        claims=(Claim("RSS shows over 10 times what such a worker has of its own", times > 10, times, unknown),),
    )


def _memory_figure(costs: Costs, mine: Mapping[str, float]) -> Picture:
    by_method = {
        method: {name: costs.mb(method, 1, kind) for name, kind in KINDS.items()} for method in ("spawn", "fork")
    }
    by_method["forkserver, preloaded"] = {name: mine[kind] for name, kind in KINDS.items()}
    return bars(by_method, unit="memory of one worker, MB", finding="RSS hides what a fork saves")


KINDS = {"resident (RSS)": "rss", "proportional (PSS)": "pss", "its own (USS)": "uss"}
NO_MEMORY = "this kernel does not report private memory (/proc/PID/smaps_rollup)"


def memory_of_workers(preloaded: ProcessResult) -> dict[str, float]:
    """MB of the median worker, by kind; empty if the kernel does not tell."""
    told = [event.fields["memory"] for event in preloaded.events if event.fields.get("memory")]
    return {kind: median(each[kind] for each in told) / 1e6 for kind in KINDS.values()} if told else {}


def letter_of_memory(mb: tuple[float, float] | None) -> str:
    if mb is None:
        return ""
    resident, own = mb
    return "c" if resident < 60 else "b" if own < 40 else "d" if own < 100 else "a"


# ---- what it brings along --------------------------------------------------------------------------------------------

KEPT, NEW = "as in the parent", "as if new, or not at all"
ROWS = {
    "an environment variable is set": ("variable", KEPT),
    "the current folder is changed": ("folder", KEPT),
    "the limit of open descriptors (RLIMIT_NOFILE) is lowered": ("limit", KEPT),
    "SIGHUP is ignored": ("ignored", KEPT),
    "a socket is made, and is an argument": ("socket", KEPT),
    "a Python function handles SIGUSR1": ("handler", NEW),
    "a global variable is changed, below the guard": ("setting", NEW),
    "a global lock is taken": ("lock", NEW),
    "a second thread is started": ("thread", NEW),
    "a file is opened, and marked as inheritable": ("file", NEW),
}


def brought_along(brought: ProcessResult) -> Found:
    seen = brought.events[-1].fields
    return Found(rows={row: KEPT if seen[name] else NEW for row, (name, _) in ROWS.items()})


OWN, ALL = "its own GPU", "all four GPUs"
GPUS = ["0", "1"]


def gpus_seen(own_gpu: ProcessResult) -> Found:
    return Found(
        rows={method: option_of(gpus) for method, gpus in seen_by_method(own_gpu).items()},
        seen={method: " and ".join(gpus) for method, gpus in seen_by_method(own_gpu).items()},
    )


def seen_by_method(own_gpu: ProcessResult) -> dict[str, list[str]]:
    return _by_method(own_gpu, "sees")


def option_of(gpus: list[str]) -> str:
    return OWN if gpus == GPUS else ALL


JUDGES = (
    Judge("02.gpus", find=gpus_of_workers),
    Judge(
        "02.1",
        find=time_before_work,
        letter=letter_of_most,
        reached={
            "a": {"kernel": 900, "python": 60, "script": 90, "pipe": 1},
            "b": {"kernel": 12, "python": 60, "script": 9, "pipe": 1},
            "c": {"kernel": 12, "python": 60, "script": 1500, "pipe": 1},
            "d": {"kernel": 12, "python": 60, "script": 9, "pipe": 300},
        },
    ),
    Judge(
        "02.2",
        find=first_client,
        letter=letter_of_knock,
        reached={"a": REFUSED, "b": ANSWERED, "c": HELD},
    ),
    Judge(
        "02.3",
        find=torch_by_method,
        letter=letter_of_next,
        reached={"a": 0.01, "b": 0.3, "c": 3.0, "d": 0.95},
    ),
    Judge(
        "02.4",
        find=memory_by_method,
        letter=letter_of_memory,
        reached={"a": (229.0, 150.0), "b": (157.0, 4.0), "c": (13.0, 5.0), "d": (150.0, 75.0)},
    ),
    Judge(
        "02.5",
        find=brought_along,
        expected={row: option for row, (_, option) in ROWS.items()},
        row_words="To a spawned child, {row}: {option}",
    ),
    Judge(
        "02.6",
        find=gpus_seen,
        expected={"fork": ALL, "spawn": OWN, "forkserver": OWN},
        row_words="By {row}, a worker that sets the variable itself sees {option}",
    ),
)

_ROW = "To a spawned child, {}: {}".format
LEDGER = (
    Tested(
        sentence=10,
        claims=tuple(_ROW(row, option) for row, (_, option) in ROWS.items()),
        finding="true of memory and what needs it: locks, globals, threads and handlers are as new; not true of the "
        "process: environment, folder, limits and ignored signals come along",
        otherwise="not as in the text on this machine: see the table of 02.5",
    ),
    Tested(
        sentence=11,
        claims=("The default start method is the documented one for this Python and Linux",),
        finding="on Linux the default is another: fork, and forkserver from Python 3.14 on; that spawn is the default "
        "on Windows and macOS was read in Python's documentation, and not run",
        otherwise="the default of this Python on Linux is not the documented one",
    ),
    Tested(
        sentence=14,
        claims=("The kernel has another command line for the child than for its parent",),
        finding='right, as read in vLLM 0.33.0 and not run: `APIServerProcessManager` takes `get_context("spawn")`; '
        "run here: such a child is a new program, and no fork",
        otherwise="right, as read in vLLM 0.33.0; but here a spawned child had its parent's command line",
    ),
    Tested(
        sentence=15,
        claims=(_ROW("a global lock is taken", NEW), _ROW("a second thread is started", NEW)),
        finding="the reason holds: a spawned child has neither the parent's threads nor a lock that one of them held",
        otherwise="not so here: a thread or a taken lock came along",
    ),
    Tested(
        sentence=18,
        claims=(
            "A fork of a process that has torch is ready over 8 times sooner than a spawned worker",
            _ROW("a global lock is taken", NEW),
        ),
        finding="both halves hold here: fork is faster, and a spawned child has no lock that is stuck; but a preloaded "
        "fork server is nearly as quick, and copies no threads of yours",
        otherwise="not so here: fork was not faster, or a taken lock came along",
    ),
    Tested(
        sentence=19,
        claims=("A fork of a process that has torch is ready over 8 times sooner than a spawned worker",),
        finding="true of the start: it costs time and memory for imports, once for each process; nothing measured here "
        "makes a request slower",
        otherwise="not so here: a spawned worker was ready nearly as soon as a forked one",
    ),
)

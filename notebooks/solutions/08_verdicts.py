"""How the predictions of notebook 08 are judged, drawn and claimed."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

# ---- 08.5: spawn and fork --------------------------------------------------------------------------------------------

LESS, SAME, MORE = "less, by a third or more", "about the same", "more, by a third or more"
BORN_CPU, BORN_OWN = "CPU time until it can serve", "memory of its own until then"
PER_TOKEN, PER_SECOND = "CPU time for each token", "tokens per second"


def fork_against_spawn(births: ProcessResult) -> Found:
    spawn, fork = (sums_of(births, method) for method in ("spawn", "fork"))
    return Found(
        rows={row: option_of(fork[row] / spawn[row]) for row in spawn},
        seen={row: f"{_IN_WORDS[row](fork[row])} against {_IN_WORDS[row](spawn[row])}" for row in spawn},
        claims=(
            Claim(
                "Under load, the forked one takes over twice as many page faults: it copies what it writes to",
                under_load(births, "fork") > 2 * under_load(births, "spawn"),
                got=f"{under_load(births, 'fork'):,} against {under_load(births, 'spawn'):,}",
            ),
        ),
    )


def sums_of(births: ProcessResult, method: str) -> dict[str, float]:
    """The figure of each row, over all runs of the load."""
    told = [event.fields for event in births.events if event.fields["method"] == method]
    [born] = [fields["born"] for fields in told if "born" in fields]
    runs = [fields for fields in told if "tokens" in fields]
    tokens, seconds = (sum(run[name] for run in runs) for name in ("tokens", "seconds"))
    return {
        BORN_CPU: born["cpu"],
        BORN_OWN: born["own"],
        PER_TOKEN: sum(run["cpu"]["api-0"] for run in runs) / tokens,
        PER_SECOND: tokens / seconds,
    }


def under_load(births: ProcessResult, method: str) -> int:
    """Page faults of the API server from its start to the end of all runs."""
    told = {name: value for event in births.events if event.fields["method"] == method
            for name, value in event.fields.items()}  # fmt: skip
    return int(told["later"]["faults"] - told["born"]["faults"])


def option_of(ratio: float) -> str:
    return LESS if ratio < 2 / 3 else SAME if ratio < 1.5 else MORE


_IN_WORDS = {
    BORN_CPU: lambda seconds: f"{seconds * 1000:.0f} ms",
    BORN_OWN: lambda size: f"{size / 1e6:.0f} MB",
    PER_TOKEN: lambda seconds: f"{seconds * 1e6:.0f} µs",
    PER_SECOND: lambda rate: f"{rate:,.0f}",
}


# ---- 08.6: the start against the work --------------------------------------------------------------------------------


def start_against_work(repaid: ProcessResult) -> Found:
    [told] = (event.fields for event in repaid.events)
    each = told["cpu"]["api-0"] / told["tokens"] * 1e6
    share = right_weights(told)[1] / each
    return Found(
        measured=right_weights(told)[0],
        shown=Table(
            ("an API server by spawn", ""),
            (
                ("CPU time of its start", f"{told['start'] * 1000:.0f} ms"),
                ("is repaid in", f"{told['as_long']:.1f} s of this load"),
                ("CPU time for each token", f"{each:.1f} µs"),
                ("and of the start, over an hour's tokens", f"{told['in_an_hour']:.4f} µs"),
            ),
            note="By your lines. The engine is a stand-in, paced like a recorded H200 with 8 billion parameters.",
        ),
        claims=(
            Claim(
                "Over an hour of this load, the start adds less than a hundredth to what a token costs",
                share < 0.01,
                got=f"{share:.2%}",
            ),
        ),
    )


def right_weights(told: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds of the load in which the tokens take as much CPU time as the start, and its microseconds for each token
    of an hour."""
    rate = told["tokens"] / told["seconds"]
    return told["start"] / (told["cpu"]["api-0"] / told["seconds"]), 1e6 * told["start"] / (3600 * rate)


def letter_of_wait(seconds: float) -> str:
    return "d" if seconds < 60 else "c" if seconds < 1800 else "b" if seconds < 6 * 3600 else "a"


# ---- four servers ----------------------------------------------------------------------------------------------------


def figures_of_servers(servers: ProcessResult) -> Found:
    heads = ("", "tokens/s", "of its GPU's", "API server busy", "engine core busy")
    heads += ("running", "waiting", "blocks in use", "preempted/s")
    rows = tuple(
        (
            event.fields["name"],
            f"{seen['tokens_per_second']:,}",
            f"{seen['tokens_per_second'] / seen['pace']:.0%} of {seen['pace']:,}",
            *(f"{seen['busy'][role]:.0%}" for role in ("api-0", "engine-0")),
            *(span(seen[name]) for name in ("running", "waiting")),
            f"{max(seen['cache_usage']):.0%}",
            f"{seen['preemptions']:g}",
        )
        for event in servers.events
        for seen in (event.fields["seen"],)
    )
    note = (
        "Busy: the share of the time for which the busiest thread was on a core. Running, waiting: least and most. "
        "Blocks in use: most."
    )
    return Found(shown=Table(heads, rows, note=note))


def span(counts: Sequence[int]) -> str:
    return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])


JUDGES = (
    Judge(
        "08.5",
        find=fork_against_spawn,
        expected={BORN_CPU: LESS, BORN_OWN: LESS, PER_TOKEN: SAME, PER_SECOND: SAME},
        row_words="A forked API server, compared with a spawned one: {row}: {option}",
    ),
    Judge(
        "08.6",
        find=start_against_work,
        letter=letter_of_wait,
        reached={"a": 86_400.0, "b": 3600.0, "c": 300.0, "d": 2.0},
    ),
    Judge("08.four", find=figures_of_servers),
)

"""How the predictions of notebook 08 are judged, drawn and claimed."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from lab_support.instruments.ceilings import CORES, FRONT_ENDS, PACE, knee
from lab_support.instruments.record import recordings
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.load.knees import PaceLine, knees
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table
from lab_support.notebook.recordings import front_ends, one_process
from lab_support.notebook.recordings.recorded import Recorded
from lab_support.notebook.servers.predictions import Predictions, costs_of, middle_by_cost, pace_of

Row = Mapping[str, Any]
MUCH = 1.6
"""Times as many tokens: other programs on the same cores change an engine core's time for a token by up to a half."""
LEFT_ENOUGH, LEFT_MOST, LEFT_SOME = 0.75, 0.7, 0.4
"""Shares of the cores that other programs must leave: to compare one run's tokens per second with the next one's; for a
prediction, which counts with the cores that they left, but not with what they do to caches; and to compare tokens for
each second of work."""


def told(result: ProcessResult, field: str = "tokens_per_second") -> list[dict[str, Any]]:
    return [event.fields for event in result.events if field in event.fields]


def why_not(rows: Sequence[Row], least: float = LEFT_ENOUGH) -> str:
    """Why runs tell nothing: other programs left less than this share of the cores. "" if they left enough."""
    left = min(row["cores_left"] / row["cores"] for row in rows)
    return "" if left >= least else f"other programs took {1 - left:.0%} of the cores during one of the runs"


# ---- the recorded H200 -----------------------------------------------------------------------------------------------


def recorded_front_ends() -> Found:
    """Always the recording: its experiment takes three minutes, on a GPU machine too."""
    shown = Recorded(front_ends.RECORDING, recordings.load(front_ends.RECORDING), False, "", front_ends.table)
    tested = shown.tested(front_ends.hardly_faster)
    claim = Claim(
        "On the recorded H200, four API servers gave less than a quarter more tokens than one",
        tested["condition"],
        tested["got"],
    )
    return Found(shown=shown, claims=(claim,))


# ---- 08.1: one, two, four -------------------------------------------------------------------------------------------


def more_api_servers(counts: ProcessResult) -> Found:
    rows = told(counts)
    one, rates = rows[0], {row["api_servers"]: _while_it_works(row) for row in rows}
    alone = one["tokens_per_second"]
    loop = max(busy for role, busy in one["busy"].items() if role.startswith("api-"))
    return Found(
        measured=[] if why_not(rows) else [row["tokens_per_second"] / alone for row in rows[1:3]],
        shown=accounts_table(rows),
        claims=(
            Claim(
                "For each second of the engine core's work, two or four API servers give not much more than one",
                max(rates[2], rates[4]) < MUCH * rates[1],
                got=", ".join(f"{number}: {rate:,.0f} tokens" for number, rate in rates.items()),
                untestable=why_not(rows, LEFT_SOME),
            ),
            Claim(
                "With one API server, the engine core is the busiest process, by far",
                busiest(one) == "engine-0" and one["us_per_token"]["engine"] > 2 * one["us_per_token"]["api"],
                got=f"engine core {one['busy']['engine-0']:.0%}, API server {loop:.0%} of the time",
            ),
        ),
    )


def _while_it_works(row: Row) -> float:
    """Tokens for each second that the engine core was on a core, so that other programs' load does not count."""
    return float(row["tokens_per_second"] / row["busy"]["engine-0"])


def busiest(row: Row) -> str:
    return max(row["busy"], key=lambda role: row["busy"][role])


def accounts_table(rows: Sequence[Row]) -> Table:
    heads = ("API servers", "tokens/s", "busiest thread of the engine core", "of the API servers", "answers of each")
    return Table(
        heads,
        tuple(
            (
                str(row["api_servers"]),
                f"{row['tokens_per_second']:,}",
                f"{row['busy']['engine-0']:.0%}",
                ", ".join(f"{share:.0%}" for role, share in row["busy"].items() if role.startswith("api-")),
                ", ".join(map(str, row["answers"].values())),
            )
            for row in rows
        ),
        note="Shares of the time that a thread was on a core.",
    )


def letter_of_gain(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    two, four = ratios
    if two > 1.6 and four > 3:
        return "a"
    if max(two, four) > 1.33:
        return "b"
    return "d" if four < 0.6 else "c"


# ---- 08.2: CPU time for a token --------------------------------------------------------------------------------------


def eight_against_one(work: ProcessResult) -> Found:
    rows = told(work)
    few, many = (min(row["clients"] for row in rows), max(row["clients"] for row in rows))
    rises = {clients: _rise(rows, clients) for clients in (few, many)}
    return Found(
        measured=[] if why_not(rows, LEFT_SOME) else [rises[few], rises[many]],
        shown=Table(
            ("API servers", "answers at once", "µs in them for each token", "cores that they kept busy"),
            tuple(
                (str(row["api_servers"]), str(row["clients"]), f"{row['us']:.0f}", f"{row['cores_busy']:.2f}")
                for row in rows
            ),
            note="At the pace of 8B, recorded on an H200; the last two by your lines.",
        ),
        claims=(
            Claim(
                "A token in eight API servers costs more than in one, above all with few answers at once",
                rises[few] > 1.5 and rises[few] > rises[many],
                got=f"{rises[few]:.1f} times as much with {few}, {rises[many]:.1f} times with {many}",
                untestable=why_not(rows, LEFT_SOME),  # a process that waits for a core finds more to do at once
            ),
        ),
    )


def _rise(rows: Sequence[Row], clients: int) -> float:
    """The CPU time for a token in the most API servers over that in the fewest, with so many clients."""
    costs = {row["api_servers"]: row["us_per_token"]["api"] for row in rows if row["clients"] == clients}
    return float(costs[max(costs)] / costs[min(costs)])


def letter_of_rises(rises: Sequence[float]) -> str:
    if not rises:
        return ""
    few, many = rises
    if max(few, many) < 1.15:
        return "a" if max(few, many) < 0.87 else "b"
    return "d" if few > many else "c"


# ---- 08.3: the costs and the limits ----------------------------------------------------------------------------------


def share_of_api_servers(costs: ProcessResult) -> Found:
    rows = middle_by_cost(told(costs))
    cost = costs_of(rows[0])
    share = cost.front_end / cost.all
    return Found(
        measured={"api": share, "engine": cost.engine_core / cost.all, "client": cost.client / cost.all},
        shown=Table(
            (
                "API servers",
                "µs for each token: API servers",
                "engine core",
                "clients",
                "cores left for them",
                PACE,
                FRONT_ENDS,
                CORES,
            ),
            tuple(
                (
                    str(row["api_servers"]),
                    *(f"{row['us_per_token'][kind]:.0f}" for kind in ("api", "engine", "client")),
                    f"{row['cores_left']:.2f}",
                    *(f"{limit:,.0f}" for limit in row["limits"]),
                )
                for row in rows
            ),
            note="Of three counts the one in the middle. The last three columns: limits in tokens per second, computed "
            "by your lines.",
        ),
        claims=(Claim("Over half of a token's CPU time is the API server's", share > 0.5, got=f"{share:.0%}"),),
    )


def letter_of_share(parts: Mapping[str, float]) -> str:
    if parts["api"] > 0.5:
        return "b"
    if max(parts.values()) < 0.45:
        return "c"
    return "a" if parts["engine"] > parts["client"] else "d"


# ---- 08.4: three paces -----------------------------------------------------------------------------------------------


def three_paces(costs: ProcessResult, paces: ProcessResult) -> Found:
    with_costs = middle_by_cost(told(costs, "limits"))
    predictions = Predictions(with_costs)
    rows = predictions.medians(told(paces, "milliseconds"))
    crowded = why_not([*with_costs, *rows], LEFT_MOST)
    off = [predictions.off(row) for row in rows]
    fast = [row for row in rows if row["milliseconds"] == min(row["milliseconds"] for row in rows)]
    last, worst = fast[-1], max(off, key=abs)
    return Found(
        measured=[] if crowded else [_by_core(last) / _by_core(fast[-2])],
        shown=lambda: knees(
            lines_of(rows, predictions),
            cores=rows[0]["cores"],
            finding=f"At three paces, predicted within {abs(worst):.0%}",
            stand_in="stand-in for a GPU, paced by your tables",
        ),
        claims=(
            Claim(
                "All points, or all but one, are within a quarter of what was predicted",
                sum(abs(each) > 0.25 for each in off) <= 1,
                got=", ".join(f"{each:+.0%}" for each in off),
                untestable=crowded,
            ),
            Claim(
                "With more API servers than cores, the cores are predicted as the limit, and all of them work",
                predictions.predicted(last)[0] == CORES and last["cores_used"] > 0.85 * last["cores_left"],
                got=f"{last['cores_used']:.2f} of {last['cores_left']:.2f} cores that others left",
                untestable=why_not(rows, LEFT_SOME),
            ),
        ),
    )


def _by_core(row: Row) -> float:
    """Tokens per second for each core that others left, so that their load does not count."""
    return float(row["tokens_per_second"] / row["cores_left"])


MOST_SHOWN = 4


def lines_of(rows: Sequence[Row], predictions: Predictions) -> list[PaceLine]:
    """A line for each pace. Between the measured points, all are for the cores that others left most often."""
    times, cores = dict.fromkeys(row["milliseconds"] for row in rows), median(row["cores_left"] for row in rows)
    return [_line([row for row in rows if row["milliseconds"] == each], predictions, cores) for each in times]


def _line(own: Sequence[Row], predictions: Predictions, cores: float) -> PaceLine:
    pace = pace_of(own[0])
    bend = knee(pace, predictions.costs, cores)
    places = sorted({place / 10 for place in range(1, 10 * MOST_SHOWN + 1)} | {min(bend, MOST_SHOWN)})
    return PaceLine(
        f"{own[0]['milliseconds']:g} ms a step",
        {row["api_servers"]: row["tokens_per_second"] for row in own},
        {row["api_servers"]: predictions.predicted(row)[1] for row in own},
        [(place, predictions.lowest(pace, place, cores)[1]) for place in places],
        (bend, predictions.lowest(pace, bend, cores)[1]),
        f"then {predictions.lowest(pace, MOST_SHOWN, cores)[0]}",
    )


def letter_of_paces(measured: Sequence[float]) -> str:
    if not measured:
        return ""
    [ratio] = measured
    return "d" if ratio < 0.6 else "a" if ratio < 1.25 else "b" if ratio < 1.75 else "c"


# ---- 08.5: spawn and fork --------------------------------------------------------------------------------------------

LESS, SAME, MORE = "less, by a third or more", "about the same", "more, by a half or more"
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
    """The figure of each row; of the runs of the load the best, because other programs can only make one worse."""
    told = [event.fields for event in births.events if event.fields["method"] == method]
    [born] = [fields["born"] for fields in told if "born" in fields]
    runs = [fields for fields in told if "tokens" in fields]
    return {
        BORN_CPU: born["cpu"],
        BORN_OWN: born["own"],
        PER_TOKEN: min(run["cpu"]["api-0"] / run["tokens"] for run in runs),
        PER_SECOND: max(run["tokens"] / run["seconds"] for run in runs),
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
                ("its tokens have cost as much after", f"{told['as_long']:.1f} s of this load"),
                ("CPU time for each token", f"{each:.1f} µs"),
                ("and of the start, over an hour's tokens", f"{told['in_an_hour']:.1g} µs"),
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


# ---- one process in Rust ---------------------------------------------------------------------------------------------


ONE, IN_RUST = "1 API server", "1 process in Rust"


def one_process_in_rust(compared: ProcessResult) -> Found:
    """Always the recording: few machines have the program."""
    found = compared.by("front_end")
    python, rust = (found[title]["in_kernel"] + found[title]["in_own_code"] for title in (ONE, IN_RUST))
    run = recordings.load(one_process.RECORDING)
    shown = Recorded(one_process.RECORDING, run, False, "", one_process.costs)
    rate = shown.tested(one_process.at_the_same_rate)
    kernel = shown.tested(one_process.the_kernel_takes_the_same)
    memory = shown.tested(one_process.memory_between_one_and_four)
    return Found(
        measured=[rust / python],
        shown=shown,
        claims=(
            Claim(
                "At this pace, both answer as many requests in a second, give or take a tenth",
                rate["condition"],
                rate["got"],
            ),
            Claim(
                "The kernel's part of a token is the same in both, give or take a half",
                kernel["condition"],
                kernel["got"],
            ),
            Claim(
                "One process in Rust has more memory than one API server, and less than four",
                memory["condition"],
                memory["got"],
            ),
        ),
    )


def letter_of_rust(measured: Sequence[float]) -> str:
    [ratio] = measured
    return "a" if ratio < 0.17 else "b" if ratio < 0.4 else "c" if ratio < 0.8 else "d"


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
        "Busy: the share of the time for which the busiest thread was on a core. Running, waiting: least and most, as "
        "last published: an engine core that is idle for a moment says 0. "
        "Blocks in use: most."
    )
    return Found(shown=Table(heads, rows, note=note))


def span(counts: Sequence[int]) -> str:
    return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])


JUDGES = (
    Judge("08.recorded", find=recorded_front_ends),
    Judge(
        "08.1",
        find=more_api_servers,
        letter=letter_of_gain,
        reached={"a": [1.9, 3.8], "b": [1.5, 1.6], "c": [1.0, 0.95], "d": [0.8, 0.5]},
    ),
    Judge(
        "08.2",
        find=eight_against_one,
        letter=letter_of_rises,
        reached={"a": [0.6, 0.8], "b": [1.1, 1.0], "c": [1.4, 2.2], "d": [2.4, 1.6]},
    ),
    Judge(
        "08.3",
        find=share_of_api_servers,
        letter=letter_of_share,
        reached={
            "a": {"api": 0.3, "engine": 0.6, "client": 0.1},
            "b": {"api": 0.7, "engine": 0.2, "client": 0.1},
            "c": {"api": 0.4, "engine": 0.3, "client": 0.3},
            "d": {"api": 0.3, "engine": 0.2, "client": 0.5},
        },
    ),
    Judge(
        "08.4",
        find=three_paces,
        letter=letter_of_paces,
        reached={"a": [1], "b": [1.5], "c": [2], "d": [0.5]},
    ),
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
    Judge(
        "08.7",
        find=one_process_in_rust,
        letter=letter_of_rust,
        reached={"a": [0.1], "b": [0.25], "c": [0.6], "d": [1.0]},
    ),
    Judge("08.four", find=figures_of_servers),
)


def _of_fork(row: str, option: str) -> str:
    return f"A forked API server, compared with a spawned one: {row}: {option}"


LEDGER = (
    Tested(
        18,
        claims=(_of_fork(BORN_CPU, LESS), _of_fork(BORN_OWN, LESS)),
        finding="so, for the start: where the launcher has imported everything, a fork saves most of it",
        otherwise="not as here expected: see the table of 08.5",
    ),
    Tested(
        19,
        claims=(_of_fork(PER_TOKEN, SAME), _of_fork(PER_SECOND, SAME)),
        finding="at the start alone: a spawned API server then serves as fast, and a token costs it about as much",
        otherwise="not as here expected: see the table of 08.5",
    ),
)

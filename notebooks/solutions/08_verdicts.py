"""How the predictions of notebook 08 are judged, drawn and claimed."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab_support.instruments.ceilings import CORES, FRONT_ENDS, PACE, Costs, knee, limits, lowest, with_api_servers
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.knees import PaceLine, knees
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

Row = Mapping[str, Any]
LEFT_ENOUGH = 0.75
"""Of the cores, that other programs must leave for a comparison of one run with the next."""


def told(result: ProcessResult, field: str = "tokens_per_second") -> list[dict[str, Any]]:
    return [event.fields for event in result.events if field in event.fields]


def why_not(rows: Sequence[Mapping[str, Any]]) -> str:
    """Why runs can't be compared: other programs took too much. "" if they can."""
    least = min(row["cores_left"] / row["cores"] for row in rows)
    if least >= LEFT_ENOUGH:
        return ""
    return f"other programs took {1 - least:.0%} of the cores during one of the runs"


# ---- 08.1: one, two, four, eight -------------------------------------------------------------------------------------


def more_api_servers(counts: ProcessResult) -> Found:
    rows = told(counts)
    rates = {row["api_servers"]: row["tokens_per_second"] for row in rows}
    gain = max(rates[2], rates[4]) / rates[1]
    busy, loop = busiest(rows[0]), max(rows[0]["busy"][role] for role in rows[0]["busy"] if role.startswith("api-"))
    engine = rows[0]["us_per_token"]["engine"]
    return Found(
        measured=[] if why_not(rows) else [rates[2] / rates[1], rates[4] / rates[1]],
        shown=accounts_table(rows),
        claims=(
            Claim(
                "On the CPU engine, two or four API servers give no third more than one",
                gain < 1.33,
                got=", ".join(f"{number}: {rate:,.0f} tokens/s" for number, rate in rates.items()),
                untestable=why_not(rows),
            ),
            Claim(
                "With one API server, the engine core is the busiest process, by far",
                busy == "engine-0" and engine > 2 * rows[0]["us_per_token"]["api"],
                got=f"engine core {rows[0]['busy']['engine-0']:.0%}, API server {loop:.0%} of the time",
            ),
        ),
    )


def busiest(row: Mapping[str, Any]) -> str:
    return max(row["busy"], key=lambda role: row["busy"][role])


def accounts_table(rows: Sequence[Mapping[str, Any]]) -> Table:
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


def four_against_one(work: ProcessResult) -> Found:
    one, four = told(work)
    costs = [row["us_per_token"]["api"] for row in (one, four)]
    ratio = costs[1] / costs[0]
    return Found(
        measured=ratio,
        shown=Table(
            ("API servers", "µs in API servers for each token", "cores that the engine core kept busy"),
            tuple((str(row["api_servers"]), f"{row['us']:.0f}", f"{row['engine_busy']:.2f}") for row in (one, four)),
        ),
        claims=(
            Claim(
                "With four API servers, a token costs them more CPU time than with one",
                ratio > 1.2,
                got=f"{costs[0]:.0f} and {costs[1]:.0f} µs",
            ),
        ),
    )


def letter_of_cost(ratio: float) -> str:
    return "a" if ratio < 0.8 else "b" if ratio < 1.2 else "d" if ratio < 3.5 else "c"


# ---- 08.3: the costs and the limits ----------------------------------------------------------------------------------


def costs_of(row: Mapping[str, Any]) -> Costs:
    cost = row["us_per_token"]
    return Costs(cost["loop"], cost["api"], cost["engine"], cost["client"])


def share_of_api_servers(costs: ProcessResult) -> Found:
    rows = told(costs)
    cost = costs_of(rows[0])
    share = cost.front_end / cost.all
    return Found(
        measured={"api": share, "engine": cost.engine_core / cost.all, "client": cost.client / cost.all},
        shown=Table(
            ("API servers", "µs for each token: API servers", "engine core", "clients", PACE, FRONT_ENDS, CORES),
            tuple(
                (
                    str(row["api_servers"]),
                    *(f"{row['us_per_token'][kind]:.0f}" for kind in ("api", "engine", "client")),
                    *(f"{limit:,.0f}" for limit in row["limits"]),
                )
                for row in rows
            ),
            note="The last three: limits in tokens per second, computed by your lines.",
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
    one, several = told(costs, "limits")
    rows = told(paces, "milliseconds")
    off = {(row["milliseconds"], row["api_servers"]): row["tokens_per_second"] / predicted(row, one, several)[1] - 1
           for row in rows}  # fmt: skip
    slow, fast = ([row for row in rows if row["milliseconds"] == each] for each in _ends(rows))
    last = fast[-1]
    worst = max(off.values(), key=abs)
    return Found(
        measured=[] if why_not(fast) else [last["tokens_per_second"] / fast[-2]["tokens_per_second"]],
        shown=lambda: knees(
            lines_of(rows, one, several),
            cores=rows[0]["cores"],
            finding=f"At three paces, predicted within {abs(worst):.0%}",
            stand_in="stand-in: paced by the tables above",
        ),
        claims=(
            Claim(
                "What was measured is within a quarter of what was predicted",
                abs(worst) <= 0.25,
                got=f"at most {worst:+.0%}",
                untestable=why_not(rows),
            ),
            Claim(
                "At the easy pace, a second API server changes nothing",
                0.8 < slow[1]["tokens_per_second"] / slow[0]["tokens_per_second"] < 1.25,
                got=", ".join(f"{row['tokens_per_second']:,}" for row in slow),
                untestable=why_not(slow),
            ),
            Claim(
                "With more API servers than cores, the cores are predicted as the limit, and all of them work",
                predicted(last, one, several)[0] == CORES and last["cores_used"] > 0.85 * last["cores_left"],
                got=f"{last['cores_used']:.2f} of {last['cores_left']:.2f} cores that others left",
                untestable=_too_many_cores(last["cores"]),
            ),
        ),
    )


def _ends(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    times = [row["milliseconds"] for row in rows]
    return max(times), min(times)


def _too_many_cores(cores: int) -> str:
    return f"this machine has {cores} cores, more than its API servers" if cores >= 4 else ""


def predicted(row: Mapping[str, Any], one: Row, several: Row) -> tuple[str, float]:
    number = row["api_servers"]
    costs = with_api_servers(costs_of(one), costs_of(several), several["api_servers"], number)
    return lowest(limits(_pace(row), number, costs, row["cores_left"]))


def _pace(row: Mapping[str, Any]) -> float:
    return float(row["rows"] / row["milliseconds"] * 1000)


def lines_of(rows: Sequence[Mapping[str, Any]], one: Row, several: Row) -> list[PaceLine]:
    found = []
    for milliseconds in dict.fromkeys(row["milliseconds"] for row in rows):
        own = [row for row in rows if row["milliseconds"] == milliseconds]
        found.append(
            PaceLine(
                f"{own[0]['rows']} rows in {milliseconds:g} ms",
                {row["api_servers"]: row["tokens_per_second"] for row in own},
                {row["api_servers"]: predicted(row, one, several)[1] for row in own},
                knee(_pace(own[0]), costs_of(one), max(row["cores_left"] for row in own)),
            )
        )
    return found


def letter_of_paces(measured: Sequence[float]) -> str:
    if not measured:
        return ""
    [ratio] = measured
    return "d" if ratio < 0.6 else "a" if ratio < 1.25 else "b" if ratio < 1.75 else "c"


JUDGES = (
    Judge(
        "08.1",
        find=more_api_servers,
        letter=letter_of_gain,
        reached={"a": [1.9, 3.8], "b": [1.5, 1.6], "c": [1.0, 0.95], "d": [0.8, 0.5]},
    ),
    Judge("08.2", find=four_against_one, letter=letter_of_cost, reached={"a": 0.5, "b": 1.0, "c": 4.0, "d": 2.0}),
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
)

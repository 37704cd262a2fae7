"""The front ends as a table, from a recording of `front_ends`. Nothing here measures.

A figure is the range of its rounds. Raises `LookupError` if the recording has no front end.
"""

import statistics
from typing import Any

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.page.tables import Table
from lab_support.notebook.recordings.peers import span

HEADS = (
    "front end",
    "engine",
    "clients",
    "asked by",
    "CPU for a request of one token, µs",
    "CPU for a streamed token, µs",
    "memory, MB",
    "first token, ms: median; 99 %",
    "between tokens, ms: median; 99 %",
    "requests of one token/s",
)
Samples = list[dict[str, Any]]


def table(run: Recording) -> Table:
    """A row for each engine, front end, number of clients and client; one that wasn't measured says why."""
    kinds = dict.fromkeys((each["engine"], each["front_end"]) for each in run.samples if "front_end" in each)
    if not kinds:
        raise LookupError(f"got a recording of {run.name} without any front end, expected some")
    return Table(HEADS, tuple(row for kind in sorted(kinds) for row in _rows(run, *kind)), _note(run))


def _rows(run: Recording, engine: str, name: str) -> list[tuple[str, ...]]:
    found = run.of("front end", engine=engine, front_end=name)
    loads = sorted({(each["clients"], each["client"]) for each in found})
    if not loads:
        return [_not_measured(run, engine, name)]
    return [_row([each for each in found if (each["clients"], each["client"]) == load]) for load in loads]


def _row(rounds: Samples) -> tuple[str, ...]:
    one = rounds[0]
    return (
        *(one["title"], one["engine"], str(one["clients"]), one["client"]),
        _span(rounds, "request_us"),
        _span(rounds, "token_us", 1),
        _span(rounds, "memory_mb"),
        _latency(rounds, "ttft_ms"),
        _latency(rounds, "inter_token_ms"),
        _span(rounds, "requests_per_second"),
    )


def _not_measured(run: Recording, engine: str, name: str) -> tuple[str, ...]:
    return (_missing(run, engine, name).get("title", name), engine, "not measured", *["–"] * (len(HEADS) - 3))


def _missing(run: Recording, engine: str, name: str) -> dict[str, Any]:
    return next(each for each in run.samples if (each.get("engine"), each.get("front_end")) == (engine, name))


def _span(rounds: Samples, field: str, digits: int = 0) -> str:
    return span([each[field] for each in rounds], digits)


def _latency(rounds: Samples, field: str) -> str:
    median, _, highest = zip(*(each[field] for each in rounds), strict=True)
    return f"{span(median, 1)}; {span(highest, 1)}"


def _note(run: Recording) -> str:
    """The load, how much the machine's speed changed meanwhile, by a fixed loop, and why some were not measured."""
    said = [
        "Closed loop, about 64 tokens of prompt, greedy, streamed; answers of one token, and of 34 ± 88 % tokens, in "
        "whose CPU time is that of their requests."
    ]
    if loops := [each["loop_ms"] for each in run.of("front end")]:
        worst, median = (slow / min(loops) - 1 for slow in (max(loops), statistics.median(loops)))
        said.append(
            f"A fixed loop took {worst:.0%} longer at worst than at best, {median:.0%} in the median: CPU time, too."
        )
    missing = [each for each in run.samples if each["what"] in ("absent", "failed", "not run")]
    for why in dict.fromkeys(each.get("why") or each.get("reason") for each in missing):
        names = dict.fromkeys(each.get("title", each["front_end"]) for each in missing if why in each.values())
        said.append(f"{', '.join(names)}: {why}.")
    return " ".join(said)

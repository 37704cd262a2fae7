"""Other servers beside ours, as tables: each function takes a recording of `peers`, and none measures.

A figure is the range of a peer's rounds. Raises `LookupError` if the recording has no samples for a table.

Taught in: 08a_which_numbers_are_true
"""

import statistics
from typing import Any

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.page.tables import Table

RECORDING = "peers"
_HEADS = (
    "server",
    "first answer after, s",
    "memory, MB",
    "tokens/s",
    "first token, ms: median; 99 %",
    "between tokens, ms: median; 99 %",
    "machine's speed",
)


def table(run: Recording) -> Table:
    """A row for each peer, in the order of the first round; one that wasn't measured says why."""
    rows = tuple(_row(run, name) for name in _names(run))
    if not rows:
        raise LookupError(f"got a recording of {run.name} without any peer, expected some")
    return Table(_HEADS, rows, _note(run))


def a_whole_answer_is_late(run: Recording) -> bool:
    """Whether the same server's first token came over five times later where it sends answers as a whole."""
    return min(_first_tokens(run, "mosec-whole")) > 5 * max(_first_tokens(run, "mosec"))


def without_batches_all_wait(run: Recording) -> bool:
    """Whether the first token came over ten times later than here where each worker serves one request at a time."""
    return min(_first_tokens(run, "uvicorn")) > 10 * max(_first_tokens(run, "ours"))


def _first_tokens(run: Recording, name: str) -> list[float]:
    """The median of each round, in milliseconds."""
    found = [each["ttft_ms"][0] for each in run.of("peer", peer=name)]
    if not found:
        raise LookupError(f"got a recording of {run.name} without {name}, expected it")
    return found


def _names(run: Recording) -> list[str]:
    return list(dict.fromkeys(each["peer"] for each in run.samples if "peer" in each))


def _row(run: Recording, name: str) -> tuple[str, ...]:
    rounds = run.of("peer", peer=name)
    if not rounds:
        return _not_measured(run, name)
    figures = (
        span([each["start_seconds"] for each in rounds], 1),
        span([each["memory_mb"] for each in rounds]),
        span([each["tokens_per_second"] for each in rounds]),
        _latency(rounds, "ttft_ms"),
        _latency(rounds, "inter_token_ms"),
        _speed(run, rounds),
    )
    return (_title(rounds[0]), *figures)


def _title(sample: dict[str, Any]) -> str:
    versions = " ".join(f"{package} {version}" for package, version in sample["versions"].items() if package != "torch")
    about = ", ".join(filter(None, [sample["note"], versions]))
    return f"{sample['title']} ({about})" if about else sample["title"]


def _not_measured(run: Recording, name: str) -> tuple[str, ...]:
    [sample, *_] = [each for each in run.samples if each.get("peer") == name]
    why = "not installed" if sample["what"] == "absent" else "failed"
    return (sample["title"], why, *["–"] * (len(_HEADS) - 2))


def _latency(rounds: list[dict[str, Any]], field: str) -> str:
    """The range of the medians, and that of the 99th percentiles; nothing for answers that came as a whole."""
    median, _, highest = zip(*(each[field] for each in rounds), strict=True)
    return f"{span(median, 1)}; {span(highest, 1)}" if max(median) else "–"


def _speed(run: Recording, rounds: list[dict[str, Any]]) -> str:
    """How fast the machine was meanwhile, by a fixed loop's time, over its fastest moment in this recording."""
    fastest = min(ms for each in run.of("peer") for ms in each["loop_ms"])
    return f"{span([100 * fastest / statistics.mean(each['loop_ms']) for each in rounds])} %"


def span(values: Any, digits: int = 0) -> str:
    """The least and the largest value as words; one number if both read the same."""
    low, high = f"{min(values):,.{digits}f}", f"{max(values):,.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _note(run: Recording) -> str:
    clients = sorted({each["client"] for each in run.of("peer")})
    load = "16 clients, about 64 tokens of prompt, answers of 4 to 64 tokens (34 on average), greedy, streamed"
    return f"{load}; asked by {' and '.join(clients)}." if clients else ""

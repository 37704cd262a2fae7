"""The recorded fates of servers that lost a process, and rows for the table that a reader fills in beforehand.

A cell measured in the reader's own run stands in the place of the recorded one. It measures nothing.

Taught in: 09_who_notices_a_death
"""

from collections.abc import Callable, Iterable, Mapping

from lab_support.instruments.record import recordings
from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.figures.fates.cells import CLIENT_WORDS, STOP, FateCell, Live, killed
from lab_support.notebook.page.tables import Table

NAME = "fate_matrix"
Option = Callable[[FateCell], str]


def load() -> Recording:
    """The recording. Raises `NoRecording`."""
    return recordings.load(NAME)


# ---- rows of a table -------------------------------------------------------------------------------------------------


def cells(live: Live, recorded: Recording) -> dict[str, FateCell]:
    """All cells of kills by their names, such as "api-0 killed while idle"; for `rows` and `seen`.

    live: a cell's result, or dicts as `fate` returns them.
    """
    return {cell.name: cell for cell in killed(live, recorded).values()}


def rows(found: Mapping[str, FateCell], option: Option, names: Iterable[str] = ()) -> dict[str, str]:
    """For each row the option that was found. option: one of `who`, `when`, `clients`, `server` below, or your own.

    names: the rows, in their order; all of them by default. Raises `LookupError` for a name that is no cell's.
    """
    return {name: option(_one(found, name)) for name in names or found}


def seen(found: Mapping[str, FateCell], names: Iterable[str] = ()) -> dict[str, str]:
    """For each row, the words that it was judged by. Raises `LookupError` like `rows`."""
    return {name: _seen(_one(found, name)) for name in names or found}


def _one(found: Mapping[str, FateCell], name: str) -> FateCell:
    if name not in found:
        raise LookupError(f"got {name!r}, expected one of {', '.join(found)}")
    return found[name]


def _seen(cell: FateCell) -> str:
    by = f" by {' or '.join(cell.means)}" if cell.means else ""
    return f"{cell.who}{by}, {cell.when_in_words}; {cell.clients}; server {cell.server}; {cell.origin}"


# ---- options ---------------------------------------------------------------------------------------------------------

ALL_ANSWERED, SOME_CUT, ALL_CUT = "all are answered", "some are cut off, the others answered", "all are cut off"
ALL_TOLD, ALL_REFUSED, OTHERWISE = "all get an error event", "all are refused", "something else"


def who(cell: FateCell) -> str:
    """The launcher, each child by itself, or nobody."""
    return cell.who


def when(cell: FateCell) -> str:
    """The order of magnitude of the time until it was noticed."""
    return cell.when


def server(cell: FateCell) -> str:
    """The server ended, or goes on."""
    return cell.server


def clients(cell: FateCell) -> str:
    """The ends of the clients' answers, as one of the options above, over all repeats."""
    options = {
        frozenset({"done"}): ALL_ANSWERED,
        frozenset({"done", "cut off"}): SOME_CUT,
        frozenset({"cut off"}): ALL_CUT,
        frozenset({"error event"}): ALL_TOLD,
        frozenset({"refused"}): ALL_REFUSED,
    }
    return options.get(frozenset(name for fate in cell.fates for name in fate["clients"]), OTHERWISE)


# ---- stops under the ways of accepting -------------------------------------------------------------------------------


def by_accept(recorded: Recording) -> Table:
    """A stopped process and four clients that come while nobody notices, by way of accepting: who of them waits?"""
    samples = [each for each in recorded.of("fate", signal=STOP, state="idle") if not each["deadline"]]
    groups: dict[tuple[str, str], list[Mapping[str, int]]] = {}
    for each in samples:
        groups.setdefault((each["role"], each["accept"] or "least-loaded"), []).append(each["clients"])
    heads = ("stopped", "--accept", *(f"clients {CLIENT_WORDS[name]}" for name in _OUTCOMES), "repeats")
    if not groups:
        raise LookupError(f"got a recording of {recorded.name} without stops of an idle server, expected some")
    return Table(heads, tuple((*place, *_counts(found), str(len(found))) for place, found in groups.items()))


_OUTCOMES = ("done", "still waiting")


def _counts(found: list[Mapping[str, int]]) -> list[str]:
    """For each outcome its count in one repeat, as a range if repeats differ, of all clients."""
    total = sum(found[0].values())
    return [f"{_span([each.get(name, 0) for each in found])} of {total}" for name in _OUTCOMES]


def _span(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"

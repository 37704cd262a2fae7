"""How the predictions of appendix 09a are judged, drawn and claimed."""

from collections.abc import Mapping
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table
from lab_support.notebook.servers.draining import CLOSED, ERROR, IDLE, LATE, QUEUED, SERVED, STREAM
from lab_support.notebook.servers.unread import CLIENT, KERNEL, MEMORY
from lab_support.notebook.stages.leaving import LEAVES, QUEUE, TOKENS
from lab_support.notebook.stages.not_reading import NEVER as SILENT
from lab_support.notebook.stages.not_reading import READS, SLOW
from lab_support.notebook.stages.stopping import REFUSED
from lab_support.notebook.stages.stopping import SERVED as MINI_SERVED

# ---- 09a.1: the client hangs up --------------------------------------------------------------------------------------

NONE, FEW, ALL = "none", "1 to 10", "all of the rest"
CLOSES, HALF, COPIED, WAITS = (
    "it closes the connection after two tokens",
    "it ends its sending side alone, and goes on reading",
    "it closes, and a child that it has forked lives on",
    "it closes while it waits for another's answer",
)
LEFT = {CLOSES: FEW, HALF: FEW, COPIED: ALL, WAITS: NONE}


def see_the_leaving(left: ProcessResult) -> Found:
    by_row = left.by("row")
    closed, half = (by_row[row]["end"].partition(" ")[2] for row in (CLOSES, HALF))
    return Found(
        rows={row: _computed(by_row[row]) for row in LEFT},
        seen={row: _times(by_row[row]) for row in LEFT},
        claims=(
            Claim(
                "Half a close is the client's end to the API server, as a whole one is",
                half.startswith("FIN") and closed != "length",
                f"{half}; {closed}",
            ),
        ),
    )


def _computed(seen: dict[str, Any]) -> str:
    count = seen["computed"]
    if count == 0:
        return NONE
    return FEW if count <= 10 else ALL if count > 0.9 * seen["asked"] else f"{count:.0f}"


def _times(seen: dict[str, Any]) -> str:
    given_up = "never" if seen["engine_ms"] is None else f"{seen['engine_ms']:.1f} ms"
    api, free = f"{seen['api_ms']:.1f} ms", f"{seen['free_ms']:.0f} ms"
    return f"{seen['computed']:.0f} (API server: {api}, engine core: {given_up}, blocks: {free})"


# ---- 09a.mine: an API server that notices ----------------------------------------------------------------------------


def see_the_noticed(noticed: ProcessResult) -> Found:
    clients: dict[str, dict[str, int]] = noticed.told["clients"]
    rows = tuple((name, str(each["computed"]), str(each["read"])) for name, each in clients.items())
    ended = [clients[name]["computed"] for name in (LEAVES, QUEUE)]
    return Found(
        shown=Table(("client", f"computed, of {TOKENS}", "read"), rows),
        claims=(
            Claim(
                "Who leaves costs fewer tokens than all, and before the first one none",
                ended[0] < TOKENS and ended[1] == 0,
                f"{ended[0]} and {ended[1]}",
            ),
        ),
    )


# ---- 09a.2: the client does not read ---------------------------------------------------------------------------------


_USUAL_MOST = 5_000_000  # bytes; more than tcp_wmem has unless somebody has changed it


def _why_untold(told: Mapping[str, Any], kernel_takes_all: bool) -> str:
    """The growth is of pages that are the API server's alone: some kernels take idle ones back meanwhile."""
    if kernel_takes_all:
        return "the kernel takes all of it here: see tcp_wmem"
    return "the API server has given back more of its other memory" if told["grown"] < 0 else ""


def find_the_stream(unread: ProcessResult) -> Found:
    told = unread.told
    places: dict[str, int] = told["bytes"]
    total = sum(places.values())
    shares = {place: count / total for place, count in places.items()}
    largest = max(shares, key=shares.__getitem__)
    kernel_takes_all = places[MEMORY] == 0 and told["most"] > _USUAL_MOST
    finding = f"Of {total / 1e6:.1f} MB that nobody reads, {shares[largest]:.0%} wait in {largest}"
    return Found(
        measured=(told["computed"] / told["asked"], shares),
        shown=lambda: bars(
            {place: {"": count / 1e6} for place, count in places.items()},
            unit="MB",
            finding=f"{finding}\nby a {told['stand_in']}",
        ),
        claims=(
            Claim(
                "The engine core has computed all of it, though the client has read nothing",
                told["computed"] >= told["asked"] and told["whole"],
                f"{told['computed']:,.0f} of {told['asked']:,} tokens",
            ),
            Claim(
                "A second client has its whole answer before half of the time is over",
                told["neighbour"] >= 50 and told["share"] < 0.5,
                f"after {told['share']:.0%} of it",
            ),
            Claim(
                "What the kernel does not take is in the API server, whose own memory has grown by at least half of it",
                told["grown"] > places[MEMORY] / 2 > 0,
                f"{places[MEMORY] / 1e6:.1f} MB; grown by {told['grown'] / 1e6:.1f} MB",
                _why_untold(told, kernel_takes_all),
            ),
        ),
    )


def letter_of_place(measured: tuple[float, dict[str, float]]) -> str:
    computed, shares = measured
    if computed < 0.95:
        return "a"
    return {CLIENT: "b", KERNEL: "c", MEMORY: "d"}[max(shares, key=shares.__getitem__)]


# ---- 09a.kept: a limit -----------------------------------------------------------------------------------------------


def see_the_limit(limited: ProcessResult) -> Found:
    told = limited.told
    rows = tuple(
        (name, f"{told['read'][name] / 1e6:.1f}", f"{told['most'][name] / 1e6:.2f}", f"{told['kept'][name] / 1e6:.2f}")
        for name in (READS, SLOW, SILENT)
    )
    return Found(
        shown=Table(("client", "MB read", "MB kept for it, at most", "after the last step"), rows),
    )


# ---- 09a.3: SIGTERM --------------------------------------------------------------------------------------------------

DRAINED = {STREAM: SERVED, IDLE: CLOSED, QUEUED: SERVED, LATE: REFUSED}


def see_the_end(drained: ProcessResult) -> Found:
    patient, at_once = (drained.by("timeout")[timeout] for timeout in (60, 0))
    running = [at_once["ends"][name] for name in (STREAM, QUEUED)]
    return Found(
        rows={row: patient["ends"][row] for row in DRAINED},
        seen={row: _in_words(row, patient, at_once) for row in DRAINED},
        claims=(
            Claim(
                "With 0 seconds, the stream and the request from the queue get an error, and its reason",
                running == [ERROR, ERROR],
                " and ".join(running),
            ),
        ),
    )


def _in_words(row: str, patient: dict[str, Any], at_once: dict[str, Any]) -> str:
    return f"after {patient['seconds'][row]:.2f} s; with 0 seconds: {at_once['ends'][row]}"


# ---- 09a.refused: nobody waits in vain -------------------------------------------------------------------------------


def see_the_refusal(refused: ProcessResult) -> Found:
    ends: dict[str, str] = refused.told["ends"]
    return Found(
        shown=Table(("client", "what it got"), tuple(ends.items())),
        claims=(
            Claim(
                "The queue is served, and who comes afterwards is refused at once",
                list(ends.values()) == [MINI_SERVED, MINI_SERVED, REFUSED],
                ", ".join(ends.values()),
            ),
        ),
    )


JUDGES = (
    Judge("09a.1", find=see_the_leaving, expected=LEFT, row_words="If {row}: {option}"),
    Judge("09a.mine", find=see_the_noticed),
    Judge(
        "09a.2",
        find=find_the_stream,
        letter=letter_of_place,
        reached={
            "a": (0.3, {CLIENT: 0.1, KERNEL: 0.8, MEMORY: 0.1}),
            "b": (1.0, {CLIENT: 0.9, KERNEL: 0.1, MEMORY: 0.0}),
            "c": (1.0, {CLIENT: 0.02, KERNEL: 0.67, MEMORY: 0.31}),
            "d": (1.0, {CLIENT: 0.02, KERNEL: 0.3, MEMORY: 0.68}),
        },
    ),
    Judge("09a.kept", find=see_the_limit),
    Judge("09a.3", find=see_the_end, expected=DRAINED, row_words="If {row}: {option}"),
    Judge("09a.refused", find=see_the_refusal),
)

"""How the predictions of notebook 07 are judged, drawn and claimed."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

# ---- 07.3: three parents, three children -----------------------------------------------------------------------------

LIMIT = 3.0  # seconds, as in the cells
AT_ONCE, AT_LIMIT, TOO_EARLY = "knows at once", "waits to its limit", "goes on too early"
CHILDREN = {"slow": "slow child", "killed": "killed child", "raises": "raising child"}
NINE = {
    "sleeper, slow child": TOO_EARLY,
    "sleeper, killed child": TOO_EARLY,
    "sleeper, raising child": TOO_EARLY,
    "poller, slow child": AT_ONCE,
    "poller, killed child": AT_LIMIT,
    "poller, raising child": AT_LIMIT,
    "waiter, slow child": AT_ONCE,
    "waiter, killed child": AT_ONCE,
    "waiter, raising child": AT_ONCE,
}


def who_waits(parents: ProcessResult) -> Found:
    told = {row_of(each): each for each in _pairs(parents)}
    return Found(
        rows={row: outcome(told[row]) for row in NINE},
        seen={row: in_words(told[row]) for row in NINE},
    )


def _pairs(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events if "parent" in event.fields]


def row_of(told: Mapping[str, Any]) -> str:
    return f"{told['parent']}, {CHILDREN.get(told['child'], told['child'])}"


def outcome(told: Mapping[str, Any]) -> str:
    """The option for one pair. Its answer came at once if it came well before the limit, counted from the event."""
    if told["said"] == "ready" and not told["served"]:
        return TOO_EARLY
    soon = told["after"] is not None and told["after"] < LIMIT / 3
    return AT_ONCE if told["said"] != "late" and soon else AT_LIMIT


def in_words(told: Mapping[str, Any]) -> str:
    client = {True: "; a client is served", False: "; a client is refused", None: ""}[told["served"]]
    return f"“{told['said']}” after {told['waited']:.1f} s{client}"


# ---- 07.4: the message alone -----------------------------------------------------------------------------------------


def wait_alone(waits: ProcessResult) -> Found:
    alone, with_end = (
        {each["child"]: each for each in _pairs(waits) if each["parent"] == name}
        for name in ("message_alone", "message_and_end")
    )
    heads = ("the child", "the message alone", "message and sentinel", "its end of the pipe is open in")
    rows = tuple(
        (child, in_words(each), in_words(with_end[child]), " and ".join(each["held"])) for child, each in alone.items()
    )
    dead = [alone[child] for child in ("killed", "raises")]
    killed = alone["killed"]
    return Found(
        measured=[killed["said"], killed["waited"]],
        shown=Table(heads, rows),
        claims=(
            Claim(
                "With the message alone, the parent waits to its limit for both dead children, and holds their ends",
                all(at_limit(each) and each["held"] == ["the parent"] for each in dead),
                got=" and ".join(f"{each['waited']:.1f} s" for each in dead),
            ),
            Claim(
                "With the sentinel as well, it is late for the stuck child alone",
                [each["said"] for each in with_end.values()] == ["ready", "dead", "dead", "late"],
                got=", ".join(f"{child}: {each['said']}" for child, each in with_end.items()),
            ),
        ),
    )


def at_limit(told: Mapping[str, Any]) -> bool:
    return bool(told["said"] == "late" and told["waited"] > LIMIT / 2)


def letter_of_wait(measured: Sequence[Any]) -> str:
    said, waited = measured
    if said == "late":
        return "b" if waited > LIMIT / 2 else "d"
    return {"EOFError": "a", "InterruptedError": "c"}.get(said, "")


JUDGES = (
    Judge("07.3", find=who_waits, expected=NINE, row_words="{row}: the parent {option}"),
    Judge(
        "07.4",
        find=wait_alone,
        letter=letter_of_wait,
        reached={"a": ["EOFError", 0.3], "b": ["late", 3.0], "c": ["InterruptedError", 0.3], "d": ["late", 0.3]},
    ),
)

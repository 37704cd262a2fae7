"""How the predictions of notebook 07 are judged, drawn and claimed."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.plots import Picture
from lab_support.notebook.figures.who_waits import ANSWERS, Wait, who_waits
from lab_support.notebook.moves.verdicts import Claim, Found, Judge

# ---- 07.3: three parents, three children -----------------------------------------------------------------------------

LIMIT, LIMIT_ALONE = 3.0, 2.0  # seconds, as in the two cells
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


def nine_waits(parents: ProcessResult) -> Found:
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
    killed, dead = alone["killed"], [alone["killed"], alone["raises"]]
    return Found(
        measured=[killed["said"], killed["waited"]],
        shown=lambda: drawn(alone, with_end),
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


def drawn(alone: Mapping[str, Any], with_end: Mapping[str, Any]) -> Picture:
    waits = [
        *(a_wait("the message alone", each, held=True) for each in alone.values()),
        *(a_wait("message and sentinel", each) for each in with_end.values()),
    ]
    killed, told = alone["killed"], with_end["killed"]
    finding = (
        f"Without the sentinel, the parent of the killed child waits for {killed['waited']:.1f} s; with it, "
        f"for {told['waited']:.1f} s"
    )
    return who_waits(waits, finding)


def a_wait(parent: str, told: Mapping[str, Any], held: bool = False) -> Wait:
    return Wait(
        parent,
        {"raises": "raising"}.get(told["child"], told["child"]),
        told["said"] if told["said"] in ANSWERS else "ready" if told["said"] == "READY" else "dead",
        told["waited"],
        None if told["after"] is None else max(0.0, told["waited"] - told["after"]),
        died=told["child"] in ("killed", "raises"),
        note=f"the pipe's other end is open in {' and '.join(told['held']) or 'no process'}" if held else "",
    )


def at_limit(told: Mapping[str, Any]) -> bool:
    return bool(told["said"] == "late" and told["waited"] > LIMIT_ALONE / 2)


def letter_of_wait(measured: Sequence[Any]) -> str:
    said, waited = measured
    if said == "late":
        return "b" if waited > LIMIT_ALONE / 2 else "d"
    return {"EOFError": "a", "InterruptedError": "c"}.get(said, "")


JUDGES = (
    Judge("07.3", find=nine_waits, expected=NINE, row_words="{row}: the parent {option}"),
    Judge(
        "07.4",
        find=wait_alone,
        letter=letter_of_wait,
        reached={"a": ["EOFError", 0.3], "b": ["late", 2.0], "c": ["InterruptedError", 0.3], "d": ["late", 0.3]},
    ),
)

"""How the predictions of notebook 03 are judged, drawn and claimed."""

import sys
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.descriptor_tables import descriptor_tables
from lab_support.notebook.figures.roads import roads
from lab_support.notebook.figures.xray import xray
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

# ---- 03.1: four ways into a child ------------------------------------------------------------------------------------


def count_messages(journey: ProcessResult) -> Found:
    messages = {way: seen["messages"] for way, seen in journey.by("way").items()}
    counts, traced = list(messages.values()), seen_by_strace(journey)
    sizes = [size for seen in journey.by("way").values() for size in seen["descriptors"]]
    return Found(
        measured=counts[:3],
        shown=lambda: roads(messages),
        claims=(
            Claim(
                "The socket is in no message for fork and spawn, and in one each for forkserver and a later send",
                counts == [0, 0, 1, 1],
                got=f"{', '.join(map(str, counts))}; descriptors in the messages: {', '.join(map(str, sizes))}",
            ),
            Claim(
                "strace, which follows every process of the family, sees no further message with descriptors",
                traced == len(sizes),
                got=traced,
                untestable="strace saw nothing here" if traced is None else "",
            ),
        ),
    )


def seen_by_strace(run: ProcessResult) -> int | None:
    """The number of messages with descriptors, whoever sent them; None without strace."""
    return len(run.trace.descriptor_messages) if run.trace and run.trace.calls else None


# ---- 03.2: after the crash -------------------------------------------------------------------------------------------


def hold_the_port(crashed: ProcessResult) -> Found:
    runs = [event.fields for event in crashed.events if "way" in event.fields]
    taken = [(run["way"], run["careful"]) for run in runs if run["port"] != "free"]
    heads = ("start method", "careful", "the API server has it", "sleep has it", "after the crash")
    rows = tuple(
        (
            run["way"],
            *("yes" if run[key] else "no" for key in ("careful", "server_has_it", "sleep_has_it")),
            run["port"].partition(" (")[0],
        )
        for run in runs
    )
    return Found(
        measured=[way for way, careful in taken if not careful],
        shown=Table(heads, rows),
        claims=(
            Claim(
                "After the crash, sleep keeps the port of the spawned API server that was not careful, and no other",
                taken == [("spawn", False)],
                got=", ".join(f"{way}, {'careful' if careful else 'not careful'}" for way, careful in taken),
            ),
        ),
    )


def letter_of_holders(taken: list[str]) -> str:
    return {(): "a", ("fork",): "b", ("fork", "spawn"): "c", ("spawn",): "d"}.get(tuple(taken), "")


# ---- 03.3: the number on arrival -------------------------------------------------------------------------------------


def find_the_number(by_hand: ProcessResult) -> Found:
    before, after = xray(by_hand, "before").graph, xray(by_hand, "after").graph
    told = by_hand.told
    sender, receiver = after.processes
    taken = {hold.number for hold in before.holds if hold.pid == receiver.pid} | {0, 1, 2}
    lowest = min(set(range(100)) - taken)
    leads_to = {(hold.pid, hold.number): hold.object_id for hold in after.holds}
    same = leads_to.get((receiver.pid, told["arrived"])) == leads_to[sender.pid, told["sent"]]
    place = _place(told["arrived"], told["sent"], lowest)
    finding = f"Sent as {told['sent']}, it arrived as {told['arrived']}" + ", the lowest free number" * (place == "low")
    return Found(
        measured=place if same else "elsewhere",
        shown=lambda: descriptor_tables(before, after, finding),
        claims=(
            Claim(
                "The descriptor arrives under the receiver's lowest free number, and leads to the sender's socket",
                told["arrived"] == lowest and same,
                got=f"sent {told['sent']}, arrived {told['arrived']}; the receiver's own was {told['own']}",
            ),
        ),
    )


def _place(arrived: int, sent: int, lowest: int) -> str:
    if arrived == lowest:
        return "low"
    return "sent" if arrived == sent else "above"


def letter_of_place(place: str) -> str:
    return {"low": "a", "sent": "b", "above": "c", "elsewhere": "d"}[place]


# ---- 03.4: room for one ----------------------------------------------------------------------------------------------


def count_arrivals(rooms: ProcessResult) -> Found:
    seen = rooms.by("room")
    heads = ("room", "bytes", "data read", "descriptors at once", "with the next recvmsg", "MSG_CTRUNC")
    rows = tuple((name, *(str(value) for value in list(each.values())[1:])) for name, each in seen.items())
    one, padded = seen.get("for one"), seen.get("for one, padded")
    arrived = (one["at_once"], one["later"]) if one else ()
    return Found(
        measured=arrived,
        shown=Table(heads, rows),
        claims=(
            Claim(
                "With room for one of four, one arrives, the others never do, and MSG_CTRUNC tells of it",
                arrived == (1, 0) and one is not None and one["cut"],
                got=" and ".join(map(str, arrived)),
            ),
            Claim(
                "CMSG_SPACE for one makes room for two",
                bool(padded) and padded["at_once"] == 2,
                got=padded["at_once"] if padded else 0,
                untestable="" if sys.maxsize > 2**32 else "only 64-bit machines pad that much",
            ),
        ),
    )


def letter_of_arrivals(arrived: tuple[int, ...]) -> str:
    return {(): "a", (1, 3): "b", (1, 0): "c", (4, 0): "d"}.get(tuple(arrived), "")


# ---- 03.5: the sleeping sibling --------------------------------------------------------------------------------------


def wake_the_sibling(sibling: ProcessResult) -> Found:
    accepts = sibling.by("accept")
    came = [accepts.get(number, {"came": "nothing"}) for number in (1, 2)]
    rows = tuple(
        (f"accept() number {number}", seen["came"], str(seen.get("timeout", "–")))
        for number, seen in enumerate(came, 1)
    )
    served, failed = came[0]["came"] == "a client", "timeout" in came[1]
    return Found(
        measured=[_outcome(seen) for seen in came],
        shown=Table(("the patient worker", "what came", "gettimeout()"), rows),
        claims=(
            Claim(
                "The accept() that slept already is served, and the next one fails at once",
                served and failed,
                got=came[1]["came"],
            ),
            Claim(
                "The kernel shows the flag in the worker that never set it, and its Python object says that it blocks",
                sibling.told["flag_there"] and came[1].get("timeout", "") is None,
            ),
        ),
    )


def _outcome(seen: dict[str, Any]) -> str:
    return "failed" if "timeout" in seen else {"a client": "served", "nothing": "slept"}[seen["came"]]


def letter_of_accepts(accepts: list[str]) -> str:
    known = {"served slept": "a", "failed slept": "b", "failed failed": "b", "slept slept": "c", "served failed": "d"}
    return known.get(" ".join(accepts), "")


# ---- 03.6: shared, or each one's own ---------------------------------------------------------------------------------


def compare_twins(twins: ProcessResult) -> Found:
    seen = twins.by("row")
    return Found(
        rows={row: SHARED if each["after"] != each["before"] else OWN for row, each in seen.items()},
        seen={row: f"{each['before']}; child {each['there']}, parent {each['after']}" for row, each in seen.items()},
    )


SHARED, OWN = "shared", "each one's own"
BOTH = {
    "blocking or not": SHARED,
    "gettimeout()": OWN,
    "limit of the accept queue": SHARED,
    "file offset": SHARED,
    "close-on-exec": OWN,
    "open or closed": OWN,
    "end of a connection": SHARED,
}

JUDGES = (
    Judge(
        "03.1",
        find=count_messages,
        letter=lambda counts: {(0, 1, 1): "a", (0, 0, 1): "b", (0, 0, 0): "c", (1, 1, 1): "d"}.get(tuple(counts), ""),
        reached={"a": [0, 1, 1], "b": [0, 0, 1], "c": [0, 0, 0], "d": [1, 1, 1]},
    ),
    Judge(
        "03.2",
        find=hold_the_port,
        letter=letter_of_holders,
        reached={"a": [], "b": ["fork"], "c": ["fork", "spawn"], "d": ["spawn"]},
    ),
    Judge(
        "03.3",
        find=find_the_number,
        letter=letter_of_place,
        reached={"a": "low", "b": "sent", "c": "above", "d": "elsewhere"},
    ),
    Judge(
        "03.4",
        find=count_arrivals,
        letter=letter_of_arrivals,
        reached={"a": (), "b": (1, 3), "c": (1, 0), "d": (4, 0)},
    ),
    Judge(
        "03.5",
        find=wake_the_sibling,
        letter=letter_of_accepts,
        reached={
            "a": ["served", "slept"],
            "b": ["failed", "failed"],
            "c": ["slept", "slept"],
            "d": ["served", "failed"],
        },
    ),
    Judge("03.6", find=compare_twins, expected=BOTH, row_words="Of two holders of one thing: {row} is {option}"),
)

LEDGER = (
    Tested(
        sentence=1,
        claims=("The socket that nobody passed on came along with fork, and with nothing else",),
        finding="right by default; the socket that is passed on is the exception, and it is inherited",
        otherwise="your results say otherwise: look at the claims under 03.1",
    ),
    Tested(
        sentence=2,
        claims=("The socket is in no message for fork and spawn, and in one each for forkserver and a later send",),
        finding="not so for spawn, whose child finds the descriptor left open; forkserver does send it",
        otherwise="your counts differ from the text's: look at the figure of 03.1",
    ),
    Tested(
        sentence=3,
        claims=("All four ways end at the parent's open file description, fork and spawn under the same number",),
        finding="not quite: fromfd() would duplicate the descriptor; spawn's child uses the one that it inherited",
        otherwise="your numbers differ from the text's: look at the claims under 03.1",
    ),
    Tested(
        sentence=4,
        claims=("All four ways end at the parent's open file description, fork and spawn under the same number",),
        finding="right for fork, for spawn and for a message",
        otherwise="not so here: a child ended at another open file description",
    ),
    Tested(
        sentence=5,
        claims=(
            "The socket that nobody passed on came along with fork, and with nothing else",
            "All four ways end at the parent's open file description, fork and spawn under the same number",
        ),
        finding="fork shares, but by a copy of the descriptor table: spawn, which shares no memory, ends there too",
        otherwise="your results don't settle it: look at the claims under 03.1",
    ),
)

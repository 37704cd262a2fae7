"""How the predictions of appendix 05a are judged, drawn and claimed."""

from collections.abc import Callable
from typing import Any

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.canvas.plots import Picture
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.memory_roads import ROADS, memory_roads
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.gate import after_prediction
from lab_support.notebook.page.tables import Table
from lab_support.notebook.recordings import cuda_findings as found
from lab_support.notebook.recordings import cuda_sharing as tables
from lab_support.notebook.recordings.recorded import Recorded, titles


def tested(recorded: Recorded, holds: Callable[[Recording], bool]) -> dict[str, Any]:
    """Arguments for a `Claim` about a run that may be missing."""
    said = recorded.tested(holds)
    return {"holds": said.get("condition"), "got": said.get("got"), "untestable": said.get("untestable", "")}


# ---- a CPU tensor ----------------------------------------------------------------------------------------------------

_HEADS = ("child by", "bytes in the pipe", "messages with a descriptor", "child reads", "parent, after the write")
_FIELDS = ("pickled", "messages", "found", "here")


def sent(tensor: ProcessResult) -> Found:
    ways = tensor.by("way")
    rows = tuple((way, *(str(seen[field]) for field in _FIELDS)) for way, seen in ways.items())
    each = list(ways.values())
    claims = (
        Claim(
            "Less than a thousandth goes through the pipe, and one message carries a descriptor",
            all(seen["pickled"] * 1000 < seen["tensor"] and seen["messages"] == 1 for seen in each),
        ),
        Claim("The memory to which it leads has no name any more", all(seen["nameless"] for seen in each)),
        Claim(
            "A write in the child shows in the parent", all(seen["found"] == 5 and seen["here"] == 66 for seen in each)
        ),
    )
    largest = max(seen["pickled"] for seen in each)
    measured = (largest, each[0]["tensor"], each[0]["messages"], each[0]["nameless"])
    return Found(measured=measured, shown=Table(_HEADS, rows), claims=claims)


def letter_of_sent(measured: tuple[int, int, int, bool]) -> str:
    pickled, tensor, messages, nameless = measured
    if pickled > tensor / 2:
        return "a"
    return "b" if messages else "d" if nameless else "c"


# ---- on a GPU --------------------------------------------------------------------------------------------------------

IPC_ROWS = {
    "a spawned receiver": found.READS,
    "a forked receiver": found.FAILS,
    "a spawned one, and the sender ends before the fetch": found.FAILS,
    "a spawned one, and the sender ends after the fetch": found.READS,
}


def by_handle(ipc: Recorded) -> Found:
    travels = Claim("A handle travels, and not the tensor", **tested(ipc, found.a_handle_travels))
    shares = Claim("A spawned receiver's write shows in the sender", **tested(ipc, found.spawned_shares))
    if not (measured := ipc.found(found.received)):
        return Found(shown=ipc, untestable=ipc.missing or "the run ended too early", claims=(travels, shares))
    frame = ipc.frame(found.received)

    def framed(table: Table) -> Recorded:
        words = f"{table.note} What travels: {ipc.found(tables.handle_in_words)}.".strip()
        return frame(Table(table.columns, table.rows)).with_note(words)

    return Found(rows=measured, seen=ipc.found(tables.receivers), frame=framed, claims=(travels, shares))


def by_descriptor(exported: Recorded) -> Found:
    claims = (
        Claim("Each side reads what the other wrote", **tested(exported, found.both_see_the_same)),
        Claim("The bytes outlive their maker", **tested(exported, found.outlives_its_maker)),
        Claim(
            "With mapping and handle gone, the descriptor alone keeps them",
            **tested(exported, found.the_descriptor_holds_it),
        ),
    )
    return Found(measured=exported.found(found.freed_shares), shown=exported, claims=claims)


def roads(tensor: ProcessResult, ipc: Recorded, exported: Recorded) -> Found:
    """The three roads with all that was seen, once the last of their predictions is settled."""
    spawned = tensor.by("way")["spawn"]
    here = f"{spawned['pickled']} bytes, {spawned['messages']} descriptor\ncounted on this machine"

    def draw() -> Picture:
        seen = (here, ipc.found(tables.handle_in_few), exported.found(tables.export_in_few))
        sources = [each.origin for each in (ipc, exported) if each.run]
        source = f"B and C {' and '.join(dict.fromkeys(sources))}" if sources else ""
        picture = memory_roads(dict(zip(ROADS, seen, strict=True)), source)
        return picture.with_note("B and C: " + titles(ipc, exported))

    return Found(shown=after_prediction("05a.3", draw))


# ---- without a prediction --------------------------------------------------------------------------------------------


def costs(cost: Recorded) -> Found:
    claims = (
        Claim("Four processes pay four times", **tested(cost, found.each_process_pays)),
        Claim("The driver's context is more than half of it", **tested(cost, found.mostly_the_context)),
    )
    return Found(shown=cost, claims=claims)


def calls(driver: Recorded) -> Found:
    claims = (
        Claim(
            "After the parent's cuInit, every call of a child gets one and the same error",
            **tested(driver, found.driver_refuses),
        ),
    )
    return Found(shown=driver, claims=claims)


def unguarded(bypassed: Recorded) -> Found:
    claims = (
        Claim("Without the guard comes an error as well, no hang, no crash", **tested(bypassed, found.only_errors)),
        Claim("The parent comes to no harm by it", **tested(bypassed, found.parents_unharmed)),
        Claim("A child that reads the parent's tensor passes the guard", **tested(bypassed, found.guard_is_not_asked)),
    )
    return Found(shown=bypassed, claims=claims)


def server(processes: Recorded) -> Found:
    held = Claim("Engine cores alone hold the GPU", **tested(processes, found.engine_cores_alone_hold_it))
    return Found(shown=processes, claims=(held,))


def killed(freed: Recorded) -> Found:
    claim = Claim("Killed without a child, each gives its memory back", **tested(freed, found.all_came_free))
    return Found(shown=freed, claims=(claim,))


JUDGES = (
    Judge(
        "05a.1",
        find=sent,
        letter=letter_of_sent,
        reached={
            "a": (32_000_300, 32_000_000, 0, True),
            "b": (355, 32_000_000, 1, True),
            "c": (355, 32_000_000, 0, False),
            "d": (24, 32_000_000, 0, True),
        },
    ),
    Judge("05a.2", find=by_handle, expected=IPC_ROWS, row_words="A CUDA tensor through a queue, {row}: {option}"),
    Judge(
        "05a.3",
        find=by_descriptor,
        letter=found.letter_of_freed,
        reached={"a": (1.0, 0, 0, 0), "b": (0.0, 1, 0, 0), "c": (0.0, 0, 1, 0), "d": (0.0, 0, 0, 1)},
    ),
    Judge("05a.roads", find=roads),
    Judge("05a.costs", find=costs),
    Judge("05a.calls", find=calls),
    Judge("05a.unguarded", find=unguarded),
    Judge("05a.server", find=server),
    Judge("05a.killed", find=killed),
)

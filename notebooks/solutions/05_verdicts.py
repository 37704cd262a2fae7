"""How the predictions of notebook 05 are judged, drawn and claimed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.canvas.plots import Picture
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.layers import layers
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.gate import Gated
from lab_support.notebook.page.tables import Table
from lab_support.notebook.recordings import cuda_after_fork as tables
from lab_support.notebook.recordings import cuda_findings as found
from lab_support.notebook.recordings import memory_over_time as memory
from lab_support.notebook.recordings.recorded import Recorded, titles

ENDED_EARLY = "the run ended before it saw this"


def tested(recorded: Recorded, holds: Callable[[Recording], bool]) -> dict[str, Any]:
    """Arguments for a `Claim` about a run that may be missing."""
    said = recorded.tested(holds)
    return {"holds": said.get("condition"), "got": said.get("got"), "untestable": said.get("untestable", "")}


# ---- the guard -------------------------------------------------------------------------------------------------------

GUARD_ROWS = {
    "the parent itself": "may go on",
    "a child that was forked before": "may go on",
    "a child that is forked after": "refused: the flag is set",
    "that child's own child": "refused: the flag is set",
    "a new program that the parent starts": "may go on",
}


def flags(guard: ProcessResult) -> Found:
    last = guard.events[-1].fields
    missing, said = last["missing"], str(last["said"])
    text = Claim(
        "PyTorch refuses, by the text that you know", "Cannot re-initialize CUDA in forked" in said, untestable=missing
    )
    if missing:
        return Found(shown=f"The guard can't be driven here: {missing}", untestable=missing, claims=(text,))
    told = {event.fields["row"]: event.fields["flag"] for event in guard.events[:-1]}
    rows = {row: "refused: the flag is set" if flag else "may go on" for row, flag in told.items()}
    return Found(rows=rows, claims=(text,))


# ---- touches ---------------------------------------------------------------------------------------------------------

TOUCH_ROWS = {
    "torch.cuda.is_available()": found.REFUSED,
    "the same, with PYTORCH_NVML_BASED_CUDA_CHECK=1": found.ALLOWED,
    "torch.cuda.device_count()": found.ALLOWED,
    "torch.manual_seed(0)": found.ALLOWED,
    "NVML, asked how many GPUs there are": found.ALLOWED,
    "a tensor on the GPU": found.REFUSED,
}


def touches(recorded: Recorded) -> Found:
    if not (measured := recorded.found(found.barred)):
        return Found(shown=recorded, untestable=recorded.missing or ENDED_EARLY)
    seen = {row: words.replace("returned: ", "its tensor: ") for row, words in recorded.found(tables.touched).items()}
    frame = recorded.frame(found.barred)

    def of_the_worker(table: Table) -> Recorded:
        columns = ("the worker" if name == "seen" else name for name in table.columns)
        return frame(replace(table, columns=tuple(columns)))

    return Found(rows=measured, seen=seen, frame=of_the_worker)


# ---- the pretend driver ----------------------------------------------------------------------------------------------

PRETEND_ROWS = {
    "store and load, in a child forked before the parent's first use": found.WORKS,
    "load, in a child forked after": found.HANGS,
    "peek, in a child forked after": found.CRASHES,
    "load, in a child where a hook has called refuse": found.ERROR,
    "peek, in a child where a hook has called refuse": found.CRASHES,
}


def end_of(said: object) -> str:
    """The end of a child, from the answer of `in_child`."""
    words = str(said)
    if words == "stuck":
        return found.HANGS
    if words.startswith("ended by"):
        return found.CRASHES
    return found.ERROR if "Error" in words else found.WORKS


def three_ends(result: ProcessResult) -> Found:
    kept, told = (event.fields for event in result.events)
    seen = dict(zip(PRETEND_ROWS, told["said"], strict=True))
    claims = (
        Claim(
            "The kernel keeps one part of the parent's memory from the child, by the flag dc",
            kept["parent"] == kept["child"] + 1,
            f"parent {kept['parent']}, child {kept['child']}",
        ),
        Claim("The parent's driver has come to no harm", told["parent"] == 7, told["parent"]),
    )
    return Found(rows={row: end_of(said) for row, said in seen.items()}, seen=seen, claims=claims)


# ---- two real runtimes -----------------------------------------------------------------------------------------------


def multiplied(result: ProcessResult) -> Found:
    parent, later, alone = (event.fields for event in result.events)
    heads = ("process", "gets", "PyTorch says", "the kernel counts")
    rows = tuple(tuple(str(each.get(head, "not asked")) for head in heads) for each in (parent, later, alone))
    threads = (later["PyTorch says"], later["the kernel counts"])
    claims = (
        Claim("A child forked after its parent multiplied never comes back", later["gets"] == "stuck", later["gets"]),
        Claim(
            "It counts on two threads, and the kernel counts one",
            threads == (2, 1),
            f"PyTorch says {threads[0]}, the kernel {threads[1]}",
        ),
    )
    return Found(measured=(later["gets"], threads[1]), shown=Table(heads, rows, "Threads."), claims=claims)


def letter_of_multiplied(measured: tuple[object, int]) -> str:
    gets, threads = measured
    if gets == "stuck":
        return "c"
    return "d" if gets != 700 else "a" if threads > 1 else "b"


DRIVER_ROWS = {
    "cuInit, after the parent's cuInit": found.ERROR,
    "cuInit, if the parent has called nothing": found.WORKS,
    "cudaGetDeviceCount, after the parent's own": found.WORKS,
    "cudaMalloc, after the parent asked the runtime for its version": found.ERROR,
    "a tensor by PyTorch, with the guard taken away": found.ERROR,
}


def driver(answers: Recorded, bypassed: Recorded) -> Found:
    measured, ended = answers.found(found.driver_answers), bypassed.found(found.bypassed_end)
    if not measured or not ended:
        lacking = bypassed if measured else answers
        return Found(shown=lacking, untestable=lacking.missing or ENDED_EARLY)
    rows = measured | {found.BYPASSED: ended}
    seen = answers.found(found.driver_codes) | {found.BYPASSED: bypassed.found(_bypassed_in_words)}
    frame = answers.frame(found.driver_answers)

    def framed(table: Table) -> Recorded:
        words = f"{table.note} The last row: {bypassed.title}.".strip()
        return frame(replace(table, note="")).with_note(words)

    return Found(rows=rows, seen=seen, frame=framed)


def _bypassed_in_words(run: Recording) -> str:
    return tables.in_words(run.of("forked child", case="first operation")[0])


# ---- whose memory it is ----------------------------------------------------------------------------------------------


def whose_memory(idle: Recorded, orphan: ProcessResult) -> Found:
    runs = {event.fields["child"]: event.fields for event in orphan.events}
    kept = {name: kept_shares(told) for name, told in runs.items()}
    uncounted = "" if all(_is_counted(told) for told in runs.values()) else "this kernel does not count such memory"
    here = Claim(
        "Here, the memory goes with the last process that has its descriptor",
        kept["sleeps"][0] > 0.5 > max(kept["sleeps"][1], *kept["lets_go"]),
        f"kept while the child lives: {_percent(kept['sleeps'][0])}; by one that lets go: "
        f"{_percent(kept['lets_go'][0])}",
        uncounted,
    )
    stays = Claim(
        "On the GPU, the memory stays while an idle child lives, and goes with it",
        **tested(idle, found.kept_until_the_child_ends),
    )
    unnamed = Claim(
        "NVML names the owner while it lives, and not the child", **tested(idle, found.child_is_not_counted)
    )
    shares = idle.found(found.kept_shares)
    return Found(measured=shares or (), shown=_both(idle, runs), claims=(stays, unnamed, here))


def _percent(share: float) -> str:
    return f"{round(100 * share)}%"


def kept_shares(told: Mapping[str, Any]) -> tuple[float, float]:
    """Of a `killed_owner` result with one child: the shares in use while the child lives, and after its end."""
    held = told["steps"][0]["seen"][-1][1] - told["before"]
    least, last = min(used for _, used in told["steps"][1]["seen"]), told["steps"][2]["seen"][-1][1]
    return (least - told["before"]) / max(held, 1), (last - told["before"]) / max(held, 1)


def _is_counted(told: Mapping[str, Any]) -> bool:
    return bool(told["steps"][0]["seen"][-1][1] > told["before"] + (128 << 20))


def _both(idle: Recorded, runs: Mapping[str, Mapping[str, Any]]) -> Any:
    """The recording and this machine's measurement side by side; alone if there is no recording."""
    here = memory.measured_here({name.replace("_", " "): told for name, told in runs.items()})
    if idle.run is None:
        return memory.drawn(idle.title, here)

    def draw(run: Recording) -> Picture:
        there = replace(memory.on_the_gpu(run), heading=idle.origin.replace("recorded", "RECORDED"))
        return memory.drawn(memory.FINDINGS[found.end_of_memory(run)], there, here)

    return idle.shown_as(draw)


def letter_of_memory(shares: tuple[float, ...]) -> str:
    return found.letter_of_memory((shares[0], shares[1])) if shares else ""


# ---- getting it right ------------------------------------------------------------------------------------------------


def ways(late: Recorded, early: Recorded) -> Found:
    claims = (
        Claim("Children by spawn and by forkserver work", **tested(late, found.new_programs_work)),
        Claim("A child that was forked before works", **tested(early, found.forked_first_works)),
        Claim("A started child waits for PyTorch's start, not for CUDA's", **tested(late, found.starting_costs)),
    )
    before = early.found(lambda run: tables.in_words(run.of("forked child")[0]))
    note = f"Forked before the parent's first use: {before} ({early.origin})." if before else early.title
    return Found(shown=late.with_note(note), claims=claims)


def outcomes(late: Recorded, answers: Recorded, idle: Recorded) -> Found:
    met = {"PyTorch": late, "the libraries below it": answers, "kernel and device": idle}

    def draw() -> Picture:
        sources = dict.fromkeys(run.origin for run in met.values() if run.run)
        outcomes = {layer: run.found(found.layers_met) for layer, run in met.items()}
        picture = layers(outcomes, " and ".join(sources))
        return picture.with_note(titles(*met.values()))

    return Found(shown=Gated("05.6", lambda comparison: draw()))


JUDGES = (
    Judge("05.1", find=flags, expected=GUARD_ROWS, row_words="After the parent's first call, {row}: {option}"),
    Judge(
        "05.2", find=touches, expected=TOUCH_ROWS, row_words="A worker whose launcher did only this, {row}: {option}"
    ),
    Judge("05.3", find=three_ends, expected=PRETEND_ROWS, row_words="With the pretend driver, {row}: {option}"),
    Judge(
        "05.4",
        find=multiplied,
        letter=letter_of_multiplied,
        reached={"a": (700.0, 2), "b": (700.0, 1), "c": ("stuck", 1), "d": ("RuntimeError: no threads", 1)},
    ),
    Judge("05.5", find=driver, expected=DRIVER_ROWS, row_words="In a forked child, {row}: {option}"),
    Judge(
        "05.6",
        find=whose_memory,
        letter=letter_of_memory,
        reached={"a": (1.0, 0.0), "b": (0.0, 0.0), "c": (0.4, 0.0), "d": (1.0, 1.0)},
    ),
    Judge("05.ways", find=ways),
    Judge("05.layers", find=outcomes),
)

LEDGER = (
    Tested(
        sentence=12,
        claims=(
            "In a forked child, cuInit, after the parent's cuInit: an error",
            "In a forked child, a tensor by PyTorch, with the guard taken away: an error",
            "PyTorch refuses, by the text that you know",
            "A child forked after its parent multiplied never comes back",
        ),
        finding="not so with the driver that was recorded: such a call gets an error, from PyTorch or from the driver. "
        "The hang that you had is libgomp's, on the CPU",
        otherwise="your results differ from the text's: see the rows of 05.5, and 05.1 and 05.4",
    ),
    Tested(
        sentence=13,
        claims=(
            "A worker whose launcher did only this, torch.cuda.is_available(): refused",
            "Children by spawn and by forkserver work",
        ),
        finding="it is the right decision: after a first call a forked worker is refused, and a spawned one works. "
        "That vLLM takes it was read in its source; 06 runs such a rule",
        otherwise="your results differ from the text's: see 05.2, and the table of started children",
    ),
)

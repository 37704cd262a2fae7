"""The recorded experiments on CUDA and fork as tables: each function takes a recording, and none measures.

The outcomes are the recordings' own words: returned, raised, crashed, hung. A case that is not in a recording has no
row. Raises `LookupError` if a recording has no samples for a table. The lessons' claims about the same recordings are
in `cuda_findings.py`.

Taught in: 05_why_does_cuda_break_after_fork
"""

import re
from typing import Any

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.page.tables import Table
from lab_support.notebook.recordings import touch_signs
from lab_support.notebook.recordings.cuda_findings import TOUCHES, some

_LONGEST = 62


def in_words(sample: dict[str, Any]) -> str:
    """The outcome of a child's attempt: its own word, and the error, signal or value behind it."""
    outcome = sample["outcome"]
    if outcome.startswith("raised"):
        return f"{outcome}: {sample['error']}: {short(sample['text'])}"
    if outcome.startswith("crashed"):
        return f"{outcome}: {sample['signal'] or sample['exit_code']}"
    return f"{outcome}: {short(_result(sample['value']))}" if outcome.startswith("returned") else outcome


def _result(value: Any) -> str:
    """The value that a first operation computed, without the guard's answer."""
    return str(value["result"]) if isinstance(value, dict) and "result" in value else str(value)


def touched(run: Recording) -> dict[str, str]:
    """what_trips_the_guard: for each row of `TOUCHES`, the outcome of the child's first operation."""
    found = {}
    for row, (touch, way) in TOUCHES.items():
        for sample in run.of("forked child", asks="first operation", case=f"{touch}, {way}"):
            found[row] = in_words(sample)
    return dict(some(found, run))


def started(run: Recording) -> Table:
    """fork_after_cuda: children of a parent that has used CUDA, by start method; seconds are the range of repeats."""
    rows = []
    for each in run.of("forked child", asks="first operation"):
        rows.append(("fork", in_words(each), "–", f"{each['ms'] / 1000:.3f}"))
    for method in dict.fromkeys(each["method"] for each in run.of("started child")):
        children = run.of("started child", method=method)
        ends = [in_words(each) for each in children]
        words = f"{len(ends)} times {ends[0]}" if len(set(ends)) == 1 else "; ".join(ends)
        waits = [[each.get(field) for each in children] for field in ("ms_to_entry", "ms")]
        rows.append((method, words, *(_seconds(each, 1) for each in waits)))
    heads = ("made after the parent's first use, by", "its first operation", "seconds to its first line",
             "seconds of the operation")  # fmt: skip
    return Table(heads, tuple(some(rows, run)))


def _seconds(milliseconds: list[float | None], digits: int) -> str:
    """The range of the known values, in seconds."""
    known = [each / 1000 for each in milliseconds if each is not None]
    if not known:
        return "–"
    low, high = f"{min(known):.{digits}f}", f"{max(known):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def forked_first(run: Recording) -> Table:
    """fork_before_cuda: children that use CUDA first, their parent after them, and a child forked after that."""
    names = {"forked child": "child, forked before", "forked child after that": "child, forked after the parent's use"}
    rows = tuple((name, in_words(each)) for what, name in names.items() for each in run.of(what))
    return Table(("process", "its first operation"), tuple(some(rows, run)))


# ---- below PyTorch ---------------------------------------------------------------------------------------------------


def codes(run: Recording) -> Table:
    """driver_after_fork, the driver's part: calls of one forked child, in order, by the parent's earlier calls."""
    return _in_a_row(run, runtime=False)


def runtime_codes(run: Recording) -> Table:
    """driver_after_fork, the runtime's part: the same for libcudart, which is built on the driver."""
    return _in_a_row(run, runtime=True)


def _in_a_row(run: Recording, *, runtime: bool) -> Table:
    samples = [each for each in run.of("forked child in a row") if each["case"].startswith("runtime") == runtime]
    columns = {each["case"]: _answers(each) for each in sorted(samples, key=lambda each: _depth(each["case"]))}
    calls = list(dict.fromkeys(call for answers in some(columns, run).values() for call in answers))
    rows = tuple((call, *(answers.get(call, "–") for answers in columns.values())) for call in calls)
    return Table(("one child calls, in this order", *(f"parent: {_parent_did(case)}" for case in columns)), rows)


def _answers(sample: dict[str, Any]) -> dict[str, str]:
    """By call, its code and name, without the names' common prefix; for a child that did not finish, its outcome."""
    if not sample["outcome"].startswith("returned"):
        return {"all": in_words(sample)}
    names = {each["name"]: re.sub(r"^(CUDA_ERROR_|CUDA_)", "", each["name"]) for each in sample["value"]}
    return {each["call"].removesuffix("_v2"): f"{each['code']} {names[each['name']]}" for each in sample["value"]}


def _depth(case: str) -> int:
    """The parent's progress, as a number to sort by."""
    order = ("nothing", "loaded", "its version", "cuInit", "primary context", "context", "cudaGetDeviceCount")
    done = case.rpartition(", ")[2]
    return order.index(done) if done in order else len(order)


def _parent_did(case: str) -> str:
    done = case.rpartition(", ")[2]
    return {"loaded": "library loaded", "its version": "library loaded, version asked"}.get(done, done)


def without_guard(run: Recording) -> Table:
    """guard_bypassed: the child's attempt, its outcome, and the parent's state afterwards."""
    samples = some(run.of("forked child"), run)
    after = {sample["case"]: "fine" if sample["ok"] else sample["error"] for sample in run.of("parent afterwards")}
    rows = tuple((_bypassed(each["case"]), in_words(each), after.get(each["case"], "–")) for each in samples)
    return Table(("the child", "outcome", "its parent afterwards"), rows)


def _bypassed(case: str) -> str:
    return case if case.startswith("guard in place") else f"guard bypassed: {case}"


# ---- the device ------------------------------------------------------------------------------------------------------


def inherited(run: Recording) -> Table:
    """idle_forked_child: parts of the device held by the parent, and by its child that never touched CUDA."""
    pairs = [("parent", each) for each in run.of("parent")[:1]]
    pairs += [("idle child", each) for each in run.of("idle child")[:1]]
    rows = tuple(
        (who, str(len(each["device_files"])), str(each["device_mappings"]), str(each["threads"]))
        for who, each in some(pairs, run)
    )
    heads = ("process", "open descriptors of /dev/nvidia*", "mappings of /dev/nvidia*", "threads")
    return Table(heads, rows)


def freed(run: Recording) -> Table:
    """memory_after_kill, its bare processes: the number killed, and the time until their memory was free."""
    rounds = some(run.of("bare round"), run)
    killed, left = sum(each["count"] for each in rounds), sum(each["left"] for each in rounds)
    at_once = ", ".join(sorted({str(each["count"]) for each in rounds}))
    times = [each["ms_until_free"] for each in rounds]
    free = "not all of it became free" if None in times else _seconds(times, 2)
    heads = ("processes that held 1 GiB each", "killed at once", "seconds until all their memory was free", "left")
    return Table(heads, ((str(killed), at_once, free, str(left)),))


def signs(run: Recording) -> Table:
    """what_a_touch_leaves: a row for each touch whose forked child is known; touches that bar the child come last."""
    children = touch_signs.barred()
    held = {each["case"]: each for each in run.of("holds")}
    rows = tuple(
        (
            touch,
            "can't use the GPU" if children[touch] else "can",
            str(held[touch]["threads"]),
            str(len(held[touch]["device_files"])),
            str(held[touch]["device_mappings"]),
        )
        for touch in sorted(children, key=lambda name: children[name])
    )
    return Table(("it did", "its forked child", "threads", "device files open", "device files mapped"), rows)


def of_the_server(run: Recording) -> Table:
    """server_processes: the parts of the GPU that each process of our server holds, and its private host memory."""
    rows = tuple(
        (
            each["role"],
            str(len(each["device_files"])),
            str(each["device_mappings"]),
            "yes" if "libcuda" in each["libraries"] else "no",
            f"{each['host_memory']['uss'] / 1e6:.0f}",
        )
        for each in some(run.of("process"), run)
    )
    return Table(("process", "device files open", "mapped", "NVIDIA's driver loaded", "own memory, MB"), rows)


def short(text: str) -> str:
    """The first line of an error's text, cut to as many sentences, or words, as a table has room for."""
    line = text.partition("\n")[0]
    if len(line) <= _LONGEST:
        return line
    sentences = line[:_LONGEST].rpartition(". ")[0]
    return f"{sentences}." if sentences else f"{line[: _LONGEST - 2].rpartition(' ')[0]} …"

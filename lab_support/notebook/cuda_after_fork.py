"""What the recorded experiments on CUDA and fork say, as tables: each takes a recording, and none measures.

The outcomes are the recordings' own words: returned, raised, crashed, hung. A case that is not in a recording has no
row. Raises `LookupError` where a recording has nothing of what a table is about.

Taught in: 05_why_does_cuda_break_after_fork
"""

from typing import Any

from lab_support.instruments.recordings import Recording
from lab_support.notebook.tables import Table

_LONGEST = 90


def in_words(sample: dict[str, Any]) -> str:
    """How a child ended that tried something: its own word, and the error, signal or value behind it."""
    outcome = sample["outcome"]
    if outcome.startswith("raised"):
        return f"{outcome}: {sample['error']}: {_short(sample['text'])}"
    if outcome.startswith("crashed"):
        return f"{outcome}: {sample['signal'] or sample['exit_code']}"
    return f"{outcome}: {_short(str(sample['value']))}" if outcome.startswith("returned") else outcome


def touches(run: Recording) -> Table:
    """what_trips_the_guard: what the parent did, and what its child's first operation came to; plain, and by NVML."""
    samples = _some(run.of("forked child", asks="first operation"), run)
    names = dict.fromkeys(sample["touch"] for sample in samples)
    ways = {(sample["touch"], sample["case"].partition(", ")[2]): in_words(sample) for sample in samples}
    rows = tuple((name, ways.get((name, "plain"), "–"), ways.get((name, "nvml check"), "–")) for name in names)
    return Table(("the parent did", "its child's first operation", "with PYTORCH_NVML_BASED_CUDA_CHECK=1"), rows)


def codes(run: Recording) -> Table:
    """driver_after_fork: each call in a forked child of its own, by how far the parent had gone."""
    samples = _some(run.of("forked child"), run)
    cases = dict.fromkeys(sample["case"] for sample in samples)
    calls = dict.fromkeys(sample["call"] for sample in samples)
    answers = {(sample["call"], sample["case"]): _code(sample) for sample in samples}
    rows = tuple((call, *(answers.get((call, case), "–") for case in cases)) for call in calls)
    return Table(("call in the child", *(f"parent: {case}" for case in cases)), rows)


def _code(sample: dict[str, Any]) -> str:
    answer = sample.get("value")
    if sample["outcome"].startswith("returned") and isinstance(answer, dict):
        return f"{answer['code']} {answer['name']}"
    return in_words(sample)


def without_guard(run: Recording) -> Table:
    """guard_bypassed: what the child did, what came of it, and how its parent fared afterwards."""
    samples = _some(run.of("forked child"), run)
    after = {sample["case"]: "fine" if sample["ok"] else sample["error"] for sample in run.of("parent afterwards")}
    rows = tuple((each["case"], in_words(each), after.get(each["case"], "–")) for each in samples)
    return Table(("the child", "came to", "its parent afterwards"), rows)


def inherited(run: Recording) -> Table:
    """idle_forked_child: what of the device the parent holds, and its child that never touched CUDA."""
    pairs = [("parent", each) for each in run.of("parent")] + [("idle child", each) for each in run.of("idle child")]
    rows = tuple(
        (who, str(len(each["device_files"])), str(each["device_mappings"]), str(each["threads"]), _used(each))
        for who, each in _some(pairs, run)[:4]
    )
    heads = ("process", "device files open", "device mappings", "threads", "memory in use on the GPU, MB")
    return Table(heads, rows)


def _used(sample: dict[str, Any]) -> str:
    used = (sample.get("gpu") or {}).get("used")
    return "–" if used is None else f"{used / 1e6:.0f}"


def started(run: Recording) -> Table:
    """fork_after_cuda: children of a parent that has used CUDA, by how they were made."""
    forked = [("fork", in_words(each), "–") for each in run.of("forked child", asks="first operation")]
    others = [
        (each["method"], in_words(each), f"{each['ms_to_done'] / 1000:.1f}" if "ms_to_done" in each else "–")
        for each in run.of("started child")
    ]
    heads = ("made by, after the parent's first use", "its first operation", "seconds until it was done")
    return Table(heads, tuple(_some(forked + others, run)))


def forked_first(run: Recording) -> Table:
    """fork_before_cuda: a child that is first to use CUDA, its parent after it, and a child after that."""
    names = {"forked child": "child, forked before", "forked child after that": "child, forked after the parent's use"}
    rows = tuple((name, in_words(each)) for what, name in names.items() for each in run.of(what))
    return Table(("process", "its first operation"), tuple(_some(rows, run)))


def _some(found: Any, run: Recording) -> Any:
    if not found:
        raise LookupError(f"got a recording of {run.name} without the samples of this table, expected some")
    return found


def _short(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"

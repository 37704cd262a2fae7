"""The recorded experiments on GPU memory in several processes as tables: each function takes a recording, and none
measures. Raises `LookupError` if a recording has no samples for a table.

Taught in: 05a_how_does_gpu_memory_travel
"""

import re
from itertools import pairwise
from statistics import median
from typing import Any

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.page.tables import Table
from lab_support.notebook.recordings.cuda_after_fork import short
from lab_support.notebook.recordings.cuda_findings import (
    HOLDS,
    IPC_CASES,
    fetch_needs_the_sender,
    handle_bytes,
    outlives_its_maker,
    some,
)


def receivers(run: Recording) -> dict[str, str]:
    """cuda_ipc: for each row of `IPC_CASES`, the receiver's outcome in words."""
    return {row: _came_to(run, case) for row, case in IPC_CASES.items()}


def _came_to(run: Recording, case: str) -> str:
    """The fetch's outcome if the sender ended before it; if the sender ended after it, the outcome of the last look."""
    what = "receiver after the sender" if case == "sender ends after the fetch" else "receiver"
    sample = some(run.of(what, case=case), run)[0]
    value = sample.get("value")
    if sample["ok"] and isinstance(value, dict) and "ok" in value:
        sample, value = value, value.get("value")
    return "the sender's bytes" if sample["ok"] else f"{sample['error']}: {short(sample['text'])}"


def handle_in_words(run: Recording) -> str:
    """cuda_ipc: the bytes that travel in place of the tensor, in words."""
    sent = some(run.of("sender", case="spawned receiver"), run)[0]
    sizes = " + ".join(map(str, handle_bytes(run)))
    return f"{sizes} bytes for a tensor of {sent['allocated']:,} bytes"


def holds(run: Recording) -> Table:
    """memory_as_descriptor: memory in use on the GPU after each step, and its change."""
    names = {
        "before": "before",
        "made, not imported": "the maker has a context and the memory",
        "a second context": "the receiver has a context",
        "imported and mapped": "the receiver has mapped it",
    }
    steps = [(words, some(run.of("memory", when=when), run)[0]) for when, words in names.items()]
    steps.append(("the maker is killed (kill -9)", some(run.of("maker killed"), run)[0]))
    steps += [(f"the receiver: {when}", some(run.of("memory", when=when), run)[0]) for when in HOLDS]
    used = [each["gpu"]["used"] for _, each in steps]
    changes = ["", *(f"{(later - earlier) / 1e6:+.0f}" for earlier, later in pairwise(used))]
    rows = tuple(
        (words, f"{now / 1e6:.0f}", change.replace("+0", "0").replace("-0", "0"))
        for (words, _), now, change in zip(steps, used, changes, strict=True)
    )
    return Table(("step", "memory in use on the GPU, MB", "change, MB"), rows)


def contexts(run: Recording) -> Table:
    """context_cost: the cost of one, two and four processes, together and each, and of a bare context; medians if there
    are repeats."""
    together = some(run.of("together"), run)
    rows = []
    for count in dict.fromkeys(each["processes"] for each in together):
        taken = [(each["gpu"]["used"] - each["before"]) / 1e6 for each in together if each["processes"] == count]
        single = [used / 1e6 for each in run.of("together", processes=count) for used in _by_process(each)]
        own = [each["value"]["host_memory"]["uss"] / 1e6 for each in run.of("process", processes=count)]
        seconds = [each["value"]["ms_in_all"] / 1000 for each in run.of("process", processes=count)]
        costs = (*map(_median, (taken, single, own)), f"{median(seconds):.1f}" if seconds else "–")
        rows.append((f"{count}, with PyTorch's first operation", *costs))
    if bare := run.of("bare context"):
        rows.append(_bare(bare))
    heads = (
        "processes",
        "GPU memory, together, MB",
        "each, MB",
        "memory of its own on the host, MB",
        "seconds to start",
    )
    return Table(heads, tuple(rows))


def _bare(samples: list[dict[str, Any]]) -> tuple[str, ...]:
    """The row of contexts that a process without PyTorch made by the driver's own calls."""
    together = [(each["gpu"]["used"] - each["before"]) / 1e6 for each in samples]
    single = [used / 1e6 for each in samples for used in _by_process(each)]
    seconds = [sum(map(float, re.findall(r"\d+\.\d+", each["said"]))) / 1000 for each in samples]
    return "1, a bare context", _median(together), _median(single), "–", f"{median(seconds):.2f}"


def _by_process(sample: dict[str, Any]) -> list[float]:
    return list(sample["gpu"]["processes"].values())


def _median(values: list[float]) -> str:
    return f"{median(values):.0f}" if values else "–"


# ---- for the picture of the roads ------------------------------------------------------------------------------------


def handle_in_few(run: Recording) -> str:
    """cuda_ipc: the handle's size and need, in two lines."""
    need = "needs the sender until the fetch" if fetch_needs_the_sender(run) else ""
    return f"{' + '.join(map(str, handle_bytes(run)))} bytes, no descriptor\n{need}".strip()


def export_in_few(run: Recording) -> str:
    """memory_as_descriptor: its result in two lines."""
    count = len(run.of("descriptor", side="receiver"))
    lives = "its maker may be gone" if outlives_its_maker(run) else ""
    return f"{count} descriptor\n{lives}".strip()

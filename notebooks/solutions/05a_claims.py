"""The claims of appendix 05a, each with an experiment, or a recording, in which it is false."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left, on_recording

TENSOR = cell("05a", "tensor")
COPIED = changed(TENSOR, "ForkingPickler.dumps(here)  ", "ForkingPickler.dumps(here.numpy())  ")


def _all(result: ProcessResult, name: str, value: object) -> bool:
    ways = result.by("way")
    return len(ways) == 2 and all(seen[name] == value for seen in ways.values())


BROKEN_CLAIMS = (
    BrokenClaim(
        "Less than a thousandth goes through the pipe",
        TENSOR,
        COPIED,
        lambda result: all(seen["pickled"] * 1000 < seen["tensor"] for seen in result.by("way").values()),
    ),
    BrokenClaim(
        "One message carries a descriptor, by fork and by spawn",
        TENSOR,
        COPIED,
        lambda result: _all(result, "messages", 1),
    ),
    BrokenClaim("What it leads to has no name any more", TENSOR, COPIED, lambda result: _all(result, "nameless", True)),
    BrokenClaim("A write in the child shows in the parent", TENSOR, COPIED, lambda result: _all(result, "here", 66)),
    on_recording(
        "A handle travels, and not the tensor",
        "cuda_ipc",
        "a_handle_travels",
        '"handle": {"bytes": ',
        '"handle": {"bytes": 9999',
    ),
    on_recording(
        "A spawned receiver's write shows in the sender",
        "cuda_ipc",
        "spawned_shares",
        '"case": "spawned receiver", "ok": true, "value": {"first": 1',
        '"case": "spawned receiver", "ok": true, "value": {"first": 0',
    ),
    on_recording(
        "A forked receiver is refused",
        "cuda_ipc",
        "forked_receiver_refused",
        '"method": "fork", "ok": true, "value": {"ok": false',
        '"method": "fork", "ok": true, "value": {"ok": true',
    ),
    on_recording(
        "The sender must live until the fetch",
        "cuda_ipc",
        "fetch_needs_the_sender",
        '"what": "receiver after the sender", "case": "sender ends after the fetch", "ok": true',
        '"what": "receiver after the sender", "case": "sender ends after the fetch", "ok": false',
    ),
    on_recording(
        "The descriptor's link is a file of the device",
        "memory_as_descriptor",
        "descriptor_is_the_device",
        '"target": "/dev/nvidiactl"',
        '"target": "/memfd:held"',
    ),
    on_recording(
        "Each side reads what the other wrote",
        "memory_as_descriptor",
        "both_see_the_same",
        '"who": "maker", "sees": "',
        '"who": "maker", "sees": "other ',
    ),
    on_recording(
        "The bytes outlive their maker",
        "memory_as_descriptor",
        "outlives_its_maker",
        """"who": "receiver, after the maker's end", "sees": \"""",
        """"who": "receiver, after the maker's end", "sees": "other """,
    ),
    on_recording(
        "They go with the descriptor, and not before",
        "memory_as_descriptor",
        "the_descriptor_holds_it",
        '"when": "unmapped", "gpu": {"source": "NVML", "used": ',
        '"when": "unmapped", "gpu": {"source": "NVML", "used": 0, "was": ',
    ),
    on_recording(
        "Four processes pay four times",
        "context_cost",
        "each_process_pays",
        '"what": "together", "processes": 4, "before": ',
        '"what": "together", "processes": 4, "before": 2000000000, "was": ',
    ),
    nothing_left("No process of this appendix is left", TENSOR),
)

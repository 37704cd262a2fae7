"""The claims of appendix 05a, each with an experiment, or a recording, in which it is false."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left, on_recording
from lab_support.notebook.recordings.cuda_findings import FAILS, READS

TENSOR = cell("05a", "tensor")
COPIED = changed(TENSOR, "ForkingPickler.dumps(here)  ", "ForkingPickler.dumps(here.numpy())  ")


def _all(result: ProcessResult, name: str, value: object) -> bool:
    ways = result.by("way")
    return len(ways) == 2 and all(seen[name] == value for seen in ways.values())


_SENT = '"value": {"sha256": "1f7a6345e9b0e88fbda1b3deadf54bb6f18ccbf548a244bf2de33179c243c0ff"}, '
_FORKED = '"what": "receiver", "case": "forked receiver", "method": "fork", "ok": true, '
_BEFORE = '"what": "receiver after the sender", "case": "sender ends before the fetch", '
_AFTER = '"what": "receiver after the sender", "case": "sender ends after the fetch", "ok": true'


def _receiver_row(row: str, option: str, old: str, new: str) -> BrokenClaim:
    words = f"A CUDA tensor through a queue, {row}: {option}"
    return on_recording(words, "cuda_ipc", f"receiver_ends({row!r}, {option!r})", old, new)


IPC_ROWS = (
    _receiver_row(
        "a spawned receiver",
        READS,
        '"case": "spawned receiver", "method": "spawn", "ok": true, "value": {"ok": true',
        '"case": "spawned receiver", "method": "spawn", "ok": true, "value": {"ok": false',
    ),
    _receiver_row(
        "a forked receiver",
        FAILS,
        f'{_FORKED}"value": {{"ok": false',
        f'{_FORKED}{_SENT}"was": {{"ok": false',
    ),
    _receiver_row(
        "a spawned one, and the sender ends before the fetch",
        FAILS,
        f'{_BEFORE}"ok": false',
        f'{_BEFORE}"ok": true, {_SENT}"was": false',
    ),
    _receiver_row("a spawned one, and the sender ends after the fetch", READS, _AFTER, _AFTER.replace("true", "false")),
)

BROKEN_CLAIMS = (
    BrokenClaim(
        "Less than a thousandth goes through the pipe, and one message carries a descriptor",
        TENSOR,
        COPIED,
        lambda result: (
            all(seen["pickled"] * 1000 < seen["tensor"] for seen in result.by("way").values())
            and _all(result, "messages", 1)
        ),
    ),
    BrokenClaim(
        "The memory to which it leads has no name any more",
        TENSOR,
        COPIED,
        lambda result: _all(result, "nameless", True),
    ),
    BrokenClaim("A write in the child shows in the parent", TENSOR, COPIED, lambda result: _all(result, "here", 66)),
    *IPC_ROWS,
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
        "With mapping and handle gone, the descriptor alone keeps them",
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
    on_recording(
        "The driver's context is more than half of it",
        "context_cost",
        "mostly_the_context",
        '"before": 644939776, "gpu": {"source": "NVML", "used": 1197342720',
        '"before": 644939776, "gpu": {"source": "NVML", "used": 700000000',
    ),
    on_recording(
        "After the parent's cuInit, every call of a child gets one and the same error",
        "driver_after_fork",
        "driver_refuses",
        '"call": "cuDeviceGetCount", "code": 3',
        '"call": "cuDeviceGetCount", "code": 0',
    ),
    on_recording(
        "Without the guard comes an error as well, no hang, no crash",
        "guard_bypassed",
        "only_errors",
        '"case": "synchronise", "outcome": "raised"',
        '"case": "synchronise", "outcome": "hung"',
    ),
    on_recording(
        "The parent comes to no harm by it",
        "guard_bypassed",
        "parents_unharmed",
        '"tensor": {"ok": true',
        '"tensor": {"ok": false',
    ),
    on_recording(
        "A child that reads the parent's tensor passes the guard",
        "guard_bypassed",
        "guard_is_not_asked",
        '"error": "torch.AcceleratorError", "text": "',
        '"error": "RuntimeError", "text": "Cannot re-initialize CUDA in forked subprocess. ',
    ),
    on_recording(
        "Engine cores alone hold the GPU",
        "server_processes",
        "engine_cores_alone_hold_it",
        '"role": "engine-0"',
        '"role": "api-9"',
    ),
    on_recording(
        "Killed without a child, each gives its memory back",
        "memory_after_kill",
        "all_came_free",
        '"left": 0, "trace"',
        '"left": 1, "trace"',
    ),
    nothing_left("No process of this appendix is left", TENSOR),
)

"""The lessons' claims about the recorded experiments on CUDA: each function says whether its claim holds in one.

They test the samples, and measure nothing. Each raises `LookupError` if the recording has nothing to test. Only the
standard library is imported, because the trials of the claims run in small processes.

Taught in: 05_why_does_cuda_break_after_fork, 05a_how_does_gpu_memory_travel
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from lab_support.instruments.record.recordings import Recording

MIB = 1 << 20
GUARD = "Cannot re-initialize CUDA in forked"
PLAIN, BY_NVML = "plain", "nvml check"
TOUCHES = {
    "torch.cuda.is_available()": ("is_available", PLAIN),
    "the same, with PYTORCH_NVML_BASED_CUDA_CHECK=1": ("is_available", BY_NVML),
    "torch.cuda.device_count()": ("device_count", PLAIN),
    "torch.manual_seed(0)": ("manual_seed", PLAIN),
    "NVML, asked how many GPUs there are": ("NVML alone", PLAIN),
    "a tensor on the GPU": ("first operation", PLAIN),
}
"""Rows of the question what trips the guard: the parent's action and its variant, in the experiment's names."""


def some(found: Any, run: Recording) -> Any:
    """Return `found`. Raises `LookupError` if it is empty."""
    if not found:
        raise LookupError(f"got a recording of {run.name} without these samples, expected some")
    return found


# ---- PyTorch's guard -------------------------------------------------------------------------------------------------


REFUSED, ALLOWED = "refused", "may use the GPU"


def barred(run: Recording) -> dict[str, str]:
    """what_trips_the_guard: by row of `TOUCHES`, whether the child was refused or may use the GPU."""
    return {
        row: REFUSED if any(_refused(each) for each in _children(run, touch, way)) else ALLOWED
        for row, (touch, way) in TOUCHES.items()
    }


def touch_ends(row: str, option: str) -> Callable[[Recording], bool]:
    """what_trips_the_guard: a test that `row` of `TOUCHES` was found to be `option`."""
    return lambda run: barred(run)[row] == option


def a_question_bars(run: Recording) -> bool:
    """After is_available() in the parent, its child is refused."""
    return all(_refused(each) for each in _children(run, "is_available", PLAIN))


def nvml_does_not_bar(run: Recording) -> bool:
    """After is_available() by NVML, device_count() or NVML itself in the parent, the child may use CUDA."""
    asked = (("is_available", BY_NVML), ("device_count", PLAIN), ("NVML alone", PLAIN))
    return all(each["outcome"] == "returned" for touch, way in asked for each in _children(run, touch, way))


def _children(run: Recording, touch: str, way: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = some(run.of("forked child", asks="first operation", case=f"{touch}, {way}"), run)
    return found


def _refused(sample: dict[str, Any]) -> bool:
    return sample["outcome"] == "raised" and sample["error"] == "RuntimeError" and GUARD in sample["text"]


def forked_is_refused(run: Recording) -> bool:
    """fork_after_cuda: every forked child is refused, with the guard's text."""
    return all(_refused(each) for each in some(run.of("forked child", asks="first operation"), run))


def new_programs_work(run: Recording) -> bool:
    """fork_after_cuda: every child by spawn and forkserver works, though its parent had used CUDA."""
    children = some(run.of("started child"), run)
    methods = {each["method"] for each in children}
    return methods == {"spawn", "forkserver"} and all(each["outcome"] == "returned" for each in children)


def starting_costs(run: Recording) -> bool:
    """fork_after_cuda: more than half of a child's time until its operation was done passed before its first line."""
    children = [each for each in some(run.of("started child"), run) if each["outcome"] == "returned"]
    return all(each["ms_to_entry"] > each["ms_to_done"] / 2 for each in some(children, run))


def forked_first_works(run: Recording) -> bool:
    """fork_before_cuda: children of a parent that had not touched CUDA work."""
    return all(each["outcome"] == "returned" for each in some(run.of("forked child"), run))


def forked_later_is_refused(run: Recording) -> bool:
    """fork_before_cuda: a child of the same parent is refused, once the parent has used CUDA too."""
    return all(_refused(each) for each in some(run.of("forked child after that"), run))


# ---- the driver below it ---------------------------------------------------------------------------------------------


WORKS, ERROR, HANGS, CRASHES = "it works", "an error", "it never comes back", "the child crashes"
DRIVER_CASES = {
    "cuInit, after the parent's cuInit": ("cuInit", "cuInit"),
    "cuInit, if the parent has called nothing": ("nothing", "cuInit"),
    "cudaGetDeviceCount, after the parent's own": ("runtime, cudaGetDeviceCount", "cudaGetDeviceCount"),
    "cudaMalloc, after the parent asked the runtime for its version": ("runtime, its version", "cudaMalloc"),
}
"""Rows of the question what a forked child is answered by its only call, and the experiment's names for both."""


def driver_answers(run: Recording) -> dict[str, str]:
    """driver_after_fork: by row of `DRIVER_CASES`, the end of that call in the child."""
    return {row: _end_of_call(run, *case) for row, case in DRIVER_CASES.items()}


def driver_ends(row: str, option: str) -> Callable[[Recording], bool]:
    """driver_after_fork: a test that `row` of `DRIVER_CASES` was found to be `option`."""
    return lambda run: driver_answers(run)[row] == option


def driver_codes(run: Recording) -> dict[str, str]:
    """driver_after_fork: by row of `DRIVER_CASES`, the code that the call returned, and its name."""
    return {row: _code(run, *case) for row, case in DRIVER_CASES.items()}


def _end_of_call(run: Recording, case: str, call: str) -> str:
    (child,) = some(run.of("forked child", case=case, call=call), run)
    if not child["outcome"].startswith("returned"):
        return CRASHES if child["outcome"].startswith("crashed") else HANGS
    return ERROR if child["value"]["code"] else WORKS


def _code(run: Recording, case: str, call: str) -> str:
    (child,) = some(run.of("forked child", case=case, call=call), run)
    answer = child["value"] if child["outcome"].startswith("returned") else None
    return f"returned {answer['code']}, {answer['name']}" if answer else str(child["outcome"])


def driver_refuses(run: Recording) -> bool:
    """After at least cuInit in the parent, every call of the child returns the same code, an error."""
    codes = {
        answer["code"]
        for case in ("cuInit", "context", "primary context")
        for child in some(run.of("forked child in a row", case=case), run)
        for answer in _answers(child)
    }
    return len(codes) == 1 and 0 not in codes


def untouched_starts(run: Recording) -> bool:
    """The child's cuInit works if the parent had called nothing."""
    return all(_answers(child)[0]["code"] == 0 for child in some(run.of("forked child in a row", case="nothing"), run))


def counts_but_refuses(run: Recording) -> bool:
    """After the parent's cudaGetDeviceCount, the child's own succeeds, and its cudaMalloc returns an error."""
    children = some(run.of("forked child in a row", case="runtime, cudaGetDeviceCount"), run)
    codes = [{answer["call"]: answer["code"] for answer in _answers(child)} for child in children]
    return all(code["cudaGetDeviceCount"] == 0 and code["cudaMalloc"] != 0 for code in codes)


def _answers(child: dict[str, Any]) -> list[dict[str, Any]]:
    """The child's answers; one without a code if it hung or crashed."""
    return list(child["value"]) if child["outcome"].startswith("returned") else [{"call": "", "code": None}]


def only_errors(run: Recording) -> bool:
    """guard_bypassed: no case hung, crashed or worked."""
    children = some(run.of("forked child"), run)
    return all(each["outcome"] == "raised" for each in children)


BYPASSED = "a tensor by PyTorch, with the guard taken away"


def bypassed_end(run: Recording) -> str:
    """guard_bypassed: the end of a child's first operation, without the guard."""
    (child,) = some(run.of("forked child", case="first operation"), run)
    ends = {"returned": WORKS, "raised": ERROR, "crashed": CRASHES}
    return next((end for word, end in ends.items() if child["outcome"].startswith(word)), HANGS)


def bypassed_is_an_error(run: Recording) -> bool:
    """guard_bypassed: a child's first operation without the guard ends in an error."""
    return bypassed_end(run) == ERROR


def parents_unharmed(run: Recording) -> bool:
    """guard_bypassed: after each child, the parent's own tensor is intact, and a new operation works."""
    return all(each["ok"] and each["tensor"]["ok"] for each in some(run.of("parent afterwards"), run))


def guard_is_not_asked(run: Recording) -> bool:
    """guard_bypassed, with the guard in place: reading the parent's tensor fails, but with another error."""
    children = some(run.of("forked child", case="guard in place, read the parent's tensor"), run)
    return all(each["outcome"] == "raised" and not _refused(each) for each in children)


# ---- the device ------------------------------------------------------------------------------------------------------


def child_holds_the_device(run: Recording) -> bool:
    """idle_forked_child: the child has as many descriptors of /dev/nvidia* as its parent."""
    return all(len(parent["device_files"]) == len(child["device_files"]) > 0 for parent, child in _idle(run))


def child_lacks_a_mapping(run: Recording) -> bool:
    """idle_forked_child: the child has some mappings of the device, but fewer than its parent."""
    return all(0 < child["device_mappings"] < parent["device_mappings"] for parent, child in _idle(run))


def child_is_not_counted(run: Recording) -> bool:
    """NVML names the same processes as before the fork."""
    return all(
        child["gpu"]["processes"] and child["gpu"]["processes"].keys() == parent["gpu"]["processes"].keys()
        for parent, child in _idle(run)
    )


def _idle(run: Recording) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs of a parent and its idle child."""
    cases = [each["case"] for each in run.of("parent")]
    return [(run.of("parent", case=case)[0], run.of("idle child", case=case)[0]) for case in some(cases, run)]


def outlives_its_owner(run: Recording) -> bool:
    """While the idle child lives, at least half of the killed parent's memory stays in use, to the end."""
    holds, killed = some(run.of("parent holds"), run)[0], some(run.of("parent killed"), run)[0]
    halfway = (holds["before"] + holds["gpu"]["used"]) / 2
    return bool(killed["child_lives"]) and all(each["used"] > halfway for each in killed["watched"])


def goes_with_the_child(run: Recording) -> bool:
    """Once the child is gone as well, the memory in use is as before, within 2 MiB."""
    holds, gone = some(run.of("parent holds"), run)[0], some(run.of("child gone as well"), run)[0]
    return bool(gone["watched"][-1]["used"] <= holds["before"] + 2 * MIB)


def kept_shares(run: Recording) -> tuple[float, float]:
    """idle_forked_child: the shares of the killed parent's memory in use while its child lives, and after it."""
    holds, killed, gone = (
        some(run.of(what), run)[0] for what in ("parent holds", "parent killed", "child gone as well")
    )
    taken = holds["gpu"]["used"] - holds["before"]
    least, last = min(each["used"] for each in killed["watched"]), gone["watched"][-1]["used"]
    return (least - holds["before"]) / taken, (last - holds["before"]) / taken


def letter_of_memory(shares: tuple[float, float]) -> str:
    """The option that two such shares support. a: memory is free when the child has ended, b: at once, c: a part of it
    at once, d: not even when the child has ended."""
    while_child_lives, afterwards = shares
    if afterwards > 0.1:
        return "d"
    return "a" if while_child_lives > 0.9 else "c" if while_child_lives > 0.1 else "b"


def end_of_memory(run: Recording) -> str:
    """idle_forked_child: the option of `letter_of_memory` that is true."""
    return letter_of_memory(kept_shares(run))


def kept_until_the_child_ends(run: Recording) -> bool:
    """idle_forked_child: at least half of the memory stays while the child lives, and all is free once it has ended."""
    return outlives_its_owner(run) and goes_with_the_child(run)


def all_came_free(run: Recording) -> bool:
    """memory_after_kill: after processes without children are killed, none is left, and all memory becomes free."""
    return all(each["ms_until_free"] is not None and each["left"] == 0 for each in some(run.of("bare round"), run))


def layers_met(run: Recording) -> str:
    """A forked child's outcome at the experiment's layer, for the picture of the three layers."""
    words = {
        "fork_after_cuda": (forked_is_refused, "an error:\nthe guard's"),
        "driver_after_fork": (driver_refuses, "an error:\nthe driver's"),
        "idle_forked_child": (outlives_its_owner, "memory kept\nby the child"),
    }
    holds, met = words[run.name]
    return met if holds(run) else ""


# ---- GPU memory in another process -----------------------------------------------------------------------------------

IPC_CASES = {
    "a spawned receiver": "spawned receiver",
    "a forked receiver": "forked receiver",
    "a spawned one, and the sender ends before the fetch": "sender ends before the fetch",
    "a spawned one, and the sender ends after the fetch": "sender ends after the fetch",
}
"""Rows of the question what a receiver gets, and the experiment's names for them."""


READS, FAILS = "reads the sender's bytes", "gets an error"


def received(run: Recording) -> dict[str, str]:
    """cuda_ipc: by row of `IPC_CASES`, whether the receiver read the sender's bytes to the end or got an error."""
    return {row: READS if _reads_the_bytes(run, case) else FAILS for row, case in IPC_CASES.items()}


def receiver_ends(row: str, option: str) -> Callable[[Recording], bool]:
    """cuda_ipc: a test that `row` of `IPC_CASES` was found to be `option`."""
    return lambda run: received(run)[row] == option


def _reads_the_bytes(run: Recording, case: str) -> bool:
    """Whether the receiver's last look saw the sender's bytes; if the sender ends, the look after that counts."""
    sent = some(run.of("sender", case=case), run)[0]["sha256"]
    what = "receiver after the sender" if case.startswith("sender ends") else "receiver"
    return all(_hash_seen(each) == sent for each in some(run.of(what, case=case), run))


def _hash_seen(sample: dict[str, Any]) -> str:
    """The hash that a receiver saw. Some receivers report through the sender, which nests the sample in another."""
    value = sample.get("value") if sample["ok"] else None
    if isinstance(value, dict) and "ok" in value:
        return _hash_seen(value)
    return str(value["sha256"]) if isinstance(value, dict) else ""


def spawned_shares(run: Recording) -> bool:
    """cuda_ipc: a spawned receiver read the same bytes, and the sender sees the 1 that it added to each."""
    seen = some(run.of("sender sees", case="spawned receiver"), run)[0]
    return _reads_the_bytes(run, "spawned receiver") and bool(seen["ok"]) and seen["value"]["first"] == 1


def forked_receiver_refused(run: Recording) -> bool:
    """cuda_ipc: a forked receiver is refused, with the guard's text."""
    receivers = some(run.of("receiver", case="forked receiver"), run)
    return all(not each["value"]["ok"] and GUARD in each["value"]["text"] for each in receivers)


def fetch_needs_the_sender(run: Recording) -> bool:
    """cuda_ipc: the fetch fails if the sender has ended before it; the bytes are right if the sender ends after it."""
    return not _reads_the_bytes(run, IPC_CASES["a spawned one, and the sender ends before the fetch"]) and (
        _reads_the_bytes(run, IPC_CASES["a spawned one, and the sender ends after the fetch"])
    )


def handle_bytes(run: Recording) -> list[int]:
    """cuda_ipc: the sizes of the parts that travel in place of the tensor: handle, name of the counter, event."""
    (sample,) = some(run.of("handle", case="spawned receiver"), run)
    value = sample["value"] if sample["ok"] else {}
    return [part["bytes"] for part in value.values() if isinstance(part, dict)]


def a_handle_travels(run: Recording) -> bool:
    """cuda_ipc: less than a thousand bytes travel, for a tensor of millions."""
    sent = some(run.of("sender", case="spawned receiver"), run)[0]
    return 0 < sum(handle_bytes(run)) < 1000 < sent["allocated"] / 1000


def descriptor_is_the_device(run: Recording) -> bool:
    """memory_as_descriptor: in both processes, the descriptor's link in /proc leads to one of the driver's files."""
    both = some(run.of("descriptor"), run)
    return len(both) == 2 and all(each["target"].startswith("/dev/nvidia") for each in both)


def both_see_the_same(run: Recording) -> bool:
    """memory_as_descriptor: the receiver reads the maker's bytes, and the maker reads the receiver's."""
    return all(each["sees"] == each["written"] for who in ("receiver", "maker") for each in _bytes(run, who))


def outlives_its_maker(run: Recording) -> bool:
    """memory_as_descriptor: the receiver reads the same bytes after the maker is killed."""
    return all(each["sees"] == each["written"] for each in _bytes(run, "receiver, after the maker's end"))


def _bytes(run: Recording, who: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = some(run.of("bytes", who=who), run)
    return found


HOLDS = ("unmapped", "handle released", "descriptor closed")


def freed_shares(run: Recording) -> tuple[float, ...]:
    """memory_as_descriptor: the shares of the memory that became free when the maker was killed, and with each of
    `HOLDS`, which the receiver gives up in this order."""
    size = some(run.of("descriptor", side="maker"), run)[0]["size"]
    used = [some(run.of("maker killed"), run)[0]["gpu"]["used"]]
    used += [some(run.of("memory", when=when), run)[0]["gpu"]["used"] for when in HOLDS]
    with_the_maker = 0.0 if outlives_its_maker(run) else 1.0
    return with_the_maker, *((earlier - later) / size for earlier, later in pairwise(used))


def letter_of_freed(shares: tuple[float, ...]) -> str:
    """The step at which more than half became free: a maker killed, b unmapped, c released, d closed; "" for none."""
    return next((letter for letter, share in zip("abcd", shares, strict=False) if share > 0.5), "")


def the_descriptor_holds_it(run: Recording) -> bool:
    """memory_as_descriptor: the memory stays when unmapped and released, and goes when the descriptor is closed."""
    return letter_of_freed(freed_shares(run)) == "d"


def each_process_pays(run: Recording) -> bool:
    """context_cost: 4 processes together take between 3 and 5 times as much as one."""
    taken = {each["processes"]: each["gpu"]["used"] - each["before"] for each in some(run.of("together"), run)}
    return bool(3 < taken[4] / taken[1] < 5)


def mostly_the_context(run: Recording) -> bool:
    """context_cost: a bare context, without PyTorch, takes more than half of a first operation's GPU memory."""
    operation = some(run.of("together", processes=1), run)[0]
    bare = [each["gpu"]["used"] - each["before"] for each in some(run.of("bare context"), run)]
    return bool(min(bare) > (operation["gpu"]["used"] - operation["before"]) / 2)


# ---- our own server --------------------------------------------------------------------------------------------------


def engine_cores_alone_hold_it(run: Recording) -> bool:
    """server_processes: all engine cores, and no other process, have the device open or its driver mapped."""
    processes = some(run.of("process"), run)
    holders = {each["role"] for each in processes if each["device_files"] or "libcuda" in each["libraries"]}
    return bool(holders) and holders == {each["role"] for each in processes if each["role"].startswith("engine-")}

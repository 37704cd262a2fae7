"""What the lessons claim of the recorded experiments on CUDA: each takes a recording and says whether it holds there.

They test the samples, and measure nothing. Each raises `LookupError` where the recording has nothing to test. No
library but the standard one is imported: the trials of the claims run in small processes.

Taught in: 05_why_does_cuda_break_after_fork, 05a_how_does_gpu_memory_travel
"""

from typing import Any

from lab_support.instruments.recordings import Recording

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
"""Rows of the question what trips the guard: what the parent did, as the experiment calls it, and in which way."""


def some(found: Any, run: Recording) -> Any:
    """`found`, unless it is empty: then `LookupError`."""
    if not found:
        raise LookupError(f"got a recording of {run.name} without these samples, expected some")
    return found


# ---- PyTorch's guard -------------------------------------------------------------------------------------------------


def barred(run: Recording) -> dict[str, str]:
    """what_trips_the_guard: by row of `TOUCHES`, a where the child was refused, else b."""
    return {
        row: "a" if any(_refused(each) for each in _children(run, touch, way)) else "b"
        for row, (touch, way) in TOUCHES.items()
    }


def a_question_bars(run: Recording) -> bool:
    """is_available() in the parent, and its child was refused."""
    return all(_refused(each) for each in _children(run, "is_available", PLAIN))


def nvml_does_not_bar(run: Recording) -> bool:
    """is_available() by way of NVML, device_count() and NVML itself: the child may use CUDA."""
    asked = (("is_available", BY_NVML), ("device_count", PLAIN), ("NVML alone", PLAIN))
    return all(each["outcome"] == "returned" for touch, way in asked for each in _children(run, touch, way))


def _children(run: Recording, touch: str, way: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = some(run.of("forked child", asks="first operation", case=f"{touch}, {way}"), run)
    return found


def _refused(sample: dict[str, Any]) -> bool:
    return sample["outcome"] == "raised" and sample["error"] == "RuntimeError" and GUARD in sample["text"]


def a_forked_child_is_refused(run: Recording) -> bool:
    """fork_after_cuda: by the guard's text."""
    return all(_refused(each) for each in some(run.of("forked child", asks="first operation"), run))


def new_programs_work(run: Recording) -> bool:
    """fork_after_cuda: every child by spawn and by forkserver, of a parent that had used CUDA."""
    children = some(run.of("started child"), run)
    methods = {each["method"] for each in children}
    return methods == {"spawn", "forkserver"} and all(each["outcome"] == "returned" for each in children)


def forked_first_works(run: Recording) -> bool:
    """fork_before_cuda: children of a parent that had not touched CUDA."""
    return all(each["outcome"] == "returned" for each in some(run.of("forked child"), run))


def forked_later_is_refused(run: Recording) -> bool:
    """fork_before_cuda: a child of the same parent, once that has used CUDA too."""
    return all(_refused(each) for each in some(run.of("forked child after that"), run))


# ---- the driver below it ---------------------------------------------------------------------------------------------


def end_of_driver(run: Recording) -> str:
    """driver_after_fork: which option of the question holds of a child that calls cuInit after its parent's cuInit.

    a: it works, b: an error, c: it never comes back, d: the child crashes.
    """
    (child,) = some(run.of("forked child", case="cuInit", call="cuInit"), run)
    if not child["outcome"].startswith("returned"):
        return "d" if child["outcome"].startswith("crashed") else "c"
    return "b" if child["value"]["code"] else "a"


def driver_refuses_every_call(run: Recording) -> bool:
    """Once the parent had called cuInit, or more: every call of the child has the same code, and that is an error."""
    codes = {
        answer["code"]
        for case in ("cuInit", "context", "primary context")
        for child in some(run.of("forked child in a row", case=case), run)
        for answer in _answers(child)
    }
    return len(codes) == 1 and 0 not in codes


def untouched_driver_starts(run: Recording) -> bool:
    """A parent that had called nothing: the child's cuInit works."""
    return all(_answers(child)[0]["code"] == 0 for child in some(run.of("forked child in a row", case="nothing"), run))


def runtime_counts_and_refuses(run: Recording) -> bool:
    """After the parent's cudaGetDeviceCount, the child's says success, and its cudaMalloc an error."""
    children = some(run.of("forked child in a row", case="runtime, cudaGetDeviceCount"), run)
    codes = [{answer["call"]: answer["code"] for answer in _answers(child)} for child in children]
    return all(code["cudaGetDeviceCount"] == 0 and code["cudaMalloc"] != 0 for code in codes)


def _answers(child: dict[str, Any]) -> list[dict[str, Any]]:
    """A child that hung or crashed has none."""
    return list(child["value"]) if child["outcome"].startswith("returned") else [{"call": "", "code": None}]


def only_errors(run: Recording) -> bool:
    """guard_bypassed: no case hung, crashed or worked."""
    children = some(run.of("forked child"), run)
    return all(each["outcome"] == "raised" for each in children)


def parents_unharmed(run: Recording) -> bool:
    """guard_bypassed: after each child, the parent's own tensor and a new operation."""
    return all(each["ok"] and each["tensor"]["ok"] for each in some(run.of("parent afterwards"), run))


def guard_is_not_asked(run: Recording) -> bool:
    """guard_bypassed, its case with the guard in place: to read the parent's tensor, the error is not the guard's."""
    children = some(run.of("forked child", case="guard in place, read the parent's tensor"), run)
    return all(each["outcome"] == "raised" and not _refused(each) for each in children)


# ---- the device ------------------------------------------------------------------------------------------------------


def idle_child_holds_the_device(run: Recording) -> bool:
    """idle_forked_child: it has as many descriptors of /dev/nvidia* as its parent."""
    return all(len(parent["device_files"]) == len(child["device_files"]) > 0 for parent, child in _idle(run))


def idle_child_is_not_counted(run: Recording) -> bool:
    """NVML names the same processes as before the fork."""
    return all(
        child["gpu"]["processes"] and child["gpu"]["processes"].keys() == parent["gpu"]["processes"].keys()
        for parent, child in _idle(run)
    )


def _idle(run: Recording) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each parent with its idle child."""
    cases = [each["case"] for each in run.of("parent")]
    return [(run.of("parent", case=case)[0], run.of("idle child", case=case)[0]) for case in some(cases, run)]


def memory_outlives_its_owner(run: Recording) -> bool:
    """While the idle child lives, at least half of what the killed parent held is still in use, to the end."""
    holds, killed = some(run.of("parent holds"), run)[0], some(run.of("parent killed"), run)[0]
    halfway = (holds["before"] + holds["gpu"]["used"]) / 2
    return bool(killed["child_lives"]) and all(each["used"] > halfway for each in killed["watched"])


def memory_goes_with_the_child(run: Recording) -> bool:
    """Once the child is gone as well, the memory in use is what it was before."""
    holds, gone = some(run.of("parent holds"), run)[0], some(run.of("child gone as well"), run)[0]
    return bool(gone["watched"][-1]["used"] <= holds["before"] + 2 * MIB)


def end_of_memory(run: Recording) -> str:
    """Which option of the question holds. a: free at once, b: when the child is gone, c: not even then."""
    if not memory_outlives_its_owner(run):
        return "a"
    return "b" if memory_goes_with_the_child(run) else "c"


def all_came_free(run: Recording) -> bool:
    """memory_after_kill: of processes without children; none is left, and the memory is what it was."""
    return all(each["ms_until_free"] is not None and each["left"] == 0 for each in some(run.of("bare round"), run))

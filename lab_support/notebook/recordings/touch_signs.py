"""Signs that a process has touched CUDA, and whether its forked child can use the GPU, from three recordings.

`what_a_touch_leaves` says what the process holds; notebook 05's recordings, `what_trips_the_guard` and
`driver_after_fork`, say which child can use the GPU. Raises `LookupError` if a recording lacks something. Like
cuda_findings.py it imports only the standard library; the table is in cuda_after_fork.py.

Taught in: 06_which_start_method
"""

from collections.abc import Iterator

from lab_support.instruments.record import recordings
from lab_support.instruments.record.recordings import Recording

BY_THE_GUARD = {
    "nothing": "nothing, plain",
    "NVML": "NVML alone, plain",
    "torch.cuda.device_count": "device_count, plain",
    "torch.cuda.is_available": "is_available, plain",
    "torch, first operation": "first operation, plain",
}
"""Touches, and the case names of the experiment on the guard."""
BY_THE_DRIVER = {
    "libcudart loaded": ("runtime, loaded", "cudaMalloc"),
    "cudaRuntimeGetVersion": ("runtime, its version", "cudaMalloc"),
    "cuInit": ("cuInit", "cuInit"),
}
"""Touches, and the case and call of the experiment on NVIDIA's libraries."""


def telling_sign(run: Recording) -> str:
    """what_a_touch_leaves: a, b or c if exactly the processes whose children are barred have several threads (a),
    open device files (b) or mapped ones (c); d if none of these signs tells."""
    children = barred()
    held = {each["case"]: each for each in run.of("holds")}
    tests = {
        "a": lambda each: each["threads"] > 1,
        "b": lambda each: bool(each["device_files"]),
        "c": lambda each: each["device_mappings"] > 0,
    }
    telling = [name for name, test in tests.items() if all(test(held[touch]) == children[touch] for touch in children)]
    return telling[0] if telling else "d"


def barred() -> dict[str, bool]:
    """By touch: is a forked child's first use of the GPU refused in the recordings?"""
    guard, driver = recordings.load("what_trips_the_guard"), recordings.load("driver_after_fork")
    found = {}
    for touch, case in BY_THE_GUARD.items():
        [child] = guard.of("forked child", asks="first operation", case=case)
        found[touch] = child["outcome"] != "returned"
    for touch, (case, call) in BY_THE_DRIVER.items():
        [child] = driver.of("forked child", case=case, call=call)
        found[touch] = child["value"]["code"] != 0
    return found


def held_and_barred() -> Iterator[tuple[str, dict[str, int], bool]]:
    """By touch: the counts of threads and of the device's files, open and mapped, and whether the child is barred."""
    held = {each["case"]: each for each in recordings.load("what_a_touch_leaves").of("holds")}
    for touch, is_barred in barred().items():
        each = held[touch]
        counts = {
            "threads": each["threads"],
            "files_open": len(each["device_files"]),
            "files_mapped": each["device_mappings"],
        }
        yield touch, counts, is_barred


# ---- the lesson's claims ---------------------------------------------------------------------------------------------


def mappings_tell(run: Recording) -> bool:
    """what_a_touch_leaves: device files are mapped after exactly those touches that bar a child."""
    return telling_sign(run) == "c"


def nvml_maps_nothing(run: Recording) -> bool:
    """what_a_touch_leaves: NVML has opened files of the device, and mapped none."""
    [held] = run.of("holds", case="NVML")
    return bool(held["device_files"]) and held["device_mappings"] == 0

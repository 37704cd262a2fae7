"""What a process shows of having touched CUDA, and whether its forked child can use the GPU: three recordings together.

`what_a_touch_leaves` says what the process holds; which child can use the GPU is what notebook 05's recordings say,
`what_trips_the_guard` and `driver_after_fork`. Raises `LookupError` where a recording lacks something. Like
cuda_findings.py it imports nothing but the standard library; the table is in cuda_after_fork.py.

Taught in: 06_which_start_method
"""

from lab_support.instruments.record import recordings
from lab_support.instruments.record.recordings import Recording

BY_THE_GUARD = {
    "nothing": "nothing, plain",
    "NVML": "NVML alone, plain",
    "torch.cuda.device_count": "device_count, plain",
    "torch.cuda.is_available": "is_available, plain",
    "torch, first operation": "first operation, plain",
}
"""Touches, by the name that the experiment on the guard has for them."""
BY_THE_DRIVER = {
    "libcudart loaded": ("runtime, loaded", "cudaMalloc"),
    "cudaRuntimeGetVersion": ("runtime, its version", "cudaMalloc"),
    "cuInit": ("cuInit", "cuInit"),
}
"""Touches, by case and call of the experiment on NVIDIA's libraries."""


def telling_sign(run: Recording) -> str:
    """what_a_touch_leaves: a, b or c where threads, open or mapped device files are there in those alone whose children
    are barred; d where none of these signs tells."""
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
    """By touch: is a forked child's first use of the GPU refused? Of the recordings."""
    guard, driver = recordings.load("what_trips_the_guard"), recordings.load("driver_after_fork")
    found = {}
    for touch, case in BY_THE_GUARD.items():
        [child] = guard.of("forked child", asks="first operation", case=case)
        found[touch] = child["outcome"] != "returned"
    for touch, (case, call) in BY_THE_DRIVER.items():
        [child] = driver.of("forked child", case=case, call=call)
        found[touch] = child["value"]["code"] != 0
    return found


# ---- what the lesson claims of it ------------------------------------------------------------------------------------


def mappings_tell(run: Recording) -> bool:
    """what_a_touch_leaves: device files are mapped after exactly the touches after which a child is barred."""
    return telling_sign(run) == "c"


def nvml_maps_nothing(run: Recording) -> bool:
    """what_a_touch_leaves: NVML has opened files of the device, and mapped none."""
    [held] = run.of("holds", case="NVML")
    return bool(held["device_files"]) and held["device_mappings"] == 0

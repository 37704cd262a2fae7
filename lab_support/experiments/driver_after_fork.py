"""4. Below torch: what do NVIDIA's own libraries answer in a forked child? Codes and names, by ctypes.

In each case a fresh parent first does one thing: nothing, cuInit, a context of its own, the primary context, or the
runtime API (only loaded, asked for its version, or more). Then each call is made in a forked child of its own, and all
calls one after another in one more child. Samples: `parent`, `forked child` (with `call`), `forked child in a row`,
`parent afterwards`.
"""

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from lab_support.experiments.child import in_forked_child
from lab_support.experiments.cuda.cuda_driver import Answer, Driver, Runtime
from lab_support.experiments.program import MIB, emit, exit_code, run_cases, start

CHILD_SECONDS = 6.0

Call = Callable[[], Answer]


def driver_calls(driver: Driver) -> dict[str, Call]:
    return {
        "cuInit": driver.init,
        "cuDeviceGetCount": driver.device_count,
        "cuCtxGetCurrent": driver.current_context,
        "cuMemAlloc": lambda: driver.allocate(MIB),
        "cuCtxCreate": driver.create_context,
        "cuCtxSynchronize": driver.synchronize,
    }


def runtime_calls(runtime: Runtime) -> dict[str, Call]:
    return {"cudaGetDeviceCount": runtime.device_count, "cudaMalloc": lambda: runtime.allocate(MIB)}


CASES = {
    "nothing": (),
    "cuInit": ("cuInit",),
    "context": ("cuInit", "cuCtxCreate"),
    "primary context": ("cuInit", "primary context"),
    "runtime, loaded": (),
    "runtime, its version": ("cudaRuntimeGetVersion",),
    "runtime, cudaGetDeviceCount": ("cudaGetDeviceCount",),
    "runtime, cudaMalloc": ("cudaMalloc",),
}
"""The parent's calls before it forks, by case."""


def main() -> int:
    options = start(__doc__ or "")
    if options.case:
        return run_case(options.case)
    ended = run_cases(
        "lab_support.experiments.driver_after_fork", {case: {} for case in CASES}, options, options.seconds - 8
    )
    return exit_code(ended)


def run_case(case: str) -> int:
    if case.startswith("runtime"):
        runtime = Runtime()
        emit("library", name=runtime.path.rpartition("/")[2])
        calls = runtime_calls(runtime)
        known = calls | {"cudaRuntimeGetVersion": runtime.version}
    else:
        driver = Driver()
        calls = driver_calls(driver)
        known = calls | {"primary context": driver.retain_primary_context}
    for name in CASES[case]:
        emit("parent", answer=known[name]())
    for name, call in calls.items():
        emit("forked child", call=name, **in_forked_child(partial(answer_of, call), CHILD_SECONDS))
    emit("forked child in a row", **in_forked_child(lambda: [answer_of(call) for call in calls.values()], 10))
    for name in CASES[case][-1:]:
        emit("parent afterwards", answer=known[name]())
    return 0


def answer_of(call: Call) -> dict[str, Any]:
    """Runs in the forked child."""
    return dataclasses.asdict(call())


if __name__ == "__main__":
    sys.exit(main())

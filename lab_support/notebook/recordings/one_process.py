"""What a front end costs, and one process in Rust beside our API servers: from the recording of `front_ends`.

The engine core there is the stand-in of one pace, so that front ends alone differ. It measures nothing. Every function
raises `LookupError` if the recording ended before it saw the front end.

Taught in: 08_does_another_api_server_help
"""

from statistics import median
from typing import Any

from lab_support.instruments.record import recordings
from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.canvas.plots import Picture
from lab_support.notebook.figures.load.stacked import stacked

RECORDING = "front_ends"
OWN, KERNEL = "its own code", "the kernel"
_TOLD = ("kernel_share", "tokens", "clients")
_ONE, _FOUR, _RUST = "lab-1", "lab-4", "vllm-rs-1"
_TITLES = {
    _ONE: "1 API server",
    "lab-2": "2 API servers",
    _FOUR: "4 API servers",
    _RUST: "1 process in Rust",
    "vllm-rs-2": "2 processes in Rust",
}


def costs(run: Recording) -> Picture:
    """A bar for each front end: its CPU time for a streamed token, in its own code and in the kernel."""
    python, rust = (cost_of_a_token(run, name) for name in (_ONE, _RUST))
    finding = (
        f"For what takes {python[OWN]:.0f} µs in Python, the process in Rust needs {rust[OWN]:.0f}; "
        f"the kernel takes {python[KERNEL]:.0f} and {rust[KERNEL]:.0f}"
    )
    bars = {title: cost_of_a_token(run, name) for name, title in _TITLES.items()}
    return stacked(
        bars, unit="microseconds of CPU time for a streamed token and its share of the request", finding=finding
    )


def samples(front_end: str) -> list[dict[str, Any]]:
    """What was recorded of the front end with that title, such as "1 process in Rust": a dict for each load.

    cpu: seconds of CPU time of all its threads. kernel_share: the part of it that was spent in the kernel, 0 to 1.
    tokens: streamed ones. clients: how many asked at once. Raises `LookupError` for another title, `NoRecording`.
    """
    names = [name for name, title in _TITLES.items() if title == front_end]
    if not names:
        raise LookupError(f"got {front_end!r}, expected one of {', '.join(_TITLES.values())}")
    found = _of(recordings.load(RECORDING), names[0])
    return [{"cpu": each["cpu_seconds"][-1], **{key: each[key] for key in _TOLD}} for each in found]


def cost_of_a_token(run: Recording, name: str) -> dict[str, float]:
    """Microseconds of CPU time for a streamed token with its share of the request, in `OWN` and in `KERNEL`: medians
    over numbers of clients, clients and rounds, which all have the same requests."""
    found = [(each["token_us"], each["kernel_share"]) for each in _of(run, name)]
    return {OWN: median(us * (1 - share) for us, share in found), KERNEL: median(us * share for us, share in found)}


def the_kernel_takes_the_same(run: Recording) -> bool:
    """Whether the kernel's part of a token differs by less than a half."""
    rust, python = (cost_of_a_token(run, name)[KERNEL] for name in (_RUST, _ONE))
    return max(rust, python) < 1.5 * min(rust, python)


def memory_between_one_and_four(run: Recording) -> bool:
    """Whether the process in Rust has more memory than one API server, and less than four."""
    one, rust, four = (_median(run, name, "memory_mb") for name in (_ONE, _RUST, _FOUR))
    return one < rust < four


def at_the_same_rate(run: Recording) -> bool:
    """Whether both answered as many requests of one token in a second, within a tenth, under each load."""
    rates = [[_median(run, name, "requests_per_second", load) for name in (_ONE, _RUST)] for load in _loads(run)]
    return all(max(pair) < 1.1 * min(pair) for pair in rates)


def _loads(run: Recording) -> set[tuple[str, int]]:
    return {(each["client"], each["clients"]) for each in run.of("front end", engine="paced")}


def _median(run: Recording, name: str, field: str, load: tuple[str, int] | None = None) -> float:
    """load: a client program and its number of clients; by default all of them."""
    only = {"client": load[0], "clients": load[1]} if load else {}
    return median(sample[field] for sample in _of(run, name, **only))


def _of(run: Recording, name: str, **only: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run.of("front end", engine="paced", front_end=name, **only)
    if not found:
        raise LookupError(f"got a recording of {run.name} without {name}, expected it")
    return found

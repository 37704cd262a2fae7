"""Shared memory in use on the whole machine, as the kernel counts it (`Shmem` in /proc/meminfo). Standard library only,
because a cell's own processes import it.

Taught in: 05_why_does_cuda_break_after_fork
"""

import time

PACE = 0.02  # seconds from one look to the next


def in_use() -> int:
    """The bytes in use: tmpfs files, memfds and shared anonymous mappings of all processes. Raises `LookupError`."""
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("Shmem:"):
                return 1024 * int(line.split()[1])
    raise LookupError("got no line Shmem: in /proc/meminfo, expected one: this kernel does not count shared memory")


def watch(seconds: float) -> list[tuple[float, int]]:
    """Call `in_use()` again and again for `seconds`: the time of each look (`time.monotonic`), and the bytes."""
    began = time.monotonic()
    seen = [(began, in_use())]
    while (now := time.monotonic()) < began + seconds:
        seen.append((now, in_use()))
        time.sleep(PACE)
    return seen

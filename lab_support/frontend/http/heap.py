"""Makes the C library return free memory to the system, as far as it can be told to. Runs in API servers.

When a large block is freed, glibc raises its threshold, so that it takes the next block of that size from its heap. A
heap shrinks only at its end: after a burst of large bodies most of it stays with the process, although it is empty. And
glibc makes several heaps for threads. With a fixed threshold, large blocks stay mappings of their own (mallopt(3)).
"""

import ctypes
import sys
from contextlib import suppress

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # malloc.h
LARGE = 65536  # bytes: the size of the pieces in which bodies arrive and answers leave
ARENAS = 2


def give_free_memory_back() -> None:
    """Call it before any thread starts. Does nothing with a C library other than glibc."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, LARGE)
        mallopt(_ARENA_MAX, ARENAS)

"""Memory that is free goes back to the system, as far as the C library lets itself be told. Runs in API servers.

glibc learns from each large block that is freed to take the next one of that size from its heap, which shrinks at its
end only: after a burst of large bodies most of it stays with the process, though nothing lies in it. And it makes a
heap for each thread. With a fixed threshold large blocks are mappings of their own (mallopt(3)).
"""

import ctypes
import sys
from contextlib import suppress

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # malloc.h
LARGE = 65536  # bytes: the pieces in which bodies come and answers go
ARENAS = 2


def give_free_memory_back() -> None:
    """To be called before there are threads. Does nothing where the C library is another one."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, LARGE)
        mallopt(_ARENA_MAX, ARENAS)

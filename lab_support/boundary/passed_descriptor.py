"""A descriptor that travels in the arguments of a process, inside the object that holds it.

`multiprocessing` passes on those descriptors alone that say so when they are pickled (`DupFd`). In the child the object
is made again with a descriptor of its own: by spawn and by fork the same number, by forkserver another one.
"""

from collections.abc import Callable
from multiprocessing import reduction


class PassedDescriptor(int):
    """A descriptor's number. Pickled for a process that is being made, it is that process's own descriptor there."""

    def __reduce__(self) -> tuple[Callable[[object], "PassedDescriptor"], tuple[object]]:
        return _received, (reduction.DupFd(int(self)),)


def _received(passed: object) -> PassedDescriptor:
    return PassedDescriptor(passed.detach())  # type: ignore[attr-defined]  # DupFd's twin in the child

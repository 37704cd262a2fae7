"""A descriptor that travels in the arguments of a process, inside the object that holds it.

`multiprocessing` passes on only those descriptors that ask for it when they are pickled (`DupFd`). In the child the
object is made again with a descriptor of its own: the same number under spawn and fork, another under forkserver.
"""

from collections.abc import Callable
from multiprocessing import reduction


class PassedDescriptor(int):
    """A descriptor's number. When pickled for a process being made, it becomes that process's own descriptor."""

    def __reduce__(self) -> tuple[Callable[[object], "PassedDescriptor"], tuple[object]]:
        return _received, (reduction.DupFd(int(self)),)


def _received(passed: object) -> PassedDescriptor:
    return PassedDescriptor(passed.detach())  # type: ignore[attr-defined]  # DupFd's twin in the child

"""What `python -X importtime` says, as a tree: which import took how long, and which imports it made in turn.

Python writes one line for each module when its import has ended, so what a module imported stands above it, two
spaces further in. A spawned child writes it too: it gets its parent's `-X importtime`, or inherits
PYTHONPROFILEIMPORTTIME=1.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Import:
    """One module's first import in one process. ms: milliseconds with all that it imported; own_ms: without.

    imports: what it was the first to import, in order.
    """

    name: str
    ms: float
    own_ms: float
    imports: tuple["Import", ...] = ()

    def __iter__(self) -> Iterator["Import"]:
        """Itself, and all below it."""
        yield self
        for each in self.imports:
            yield from each


def parse(text: str) -> tuple[Import, ...]:
    """The imports that nobody's import made, in order; other lines are passed over."""
    waiting: list[tuple[int, Import]] = []
    for own, whole, indent, name in _LINE.findall(text):
        depth = len(indent) // 2
        mine = tuple(each for level, each in waiting if level > depth)
        waiting = [(level, each) for level, each in waiting if level <= depth]
        waiting.append((depth, Import(name, int(whole) / 1000, int(own) / 1000, mine)))
    return tuple(each for _, each in waiting)


def find(imports: tuple[Import, ...], name: str) -> Import | None:
    """The import of the module `name`, wherever it is below `imports`; None where it was not imported."""
    return next((each for top in imports for each in top if each.name == name), None)

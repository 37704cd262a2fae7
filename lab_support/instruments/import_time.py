"""The output of `python -X importtime` as a tree: each import's time, and the imports that it made in turn.

Python writes a module's line when its import has ended, so the modules that it imported stand above it, indented by two
more spaces. A spawned child writes them too: it gets its parent's `-X importtime`, or inherits
PYTHONPROFILEIMPORTTIME=1.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Import:
    """One module's first import in one process. ms: milliseconds with all that it imported; own_ms: without.

    imports: the modules that it was the first to import, in order.
    """

    name: str
    ms: float
    own_ms: float
    imports: tuple["Import", ...] = ()

    def __iter__(self) -> Iterator["Import"]:
        """This import and all below it."""
        yield self
        for each in self.imports:
            yield from each


def parse(text: str) -> tuple[Import, ...]:
    """The top-level imports, in order; other lines are skipped."""
    waiting: list[tuple[int, Import]] = []
    for own, whole, indent, name in _LINE.findall(text):
        depth = len(indent) // 2
        mine = tuple(each for level, each in waiting if level > depth)
        waiting = [(level, each) for level, each in waiting if level <= depth]
        waiting.append((depth, Import(name, int(whole) / 1000, int(own) / 1000, mine)))
    return tuple(each for _, each in waiting)


def find(imports: tuple[Import, ...], name: str) -> Import | None:
    """The import of the module `name`, at any depth; None if it was not imported."""
    return next((each for top in imports for each in top if each.name == name), None)

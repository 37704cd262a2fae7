"""Texts of a cell without the paths of this machine."""

import os
import re
from collections import deque
from collections.abc import Callable, Sequence

from lab_support.notebook.page.record import STABLE

_THREAD = re.compile(r"(?<=hread) 0x[0-9a-f]+( )")
"""A thread's number as faulthandler writes it; left out of published notebooks, because it changes with each run."""


def cleaner(folder: str, script: str, places: Sequence[tuple[str, str]]) -> Callable[[str], str]:
    """A function that takes this machine's paths out of a text. folder: the cell's own; script: the file in it."""
    replaced = deque(sorted(places, key=lambda place: -len(place[0])))
    replaced.extendleft([(folder, "tmp"), (script, os.path.basename(script))])

    def clean(text: str) -> str:
        for place, name in replaced:
            text = text.replace(place, name)
        return _THREAD.sub(r"\1", text) if os.environ.get(STABLE) else text

    return clean

"""The stacks that faulthandler wrote, as data."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    file: str
    line: int
    function: str


_MORE_THREADS = "..."


_FRAME = re.compile(r'^  File "([^"]+)", line (\d+) in (.+)$')


def stacks(text: str) -> list[list[Frame]]:
    """The stacks that faulthandler wrote, a list for each thread, innermost frame first; the main thread comes first.

    `Wait` describes the main thread. Its list is empty if there are more threads than faulthandler writes.
    """
    threads: list[list[Frame]] = []
    for line in text.splitlines():
        if "(most recent call first)" in line or line == _MORE_THREADS:
            threads.append([])
        elif (found := _FRAME.match(line)) and threads:
            threads[-1].append(Frame(found[1], int(found[2]), found[3]))
    return [*threads[-1:], *threads[:-1]]  # CPython goes from the newest thread to the main one

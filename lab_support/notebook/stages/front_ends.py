"""Several front ends and one engine, each in a forked process, for programs that say how they find each other.

Taught in: 07_how_do_strangers_find_each_other
"""

from collections.abc import Callable, Sequence

from lab_support.notebook.stages.fleet import fleet

FrontEnd = Callable[[int, str, list[str]], list[str]]
Engine = Callable[[int, str], object]
_LIMIT = 60.0  # seconds; a cell has a deadline of its own


def serve(front_end: FrontEnd, engine: Engine, prompts: Sequence[list[str]]) -> list[list[str]]:
    """Run `engine(count, folder)` and, for each list of `prompts`, `front_end(number, folder, list)`.

    All run at once, in processes of their own; `folder` is for their sockets. Returns each front end's result, as soon
    as all have returned; the engine, which need not return, is killed then. Raises `RuntimeError` if one of them fails.
    """
    with fleet() as processes:
        working = processes.start(engine, len(prompts), processes.folder)
        asking = [processes.start(front_end, number, processes.folder, own) for number, own in enumerate(prompts)]
        try:
            return [each.result(_LIMIT) for each in asking]
        finally:
            if error := working.error():
                raise RuntimeError(f"the engine: {error}")

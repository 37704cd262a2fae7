"""An X-ray in a notebook: the picture of `instruments/xray/command.py`, its words, and an object with methods.

    seen = lab.xray(server)
    seen = lab.xray(run, "after")       # one that a cell's own process took by script.xray("after")
    seen.graph.who_holds(port=server.port)
    lab.compare(seen, lab.xray(server))

Runs in the kernel, and reads only /proc. In published notebooks labels replace pids.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from lab_support.instruments.xray import graph as xray_graph
from lab_support.instruments.xray import read as xray_read
from lab_support.instruments.xray import svg as xray_svg
from lab_support.instruments.xray import text as xray_text
from lab_support.instruments.xray.graph import Graph, KernelObject, ProcessNode
from lab_support.instruments.xray.text import label
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.page.record import STABLE
from lab_support.notebook.page.svg_note import within_the_page
from lab_support.notebook.servers.live_server import Server

_BEYOND_ALL_PIDS = 9_743_000  # Linux gives none above 2²²


@dataclass(frozen=True, slots=True)
class XRay:
    """One moment of a process tree. A notebook shows it as a picture, `print` as text.

    graph: processes, kernel objects, and the descriptors that connect them; it answers questions.
    met: pids that a picture around this one has met already, in that order: they have the first labels, if any have.
    """

    graph: Graph
    met: tuple[int, ...] = ()

    def who_holds(self, **what: Any) -> list[str]:
        """Names of the holders of one thing: `port=8000`, `address="/run/door"` or `inode=4711`."""
        return _names(self.graph, self.graph.who_holds(**what))

    def holders(self, thing: KernelObject) -> list[str]:
        """Names of the processes that hold one of the `objects`."""
        return _names(self.graph, self.graph.holders(thing))

    @property
    def listening_sockets(self) -> tuple[KernelObject, ...]:
        """The sockets that accept connections."""
        return self.graph.listening_sockets

    @property
    def shared(self) -> tuple[KernelObject, ...]:
        """The objects that more than one process holds."""
        return self.graph.shared

    def __str__(self) -> str:
        return _labelled(xray_text.text, self.graph, met=self.met)

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return _bundle(_labelled(xray_svg.svg, self.graph, met=self.met), str(self))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two X-rays of one tree: the later picture with a star on new things, and all changes in words.

    before, after: the two graphs.
    """

    before: Graph
    after: Graph

    @property
    def difference(self) -> xray_graph.Difference:
        """The things that came and went, as data."""
        return xray_graph.compare(self.before, self.after)

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.difference)

    def __str__(self) -> str:
        return _labelled(xray_text.difference_text, self.before, self.after)

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        picture = _labelled(lambda before, after: xray_svg.svg(after, before), self.before, self.after)
        return _bundle(picture, str(self))


def xray(what: Server | int | ProcessResult, name: str = "") -> XRay:
    """Look at a server, or at any process by its pid, with all descendants.

    For a cell's result: the X-ray `name` that one of its processes took by `script.xray(name)` while it ran.
    Raises `NoSuchProcess` if the process has ended, `KeyError` that lists the known names.
    """
    if isinstance(what, ProcessResult):
        return XRay(_taken(what, name))
    pid = what if isinstance(what, int) else what.pids["launcher"]
    return XRay(without_onlookers(xray_read.take_xray(pid)))


def _taken(run: ProcessResult, name: str) -> Graph:
    """The graph of the X-ray `name`; its processes have the names used in the cell's output."""
    taken = {event.fields["xray"]: event.fields["graph"] for event in run.events if "xray" in event.fields}
    if name not in taken:
        raise KeyError(f"got X-ray {name!r}, expected one that the cell took: {', '.join(taken) or 'it took none'}")
    graph = xray_graph.from_json(json.dumps(taken[name]))
    names = {process.identity.pid: process.name for process in run.processes}
    shown = [(one, names.get(one.pid, one.name)) for one in graph.processes]
    return replace(graph, processes=tuple(replace(one, name=label, title=label) for one, label in shown))


def compare(before: XRay, after: XRay) -> Comparison:
    """The things that came and went between two X-rays."""
    return Comparison(before.graph, after.graph)


def without_onlookers(graph: Graph) -> Graph:
    """Leave out the server's supervisor and guard, which hold ends of its pipes: they start it and are no part of it.

    This kernel holds such ends too, but it is the observer, and `take_xray` leaves it out already.
    """
    onlookers = {one.pid for one in graph.processes if one.outside and "cells/supervis" in one.title}
    return replace(
        graph,
        processes=tuple(one for one in graph.processes if one.pid not in onlookers),
        holds=tuple(hold for hold in graph.holds if hold.pid not in onlookers),
    )


def _names(graph: Graph, processes: tuple[ProcessNode, ...]) -> list[str]:
    """The processes' names, with pids if two have the same name."""
    places = [graph.processes.index(process) for process in processes]
    return [_labelled(lambda seen, at=at: label(seen, seen.processes[at]), graph) for at in places]


def _labelled(show: Callable[..., str], *graphs: Graph, met: tuple[int, ...] = ()) -> str:
    """`show(*graphs)`; in published notebooks with P0, P1, … in place of pids: those of `met`, then in ascending order.

    Replacing pids in the text would hit descriptor numbers and sizes too. So the graphs first get numbers that occur
    nowhere else.
    """
    if not os.environ.get(STABLE):
        return show(*graphs)
    pids = dict.fromkeys([*met, *(process.pid for graph in graphs for process in graph.processes)])
    numbers = {pid: _BEYOND_ALL_PIDS + index for index, pid in enumerate(pids)}
    text = show(*(_renumbered(graph, numbers) for graph in graphs))
    pid = rf"\b{_BEYOND_ALL_PIDS // 1000}\d\d\d\b"
    return _said_once(re.sub(pid, lambda found: f"P{int(found[0]) - _BEYOND_ALL_PIDS}", text))


def _said_once(text: str) -> str:
    """`text` without the labels of pids where the process's name is that label already, as a cell's names are."""
    text = re.sub(r"\b(P\d+) \(\1\)", r"\1", text)
    text = re.sub(r"\b(P\d+) \(pid \1, ", r"\1 (", text)
    return re.sub(r"(>(?:★ )?(P\d+)</text>)\s*<text[^>]*>pid \2</text>", r"\1", text)


def _renumbered(graph: Graph, numbers: dict[int, int]) -> Graph:
    return replace(
        graph,
        root=numbers[graph.root],
        processes=tuple(
            replace(one, pid=numbers[one.pid], parent_pid=numbers.get(one.parent_pid, one.parent_pid))
            for one in graph.processes
        ),
        holds=tuple(replace(hold, pid=numbers[hold.pid]) for hold in graph.holds),
    )


def _bundle(svg: str, words: str) -> tuple[dict[str, str], dict[str, Any]]:
    return {"image/svg+xml": within_the_page(svg), "text/plain": words}, {"image/svg+xml": {"alt": words}}

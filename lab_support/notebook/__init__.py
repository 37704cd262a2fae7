"""What a notebook calls: `import lab_support.notebook as lab`. Nothing happens at import.

The kernel holds neither torch nor ZeroMQ sockets of ours: servers and loads are processes of their own.
`%load_ext lab_support.notebook` makes `%%python_process` known, and so does `lab.start`.

Each name is imported when it is first asked for, because a cell's own processes import `script` from here: they
are to be small, and start in milliseconds.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab_support.notebook.bars import bars
    from lab_support.notebook.checks import check, hint, reveal
    from lab_support.notebook.claims import ClaimFailed, claim
    from lab_support.notebook.class_votes import class_histogram
    from lab_support.notebook.exhibit import exhibit
    from lab_support.notebook.fill_in import filled_in
    from lab_support.notebook.gate import after_prediction
    from lab_support.notebook.import_picture import imports
    from lab_support.notebook.layers import layers
    from lab_support.notebook.live_server import Server, cleanup, live_server
    from lab_support.notebook.look import drive, look, metric
    from lab_support.notebook.memory_over_time import memory_over_time
    from lab_support.notebook.memory_roads import memory_roads
    from lab_support.notebook.outside import outside
    from lab_support.notebook.plots import latency, memory, process_tree
    from lab_support.notebook.predict import answer, predict, skip
    from lab_support.notebook.predictions import PredictionError
    from lab_support.notebook.progress import progress
    from lab_support.notebook.python_process import run_process
    from lab_support.notebook.pythons import pythons
    from lab_support.notebook.queue_plot import accept_queue, watch_accept_queue
    from lab_support.notebook.quiz import quiz
    from lab_support.notebook.recorded import recorded
    from lab_support.notebook.roads import roads
    from lab_support.notebook.shares import shares
    from lab_support.notebook.source_view import source
    from lab_support.notebook.spans import spans, spans_of
    from lab_support.notebook.start import start
    from lab_support.notebook.start_costs import start_costs
    from lab_support.notebook.tables import table
    from lab_support.notebook.timeline import timeline
    from lab_support.notebook.two_queues import two_queues
    from lab_support.notebook.xray import compare, xray

__all__ = [
    "ClaimFailed",
    "PredictionError",
    "Server",
    "accept_queue",
    "after_prediction",
    "answer",
    "bars",
    "check",
    "claim",
    "class_histogram",
    "cleanup",
    "compare",
    "drive",
    "exhibit",
    "filled_in",
    "hint",
    "imports",
    "latency",
    "layers",
    "live_server",
    "look",
    "memory",
    "memory_over_time",
    "memory_roads",
    "metric",
    "outside",
    "predict",
    "process_tree",
    "progress",
    "pythons",
    "quiz",
    "recorded",
    "reveal",
    "roads",
    "run_process",
    "shares",
    "skip",
    "source",
    "spans",
    "spans_of",
    "start",
    "start_costs",
    "table",
    "timeline",
    "two_queues",
    "watch_accept_queue",
    "xray",
]

_FROM = {
    "bars": ("bars",),
    "claims": ("ClaimFailed", "claim"),
    "class_votes": ("class_histogram",),
    "exhibit": ("exhibit",),
    "fill_in": ("filled_in",),
    "gate": ("after_prediction",),
    "checks": ("check", "hint", "reveal"),
    "import_picture": ("imports",),
    "layers": ("layers",),
    "live_server": ("Server", "cleanup", "live_server"),
    "look": ("drive", "look", "metric"),
    "memory_over_time": ("memory_over_time",),
    "memory_roads": ("memory_roads",),
    "outside": ("outside",),
    "plots": ("latency", "memory", "process_tree"),
    "predict": ("answer", "predict", "skip"),
    "predictions": ("PredictionError",),
    "progress": ("progress",),
    "python_process": ("run_process",),
    "pythons": ("pythons",),
    "recorded": ("recorded",),
    "roads": ("roads",),
    "shares": ("shares",),
    "quiz": ("quiz",),
    "source_view": ("source",),
    "queue_plot": ("accept_queue", "watch_accept_queue"),
    "spans": ("spans", "spans_of"),
    "start": ("start",),
    "start_costs": ("start_costs",),
    "tables": ("table",),
    "timeline": ("timeline",),
    "two_queues": ("two_queues",),
    "xray": ("compare", "xray"),
}
"""Which file has which name."""


def __getattr__(name: str) -> Any:
    for module, names in _FROM.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"got lab.{name}, expected one of {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext lab_support.notebook` calls."""
    from lab_support.notebook import python_process

    python_process.load(shell)


class _Door(ModuleType):
    """This package: when Python has imported `look.py` and sets it here, `lab.look` stays the function."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Door

from .canvas.plots import latency, memory, process_tree
from .cells.python_process import run_process
from .cells.pythons import pythons
from .figures.bars import bars
from .figures.exhibit import exhibit
from .figures.import_picture import imports
from .figures.layers import layers
from .figures.memory_roads import memory_roads
from .figures.outside import outside
from .figures.queue_plot import accept_queue, watch_accept_queue
from .figures.roads import roads
from .figures.shares import shares
from .figures.source_view import source
from .figures.spans import spans, spans_of
from .figures.start_costs import start_costs
from .figures.timeline import timeline
from .figures.two_queues import two_queues
from .figures.wait_queues import wait_queues
from .figures.xray import compare, xray
from .live.watched import watch
from .moves.again import again
from .moves.checks import check
from .moves.claims import ClaimFailed, claim
from .moves.class_votes import class_histogram
from .moves.help import hint, reveal
from .moves.ledger import ledger
from .moves.predict import answer, predict, skip
from .moves.progress import progress
from .moves.quiz import quiz
from .moves.reference import reference
from .moves.start import start
from .moves.verdicts import verdict
from .page.fill_in import filled_in
from .page.gate import after_prediction
from .page.predictions import PredictionError
from .page.tables import table
from .recordings.memory_over_time import memory_over_time
from .recordings.recorded import recorded
from .servers.drive import drive
from .servers.live_server import Server, cleanup, live_server
from .servers.look import look, metric
from .servers.my_server import my_server

__all__ = [
    "ClaimFailed",
    "PredictionError",
    "Server",
    "accept_queue",
    "after_prediction",
    "again",
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
    "ledger",
    "live_server",
    "look",
    "memory",
    "memory_over_time",
    "memory_roads",
    "metric",
    "my_server",
    "outside",
    "predict",
    "process_tree",
    "progress",
    "pythons",
    "quiz",
    "recorded",
    "reference",
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
    "verdict",
    "wait_queues",
    "watch",
    "watch_accept_queue",
    "xray",
]

def load_ipython_extension(shell: object) -> None: ...

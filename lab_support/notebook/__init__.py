"""What a notebook calls: `import lab_support.notebook as lab`. Nothing happens at import.

The kernel holds neither torch nor ZeroMQ sockets of ours: servers and loads are processes of their own.
"""

from lab_support.notebook.live_server import Server, cleanup, live_server
from lab_support.notebook.look import drive, look, metric
from lab_support.notebook.plots import latency, memory, process_tree
from lab_support.notebook.start import start
from lab_support.notebook.tables import table

__all__ = [
    "Server",
    "cleanup",
    "drive",
    "latency",
    "live_server",
    "look",
    "memory",
    "metric",
    "process_tree",
    "start",
    "table",
]

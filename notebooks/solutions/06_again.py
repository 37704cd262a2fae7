"""Predictions of notebook 06, asked again with other numbers."""

from collections.abc import Mapping
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found
from lab_support.notebook.page.tables import Table

# ---- 06.2: what a process has, and what the rule says ----------------------------------------------------------------

THINGS = {
    "an open file and a socket": "import socket, tempfile\nkept = (tempfile.TemporaryFile(), socket.socket())",
    "a random generator, and text in a buffer": "import random\nkept = random.Random(7)\nprint(end='text')",
    "a pool with one thread, used once": (
        "from concurrent.futures import ThreadPoolExecutor\nkept = ThreadPoolExecutor(1)\nkept.submit(int).result()"
    ),
    "a pool with one thread, used and shut down": (
        "from concurrent.futures import ThreadPoolExecutor\nkept = ThreadPoolExecutor(1)\n"
        "kept.submit(int).result()\nkept.shutdown()"
    ),
    "a ZeroMQ socket": "import zmq\nkept = zmq.Context.instance().socket(zmq.PUSH)",
    "a multiprocessing.Queue with a number in it": (
        "import multiprocessing\nkept = multiprocessing.Queue()\nkept.put(1)"
    ),
}
_ASK = """\
{program}
from lab_support.supervision.start_rule import Seen, choose
from lab_support.notebook.script import emit
seen = Seen.here()
choice = choose("fork", seen)
emit(method=choice.method, threads=seen.threads, python=len(seen.python_threads))
import os
os._exit(0)
"""


def found_choice(result: ProcessResult, given: Mapping[str, Any]) -> Found:
    told = result.events[-1].fields
    row = (given["thing"], told["method"], str(told["threads"]), str(told["python"]))
    return Found(told, Table(("the process has", "the rule says", "other threads", "known to Python"), (row,)))


def letter_of_choice(told: Mapping[str, Any], _: Mapping[str, Any]) -> str:
    if told["method"] == "fork":
        return "a"
    return "c" if told["threads"] > told["python"] else "b"


# ---- 06.3: other threads, another limit ------------------------------------------------------------------------------

_WATCH = """\
from lab_support.notebook.script import emit
from lab_support.notebook.stages import forced_fork
emit(forced_fork.watch(override=True, threads={threads}, ready_timeout={limit}))
"""


def found_end(result: ProcessResult, given: Mapping[str, Any]) -> Found:
    told = result.events[-1].fields
    end = "ready" if told["launcher"] is None else f"exit code {told['launcher']}"
    row = (str(given["threads"]), f"{given['limit']} s", end, f"{told['seconds']} s")
    return Found(told["launcher"], Table(("threads of the parent", "limit", "the server", "after"), (row,)))


AGAIN = (
    Again(
        "06.2",
        draw=lambda random: {"thing": random.choice(sorted(THINGS))},
        words=lambda given: f"the rule's answer to a process that has {given['thing']}, and asks for fork",
        options=lambda given: {
            "a": "fork: it sees no reason",
            "b": "spawn: a thread that Python knows",
            "c": "spawn: a thread that Python does not know",
        },
        program=lambda given: _ASK.format(program=THINGS[given["thing"]]),
        find=found_choice,
        letter=letter_of_choice,
        timeout=60,
    ),
    Again(
        "06.3",
        draw=lambda random: {"threads": random.choice((1, 2)), "limit": random.choice((7, 9, 11))},
        words=lambda given: (
            f"the server's end, where its program has multiplied on {given['threads']} "
            f"thread{'s' * (given['threads'] > 1)} and overrides the rule, with a limit of {given['limit']} s"
        ),
        options=lambda given: {
            "a": "ready",
            "b": f"exit code 1, after {given['limit']} s",
            "c": "another exit code, as soon as the engine core computes",
        },
        program=lambda given: _WATCH.format(**given),
        find=found_end,
        letter=lambda code, _: "a" if code is None else "b" if code == 1 else "c",
        timeout=110,
    ),
)

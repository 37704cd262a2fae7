"""The blanks of notebook 02."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed

# ---- 02.b1: ready, not only started ----------------------------------------------------------------------------------

NOBODY = "the launcher did not wait until the worker listened: that a process is alive does not mean that it is ready"
JOINED = "`join()` waits until the worker has ended, and this worker serves: each waits for the other"
WRONG_END = (
    "you read from the end that was given to the worker: what the worker sends by `to_launcher` arrives at "
    "`from_worker`"
)
SLEPT = "it waited by the clock: too long today, and too short on a busy day; let the worker say when it is ready"
_TOO_LATE = 1.0
"""Seconds between the worker's word and the client. A message takes milliseconds, a safe guess seconds."""


def judge_ready(result: ProcessResult) -> Verdict:
    expected = "the client connects as soon as the worker listens"
    if result.ended == "timeout":
        return failed("the program did not end by itself", expected, _waited_for(result))
    knocked, got, listens = (result.by(name) for name in ("knocks", "waits", "listens"))
    if got[True]["error"]:
        return failed(f"the client got {got[True]['error']}", expected, NOBODY)
    late = knocked[True]["at"] - listens[True]["at"]
    if late < 0:
        return failed("the client came before the worker listened", expected, NOBODY)
    measured = f"the client connected {1000 * late:.0f} ms after the worker had said that it listens"
    return failed(measured, expected, SLEPT) if late > _TOO_LATE else passed(measured)


def _waited_for(result: ProcessResult) -> str:
    """By the launcher's stack at the deadline, because `poll()` and `join(100)` wait in the same system call."""
    stack = result.process("P0").stack
    return WRONG_END if " in recv" in stack or " in _poll" in stack else JOINED


# ---- 02.b2: a fork server with torch ---------------------------------------------------------------------------------

IN_THE_LAUNCHER = (
    "the launcher has imported torch, and a fork server's children are copies of the server, not of the launcher"
)
PASSED_OVER = (
    "the fork server has no torch: it passes over, without a word, what it can't import; it expects a list of modules, "
    "each by the name that `import` takes"
)


def judge_preloaded(result: ProcessResult) -> Verdict:
    workers = [event.fields for event in result.events if "had_torch" in event.fields]
    had = sum(each["had_torch"] for each in workers)
    measured = f"{had} of {len(workers)} workers had torch before they asked for it"
    if workers and had == len(workers) == 2:
        return passed(measured)
    cause = IN_THE_LAUNCHER if result.told["launcher_has_torch"] else PASSED_OVER
    return failed(measured, "both workers are made with torch in their memory", cause)


# ---- 02.b3: a GPU for each worker ------------------------------------------------------------------------------------

NOT_SET = (
    "the environment of the worker still has the launcher's value under that name: a Python variable, or a variable of "
    "another name, is nothing that a library looks at"
)
ASKED_BEFORE = "your line asks `visible_gpus()` before it sets the variable, and the answer is kept"
ANOTHERS = "each worker is to see the GPU that it was given as an argument"


def judge_own_gpu(result: ProcessResult) -> Verdict:
    told = [event.fields for event in result.events if "sees" in event.fields and event.fields["method"] != "fork"]
    measured = ", ".join(f"worker {each['gpu']} by {each['method']} sees {each['sees']}" for each in told)
    if len(told) == 4 and all(each["sees"] == each["gpu"] for each in told):
        return passed(measured)
    expected = "by spawn and by forkserver, worker 0 sees 0 and worker 1 sees 1"
    if all(each["variable"] == result.told["launcher_sees"] for each in told):
        return failed(measured, expected, NOT_SET)
    in_time = all(each["sees"] == each["variable"] for each in told)
    return failed(measured, expected, ANOTHERS if in_time else ASKED_BEFORE)


BLANKS = (
    Blank(
        name="02.b1",
        cell="ready",
        task="let the launcher wait until the worker says that it listens",
        right=(
            ("from_worker.recv()",),
            ("from_worker.poll(None)",),
            ("multiprocessing.connection.wait([from_worker])",),
        ),
        wrong=(
            WrongFilling(NOBODY, ("pass",)),
            WrongFilling(NOBODY, ("child.is_alive()",)),
            WrongFilling(JOINED, ("child.join()",)),
            WrongFilling(JOINED, ("child.join(100)",)),
            WrongFilling(WRONG_END, ("to_launcher.recv()",)),
            WrongFilling(WRONG_END, ("to_launcher.poll(None)",)),
            WrongFilling(SLEPT, ("import time; time.sleep(3)",)),
        ),
        hints=(
            "Who knows when the worker listens? And how does it tell?",
            "The worker sends a word through its end of the pipe. The launcher has the other end, `from_worker`.",
            "A connection's `recv()` returns when a message has come.",
        ),
        judge=judge_ready,
    ),
    Blank(
        name="02.b2",
        cell="preloaded",
        task="let the fork server import torch before it makes the first worker",
        right=(
            ('context.set_forkserver_preload(["torch"])',),
            ('multiprocessing.set_forkserver_preload(["torch"])',),
            ('context.set_forkserver_preload(("torch",))',),
        ),
        wrong=(
            WrongFilling(IN_THE_LAUNCHER, ("import torch",)),
            WrongFilling(PASSED_OVER, ('context.set_forkserver_preload("torch")',)),
            WrongFilling(PASSED_OVER, ('context.set_forkserver_preload(["pytorch"])',)),
            WrongFilling(PASSED_OVER, ("context.set_forkserver_preload([])",)),
        ),
        hints=(
            "Which process is copied when a worker is made: yours, or another one?",
            "`set_forkserver_preload` tells the fork server what to import. When does it have to be called?",
            "Call `context.set_forkserver_preload` with a list of names, here of one: the name is a string.",
        ),
        judge=judge_preloaded,
    ),
    Blank(
        name="02.b3",
        cell="own_gpu",
        task="let the worker set `CUDA_VISIBLE_DEVICES` for itself, before it asks for its GPUs",
        right=(
            ('os.environ["CUDA_VISIBLE_DEVICES"] = gpu',),
            ("os.environ.update(CUDA_VISIBLE_DEVICES=gpu)",),
            ('os.environ |= {"CUDA_VISIBLE_DEVICES": gpu}',),
        ),
        wrong=(
            WrongFilling(NOT_SET, ("CUDA_VISIBLE_DEVICES = gpu",)),
            WrongFilling(NOT_SET, ('os.environ["CUDA_VISIBLE_DEVICE"] = gpu',)),
            WrongFilling(ASKED_BEFORE, ('visible_gpus(); os.environ["CUDA_VISIBLE_DEVICES"] = gpu',)),
            WrongFilling(ANOTHERS, ('os.environ["CUDA_VISIBLE_DEVICES"] = "0"',)),
        ),
        hints=(
            "The worker is a process of its own. Whose environment may it change?",
            "`os.environ` is the environment of the process that runs the line.",
            'Assign the argument `gpu` to `os.environ["…"]`.',
        ),
        judge=judge_own_gpu,
    ),
)

"""The claims of the appendix 01a, each with an experiment in which it is false."""

import mmap
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank, filled
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

THREADS, WARNED, DICE, BLAS, LEAK = (cell("01a", name) for name in ("threads", "warned", "dice", "blas", "leak"))
MESSAGES, SESSION, FORK_TIME, HUGE = (cell("01a", name) for name in ("messages", "session", "fork_time", "huge"))
READER, IN_A_KERNEL = (cell("01a", name) for name in ("reader", "in_a_kernel"))
SEEDED, FAREWELL = (blank(name).reference for name in ("01a.b1", "01a.b2"))

_POOL_OF_ITS_OWN = changed(
    THREADS,
    'pool.submit(str, "done").result(), 1)',
    'ThreadPoolExecutor(1).submit(str, "done").result(), 5)',
)
_QUEUE_OF_ITS_OWN = changed(THREADS, 'jobs.put("a job"), 1)', 'queue.Queue().put("a job"), 5)')
_NOT_RENEWED = changed(
    THREADS,
    "logging.getLogger().addHandler(handler)\n",
    "logging.getLogger().addHandler(handler)\nlogging._at_fork_reinit_lock_weakset.discard(handler)\n",
)
_WARNS_OTHERWISE = changed(
    WARNED,
    'simplefilter("always")\n',
    'simplefilter("always")\n'
    "    warnings.warn('of another kind') if sys.version_info < (3, 12) else warnings.simplefilter('ignore')\n",
)
_SEEDED_ANEW = changed(
    DICE,
    "lambda: float(numpy.random.rand())",
    "lambda: numpy.random.seed() or float(numpy.random.rand())",
    "lambda: torch.rand(1).item()",
    "lambda: torch.seed() and torch.rand(1).item()",
)
_USED_BEFORE = changed(DICE, "emit(before=in_child(multiply, 10))", "multiply()\nemit(before=in_child(multiply, 3))")
_NOT_USED = changed(DICE, "multiply()                    ", "None                          ")
_TWO_THREADS_STILL = changed(
    DICE,
    "    torch.set_num_threads(1)\n",
    "",
    "in_child(multiply_with_one_thread, 10)",
    "in_child(multiply_with_one_thread, 3)",
)
_IN_PYTORCH = changed(
    BLAS,
    "import os, numpy\n",
    "import os, numpy, torch\n",
    "numpy.ones((700, 700)) @ numpy.ones((700, 700))",
    "torch.ones(700, 700) @ torch.ones(700, 700)",
    "in_child(multiply, 10)",
    "in_child(multiply, 3)",
)
_ONE_THREAD = changed(BLAS, "OMP_NUM_THREADS=2", "OMP_NUM_THREADS=1")
_CHILD_CLOSES = changed(
    LEAK, "    os.close(writes)\n    os._exit", "    os.close(writes)\n    connection.close()\n    os._exit"
)
_NOT_CLOSED_YET = changed(LEAK, "connection.close()\nclient", "client")
_TAKEN_OUT_FIRST = changed(LEAK, "connection.close()\n", "poll.unregister(connection)\nconnection.close()\n")
_SENT_BY_ITS_OWN = changed(MESSAGES, 'in_child(lambda: push.send(b"from the child"), 10)', "in_child(send_anew, 5)")
_OWN_NOT_SENT = changed(
    MESSAGES, '        socket.send(b"from the child")\n', "        pass\n", "pull.poll(10000)", "pull.poll(500)"
)
_RECEIVES_BY_ITS_OWN = changed(MESSAGES, "pull.recv().decode()", "zmq.Context().socket(zmq.PULL).poll(100)")
_SLEEPS = changed(MESSAGES, "pull.recv().decode()", "os.read(os.pipe()[0], 1).decode()")
_CHILD_IS_SILENT = changed(
    SESSION, '    in_child(lambda: session.send(b"from the child"))\n', '    session.send(b"from the child")\n'
)
_MAPPED_AS_SHARED = changed(FORK_TIME, '"256 MB", mmap.MAP_PRIVATE', '"256 MB", mmap.MAP_SHARED')
_SMALL_PAGES = changed(FORK_TIME, "mmap.MADV_HUGEPAGE", "mmap.MADV_NOHUGEPAGE")
_MAPPED_AS_PRIVATE = changed(FORK_TIME, '"256 MB, shared", mmap.MAP_SHARED', '"256 MB, shared", mmap.MAP_PRIVATE')
_ONE_HALF_IN_USE = changed(FORK_TIME, "bytes(len(block))", "bytes(len(block) // 2)")
_MANY_BYTES = changed(HUGE, "write(2 << 20)", "write(4 * mmap.PAGESIZE)")
_READS_AN_ARRAY = changed(
    READER, "[[number] for number in range(500_000)]", '__import__("array").array("d", bytes(32 << 20))'
)
_NEITHER_EXITS = changed(IN_A_KERNEL, '("os._exit(0)", ', '("sys.exit(1)", ')
_ALL_EXIT = changed(IN_A_KERNEL, '"sys.exit(0)", "pass")', '"os._exit(1)", "os._exit(2)")')
_CHILD_RUNS_IT = changed(IN_A_KERNEL, '"sys.exit(0)", "pass")', '"sys.exit(0)", "emit(child=child)")')
_WITH_FAREWELL = filled(blank("01a.b2").skeleton, ("raise SystemExit",))
_ONE_SEED = filled(blank("01a.b1").skeleton, ("7",))
_SEED_OF_THE_MOMENT = filled(blank("01a.b1").skeleton, ("None",))


def _drawn_apart(result: ProcessResult) -> bool:
    first, second = (fields["drawn"] for fields in result.by("run").values())
    return len(set(first)) == 3 and first == second


def _row(row: str) -> str:
    return f"A forked child that wants to {row}: "


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events]


def _one(result: ProcessResult, name: str) -> Any:
    return next(fields[name] for fields in _told(result) if name in fields)


def _part(result: ProcessResult, memory: str, of: str) -> float:
    looks = result.by("memory")
    return looks[memory]["ms"] / looks[of]["ms"]


def _per_page(result: ProcessResult) -> float:
    looks = result.by("memory")
    return (looks["256 MB"]["tables"] - looks["next to nothing"]["tables"]) / ((256 << 20) / mmap.PAGESIZE)


def _lives_and_gone(result: ProcessResult) -> list[dict[str, Any]]:
    return list(result.by("child").values())


def _endings(result: ProcessResult) -> list[dict[str, Any]]:
    return list(result.by("ending").values())


def _heard(result: ProcessResult) -> list[str]:
    return _told(result)[-1]["heard"]


BROKEN_CLAIMS = (
    BrokenClaim(
        _row("submit work to the parent's thread pool") + "never comes back",
        THREADS,
        _POOL_OF_ITS_OWN,
        lambda result: _one(result, "pool") == "stuck",
    ),
    BrokenClaim(
        _row("put into a queue.Queue that a thread is using") + "never comes back",
        THREADS,
        _QUEUE_OF_ITS_OWN,
        lambda result: _one(result, "queue") == "stuck",
    ),
    BrokenClaim(
        _row("log, while a thread is logging") + "works as in the parent",
        THREADS,
        _NOT_RENEWED,
        lambda result: _one(result, "logging") != "stuck",
    ),
    BrokenClaim(
        "Python warns of a fork with threads from version 3.12 on, and not before",
        WARNED,
        _WARNS_OTHERWISE,
        lambda result: bool(_one(result, "warnings")) == (_one(result, "version") >= [3, 12]),
    ),
    BrokenClaim(
        _row("draw a random number with PyTorch") + "comes back, but wrong",
        DICE,
        _SEEDED_ANEW,
        lambda result: len(set(_one(result, "numpy"))) == len(set(_one(result, "torch"))) == 1,
    ),
    BrokenClaim(
        "A child multiplies, if its parent has not used PyTorch's threads yet",
        DICE,
        _USED_BEFORE,
        lambda result: _one(result, "before") == 700,
    ),
    BrokenClaim(
        _row("multiply matrices in PyTorch, as the parent did before") + "never comes back",
        DICE,
        _NOT_USED,
        lambda result: _one(result, "after") == "stuck",
    ),
    BrokenClaim(
        "With one thread, it multiplies in any case",
        DICE,
        _TWO_THREADS_STILL,
        lambda result: _one(result, "one_thread") == 700,
    ),
    BrokenClaim(
        _row("multiply matrices in NumPy, as the parent did before") + "works as in the parent",
        BLAS,
        _IN_PYTORCH,
        lambda result: result.told["in_child"] == 700,
    ),
    BrokenClaim(
        "The fork has ended NumPy's threads in the parent, too",
        BLAS,
        _ONE_THREAD,
        lambda result: result.told["before"] > result.told["after"],
    ),
    BrokenClaim(
        "The client sees no end of the connection while the child lives",
        LEAK,
        _CHILD_CLOSES,
        lambda result: [fields["ended"] for fields in _lives_and_gone(result)] == [False, True],
    ),
    BrokenClaim(
        "The parent's epoll reports a socket that the parent has closed",
        LEAK,
        _TAKEN_OUT_FIRST,
        lambda result: [fields["reported"] for fields in _lives_and_gone(result)] == [1, 0],
    ),
    BrokenClaim(
        "It can't be taken out of the set any more",
        LEAK,
        _NOT_CLOSED_YET,
        lambda result: "refused" in result.told,
    ),
    BrokenClaim(
        _row("send by the parent's ZeroMQ socket") + "comes back, but wrong",
        MESSAGES,
        _SENT_BY_ITS_OWN,
        lambda result: not _told(result)[1]["arrived"] and _told(result)[1]["said"] is None,
    ),
    BrokenClaim(
        "With a context of its own, a child's message arrives",
        MESSAGES,
        _OWN_NOT_SENT,
        lambda result: _told(result)[2]["arrived"],
    ),
    BrokenClaim(
        _row("receive by the parent's ZeroMQ socket") + "never comes back",
        MESSAGES,
        _RECEIVES_BY_ITS_OWN,
        lambda result: _told(result)[0]["said"] == "stuck",
    ),
    BrokenClaim(
        "A child that receives by its parent's socket does not sleep: it computes",
        MESSAGES,
        _SLEEPS,
        lambda result: _told(result)[0]["computed"] > 0.1,
    ),
    BrokenClaim(
        _row("send by the parent's TLS session, and the parent goes on with it") + "comes back, but wrong",
        SESSION,
        _CHILD_IS_SILENT,
        lambda result: _heard(result)[:1] == ["from the child"] and "from the parent" not in _heard(result),
    ),
    BrokenClaim(
        "A child that ends without its farewell does not write its parent's text again",
        FAREWELL,
        _WITH_FAREWELL,
        lambda result: result.output.count("written once or twice?") == 1,
    ),
    BrokenClaim(
        "fork() takes over 5 times as long with 256 MB in use",
        FORK_TIME,
        _MAPPED_AS_SHARED,
        lambda result: _part(result, "256 MB", "next to nothing") > 5,
    ),
    BrokenClaim(
        "The page tables have grown by 8 bytes for each page",
        FORK_TIME,
        _ONE_HALF_IN_USE,
        lambda result: 7.5 < _per_page(result) < 12,
    ),
    BrokenClaim(
        "As much memory, mapped as shared, costs fork() under a third of that",
        FORK_TIME,
        _MAPPED_AS_PRIVATE,
        lambda result: _part(result, "256 MB, shared", "256 MB") < 1 / 3,
    ),
    BrokenClaim(
        "As much memory in huge pages costs fork() under a third of small pages",
        FORK_TIME,
        _SMALL_PAGES,
        lambda result: _part(result, "256 MB, huge pages", "256 MB") < 1 / 3,
    ),
    BrokenClaim(
        "A byte in each huge page copies under a tenth of them",
        HUGE,
        _MANY_BYTES,
        lambda result: result.told["copied"] < 25,
    ),
    BrokenClaim(
        "In every Python found here, a child that reads lists copies over a quarter of them",
        READER,
        _READS_AN_ARRAY,
        lambda result: result.told["copied"] / result.told["size"] > 0.25,
    ),
    BrokenClaim(
        "In a notebook, too, os._exit ends a forked child",
        IN_A_KERNEL,
        _NEITHER_EXITS,
        lambda result: _endings(result)[0]["ended"],
    ),
    BrokenClaim(
        "sys.exit does not, and neither does the end of the cell",
        IN_A_KERNEL,
        _ALL_EXIT,
        lambda result: not any(each["ended"] for each in _endings(result)[1:]),
    ),
    BrokenClaim(
        "The next cell is run by the parent alone",
        IN_A_KERNEL,
        _CHILD_RUNS_IT,
        lambda result: [event.fields["child"] != 0 for event in result.events if "child" in event.fields] == [True] * 3,
    ),
    BrokenClaim(
        "The child goes on, and holds the kernel's sockets",
        IN_A_KERNEL,
        _ALL_EXIT,
        lambda result: _endings(result)[1]["sockets"] > 5,
    ),
    *(
        BrokenClaim(
            "Seeded with its number, each worker draws another number, and the same in each run",
            SEEDED,
            broken,
            _drawn_apart,
        )
        for broken in (_ONE_SEED, _SEED_OF_THE_MOMENT)
    ),
    nothing_left("Nothing that this appendix started is running", FAREWELL),
)

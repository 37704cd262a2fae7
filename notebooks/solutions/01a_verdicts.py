"""How the predictions of the appendix 01a are judged, drawn and claimed."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

SIZE = 256 << 20

# ---- threads


def warnings_of(*runs: ProcessResult) -> Found:
    told = [run.told for run in runs]
    said = next((each["warnings"] for each in told if each["warnings"]), ["no warning"])
    return Found(
        shown=Table(
            ("Python", "it says"),
            tuple((_version(each), "; ".join(each["warnings"]) or "nothing") for each in told),
            note="" if said == ["no warning"] else said[0],
        ),
        claims=(
            Claim(
                "Python warns of a fork with threads from version 3.12 on, and not before",
                all(bool(each["warnings"]) == (each["version"] >= [3, 12]) for each in told),
                ", ".join(f"{_version(each)}: {len(each['warnings'])}" for each in told),
            ),
        ),
    )


def _version(told: dict[str, Any]) -> str:
    return ".".join(map(str, told["version"]))


# ---- random numbers


def drawn_by_workers(seeded: ProcessResult) -> Found:
    first, second = (fields["drawn"] for fields in seeded.by("run").values())
    return Found(
        shown=Table(
            ("run", "worker 0", "worker 1", "worker 2"),
            (("first", *map(_number, first)), ("second", *map(_number, second))),
        ),
        claims=(
            Claim(
                "Seeded with its number, each worker draws another number, and the same in each run",
                len(set(first)) == 3 and first == second,
            ),
        ),
    )


def _number(number: float) -> str:
    return f"{number:.6f}"


# ---- connections


def leaked(leak: ProcessResult) -> Found:
    lives, gone = leak.by("child").values()
    return Found(
        claims=(
            Claim(
                "The client sees no end of the connection while the child lives", not lives["ended"] and gone["ended"]
            ),
            Claim(
                "The parent's epoll reports a socket that the parent has closed",
                lives["reported"] == 1 and not gone["reported"],
            ),
            Claim(
                "It can't be taken out of the set any more",
                "refused" in leak.told,
                leak.told.get("refused", "taken out"),
            ),
        ),
    )


# ---- the table


def outcome(said: object, wrong: bool = False) -> str:
    if said == "stuck":
        return "never comes back"
    return "comes back, but wrong" if wrong else "works as in the parent"


def every_case(
    threads: ProcessResult, dice: ProcessResult, blas: ProcessResult, messages: ProcessResult, session: ProcessResult
) -> Found:
    in_threads = threads.told
    receiving, sending, _ = (event.fields for event in messages.events)
    drawn = [len(set(dice.told[library])) for library in ("numpy", "torch")]
    numbers, multiplied = outcome(None, wrong=drawn == [1, 1]), outcome(dice.told["after"])
    return Found(
        rows={
            "draw a random number with PyTorch": numbers,
            "submit work to the parent's thread pool": outcome(in_threads["pool"]),
            "put into a queue.Queue that a thread is using": outcome(in_threads["queue"]),
            "log, while a thread is logging": outcome(in_threads["logging"]),
            "send by the parent's ZeroMQ socket": outcome(sending["said"], wrong=not sending["arrived"]),
            "receive by the parent's ZeroMQ socket": outcome(receiving["said"]),
            "send by the parent's TLS session, and the parent goes on with it": outcome(None, wrong=refused(session)),
            "multiply matrices in PyTorch, as the parent did before": multiplied,
            "multiply matrices in NumPy, as the parent did before": outcome(blas.told["in_child"]),
        },
        seen={
            "draw a random number with PyTorch": " ".join(map(_number, dice.told["torch"])),
            "send by the parent's ZeroMQ socket": "arrived" if sending["arrived"] else "sent, and never arrived",
            "receive by the parent's ZeroMQ socket": f"{receiving['computed']:.1f} s of computing in 2 s",
            "send by the parent's TLS session, and the parent goes on with it": session.told["heard"][-1],
        },
    )


def refused(session: ProcessResult) -> bool:
    """Whether the server took the child's record, and then refused its parent's."""
    heard = session.told["heard"]
    return heard[:1] == ["from the child"] and "from the parent" not in heard


EXPECTED = {
    "draw a random number with PyTorch": "comes back, but wrong",
    "submit work to the parent's thread pool": "never comes back",
    "put into a queue.Queue that a thread is using": "never comes back",
    "log, while a thread is logging": "works as in the parent",
    "send by the parent's ZeroMQ socket": "comes back, but wrong",
    "receive by the parent's ZeroMQ socket": "never comes back",
    "send by the parent's TLS session, and the parent goes on with it": "comes back, but wrong",
    "multiply matrices in PyTorch, as the parent did before": "never comes back",
    "multiply matrices in NumPy, as the parent did before": "works as in the parent",
}

# ---- what the call itself copies


def cost_of_fork(fork_time: ProcessResult) -> Found:
    measured = fork_time.by("memory")
    nothing, private, shared, _ = measured.values()
    times, of_shared = private["ms"] / nothing["ms"], shared["ms"] / private["ms"]
    per_page = (private["tables"] - nothing["tables"]) / (SIZE / private["page"])
    return Found(
        measured={"times": times, "of shared": of_shared},
        shown=lambda: bars(
            {memory: {"fork()": each["ms"]} for memory, each in measured.items()},
            unit="until fork() returns, ms",
            finding=f"256 MB in use make fork() {times:.0f} times as long",
        ),
        claims=(
            Claim("fork() takes over 5 times as long with 256 MB in use", times > 5, times),
            Claim("The page tables have grown by 8 bytes for each page", 7.5 < per_page < 12, per_page),
            Claim("As much memory, mapped as shared, costs fork() under a third of that", of_shared < 1 / 3, of_shared),
        ),
    )


def letter_of_cost(cost: dict[str, float]) -> str:
    if cost["times"] < 5:
        return "a"
    return "c" if cost["of shared"] < 1 / 3 else "b"


def one_byte_each(fork_time: ProcessResult, huge: ProcessResult) -> Found:
    looks, told = fork_time.by("memory"), huge.told
    few = "" if min(looks["256 MB, huge pages"]["huge"], told["huge"]) > 128 else "the kernel gave no huge pages here"
    part = looks["256 MB, huge pages"]["ms"] / looks["256 MB"]["ms"]
    return Found(
        measured=None if few else told["copied"],
        shown=Table(
            ("huge pages", "copied by the child", "fork(), beside small pages"),
            ((f"{told['huge']:.0f} MB", f"{told['copied']:.2f} MB", f"{part:.0%}"),),
        ),
        claims=(
            Claim(
                "A byte in each huge page copies under a tenth of them",
                told["copied"] < 25,
                f"{told['copied']:.1f} MB of 256",
                few,
            ),
            Claim("As much memory in huge pages costs fork() under a third of small pages", part < 1 / 3, part, few),
        ),
    )


def letter_of_copied(copied: float | None) -> str:
    if copied is None:
        return ""
    return "c" if copied < 0.1 else "a" if copied < 25 else "b"


# ---- Pythons, and ends


def parts_read(*reads: ProcessResult) -> Found:
    parts = {run.told["python"]: run.told["copied"] / run.told["size"] for run in reads}
    return Found(
        claims=(
            Claim(
                "In every Python found here, a child that reads lists copies over a quarter of them",
                min(parts.values()) > 0.25,
                ", ".join(f"{python}: {part:.0%}" for python, part in parts.items()),
            ),
        ),
    )


def without_farewell(farewell: ProcessResult) -> Found:
    written = farewell.output.count("written once or twice?")
    return Found(
        claims=(
            Claim(
                "A child that ends without its farewell does not write its parent's text again", written == 1, written
            ),
        )
    )


def in_a_notebook(in_a_kernel: ProcessResult) -> Found:
    by_exit, by_sys, by_nothing = in_a_kernel.by("ending").values()
    ran = [event.fields["child"] != 0 for event in in_a_kernel.events if "child" in event.fields]
    return Found(
        claims=(
            Claim("In a notebook, too, os._exit ends a forked child", by_exit["ended"]),
            Claim(
                "sys.exit does not, and neither does the end of the cell",
                not by_sys["ended"] and not by_nothing["ended"],
            ),
            Claim("The child goes on, and holds the kernel's sockets", by_sys["sockets"] > 5, by_sys["sockets"]),
            Claim("The next cell is run by the parent alone", ran == [True, True, True]),
        ),
    )


JUDGES = (
    Judge("01a.warned", find=warnings_of),
    Judge("01a.seeded", find=drawn_by_workers),
    Judge("01a.leak", find=leaked),
    Judge("01a.1", find=every_case, expected=EXPECTED, row_words="A forked child that wants to {row}: {option}"),
    Judge(
        "01a.2",
        find=cost_of_fork,
        letter=letter_of_cost,
        reached={
            "a": {"times": 1.1, "of shared": 1.0},
            "b": {"times": 30.0, "of shared": 0.9},
            "c": {"times": 30.0, "of shared": 0.05},
        },
    ),
    Judge("01a.3", find=one_byte_each, letter=letter_of_copied, reached={"a": 0.6, "b": 256.0, "c": 0.0}),
    Judge("01a.reads", find=parts_read),
    Judge("01a.farewell", find=without_farewell),
    Judge("01a.endings", find=in_a_notebook),
)

LEDGER = (
    Tested(
        sentence=18,
        claims=("fork() takes over 5 times as long with 256 MB in use",),
        finding="in part: fork inherits memory without copying it, but it copies the page tables, so it takes longer "
        "the more memory its parent uses; notebook 02 sets it beside spawn",
        otherwise="not settled: on your machine, fork() took hardly longer with 256 MB in use",
    ),
)

"""How the predictions of notebook 01 are judged, drawn and claimed."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.figures.open_files import Opened, open_files
from lab_support.notebook.figures.timeline import timeline
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

CONTENT = "0123456789"

# ---- one file, two readers


def one_place(one_file: ProcessResult) -> Found:
    told = one_file.told
    child, parent, (before, after) = told["child"], told["parent"], told["places"]
    return Found(
        measured=parent,
        shown=lambda: open_files(
            [Opened(("parent", "child"), (0, before, after))],
            finding=f"The child read {child} and stood still; its parent read {parent}",
            content=CONTENT,
            number=str(told["number"]),
        ),
        claims=(
            Claim(
                "A stopped child moves in the file when its parent reads", after > before, f"from {before} to {after}"
            ),
            Claim("Both descriptors lead to one open file description", told["same"], f"by {told['by']}"),
        ),
    )


def letter_of_read(read: str) -> str:
    return {"456": "a", "012": "b", "": "c"}.get(read, "d")


def two_places(opened_again: ProcessResult) -> Found:
    child, parent = (opened_again.told[who] for who in ("child", "parent"))
    own = [Opened(("parent",), (0, len(parent))), Opened(("child",), (0, len(child)))]
    shared = [Opened(("parent", "child"), (0, len(child), len(child) + len(parent)))]
    return Found(
        measured=parent,
        shown=lambda: open_files(
            own if parent == CONTENT[: len(parent)] else shared,
            finding=f"The child opened the file and read {child}; its parent read {parent}",
            content=CONTENT,
        ),
        claims=(Claim("A child that opens the file itself does not move its parent", parent == "012", parent),),
    )


def letter_of_read_alone(read: str) -> str:
    return {"456": "a", "": "b", "012": "c"}.get(read, "d")


# ---- memory


def private_memory(reading: ProcessResult) -> Found:
    kinds = reading.by("kind")
    lists, an_array = kinds["lists"], kinds["an array"]
    part, of_array = part_copied(lists), part_copied(an_array)
    grown, faults = lists["end"] - lists["start"], lists["faults"]
    paged = faults * lists["page"] / 1e6
    return Found(
        measured=part,
        shown=lambda: bars(
            {kind: {"just forked": each["start"], "after it has read": each["end"]} for kind, each in kinds.items()},
            unit="private memory of the child, MB",
            finding=f"Going through {lists['size']:.0f} MB of lists copied {grown:.0f} MB of them",
            whole={kind: each["size"] for kind, each in kinds.items()},
            whole_is="the parent's data",
        ),
        claims=(
            Claim(
                "Reading copies a large part of the lists, and next to nothing of the array",
                part > 0.25 and of_array < 0.1,
                f"{part:.0%} and {of_array:.0%}",
            ),
            Claim(
                "The kernel's page faults account for the growth",
                0.7 < paged / grown < 1.5,
                f"{faults:,} faults are {paged:.0f} MB, and it grew by {grown:.0f} MB",
            ),
        ),
    )


def part_copied(kind: dict[str, Any]) -> float:
    return (kind["end"] - kind["start"]) / kind["size"]


def letter_of_part(part: float) -> str:
    return "a" if part < 0.1 else "b" if part < 0.75 else "c" if part < 1.5 else "d"


def left_alone(freezing: ProcessResult) -> Found:
    plain, frozen = freezing.by("when").values()
    names = {"collect": "the collector runs", "read": "the child reads"}
    remains = {what: frozen[what] / max(plain[what], 0.001) for what in names}
    return Found(
        measured=remains,
        shown=lambda: bars(
            {words: {each["when"]: each[what] for each in (plain, frozen)} for what, words in names.items()},
            unit="memory that the child copies, MB",
            finding=f"After the call, the collector copies {frozen['collect']:.0f} MB, reading {frozen['read']:.0f} MB",
        ),
        claims=(
            Claim(
                "The call saves what the collector would copy, and not what reading copies",
                remains["collect"] < 0.3 and remains["read"] > 0.7,
                f"{remains['collect']:.0%} and {remains['read']:.0%} remain",
            ),
        ),
    )


def letter_of_remains(remains: dict[str, float]) -> str:
    saved = (remains["collect"] < 0.5, remains["read"] < 0.5)
    return {(False, False): "a", (True, True): "b", (False, True): "c", (True, False): "d"}[saved]


# ---- a lock, a thread, and a fork


def copied_lock(held_lock: ProcessResult) -> Found:
    at = {event.fields["moment"]: event.at for event in held_lock.events if "moment" in event.fields}
    child, let_go = held_lock.process("P1"), at.get("has let go")
    waits = child.killed and "has the lock" not in at
    wait = child.wait
    in_futex = wait is not None and wait.threads == 1 and "futex" in wait.call
    return Found(
        measured={"let go": let_go, "got it": at.get("has the lock"), "waits": waits},
        shown=lambda: timeline(
            held_lock,
            "moment",
            "The parent's thread has let go, and the child still waits" if waits else "The child has the lock",
        ),
        claims=(
            Claim("The child waits to its end, although the thread lets go", waits and let_go is not None),
            Claim(
                "The child has one thread, and it waits for a word in memory (futex)",
                in_futex,
                f"{wait.threads} in {wait.call}" if wait else "it did not wait",
            ),
        ),
    )


def letter_of_lock(at: dict[str, Any]) -> str:
    if at["got it"] is not None:
        return "a" if at["let go"] is None or at["got it"] < at["let go"] else "b"
    return "c" if at["waits"] else "d"


def prepared_lock(prepared: ProcessResult) -> Found:
    found = {who: fields["found"] for who, fields in prepared.by("who").items()}
    child, parent = found.get("child"), found.get("parent")
    return Found(
        measured="error" if child is None and not prepared.process("P1").killed else child,
        shown=Table(("process", "finds"), (("parent", in_words(parent)), ("child", in_words(child)))),
        claims=(
            Claim(
                "A lock that is taken around the fork can be used in the child, and what it protects is whole",
                child == ["first half", "second half"],
                in_words(child),
            ),
        ),
    )


def in_words(found: list[str] | None) -> str:
    return "nothing: it did not get the lock" if found is None else ", ".join(found)


def letter_of_found(found: Any) -> str:
    if found is None:
        return "a"
    return {2: "b", 1: "c"}.get(len(found), "d")


# ---- copied, shared, lost, or new


def every_row(memory_rows: ProcessResult, kernel_rows: ProcessResult) -> Found:
    found: dict[str, str] = {}
    for result in (memory_rows, kernel_rows):
        found |= {row: fields["child"] for row, fields in result.by("row").items()}
    return Found(rows=found)


EXPECTED = {
    "a page of memory from mmap.mmap(-1, 4096)": "shared",
    "the sequence of random.random()": "new",
    "the sequence of a random.Random(7)": "copied",
    "asyncio's running event loop": "lost",
    "a handler set by signal.signal()": "copied",
    "an alarm set by signal.alarm(60)": "lost",
    "a lock on a file, by fcntl.flock()": "shared",
    "a lock on a file, by fcntl.lockf()": "lost",
    "an epoll set that watches a pipe": "shared",
}

JUDGES = (
    Judge(
        "01.1",
        find=one_place,
        letter=letter_of_read,
        reached={"a": "456", "b": "012", "c": "", "d": "OSError: in use"},
    ),
    Judge(
        "01.2",
        find=two_places,
        letter=letter_of_read_alone,
        reached={"a": "456", "b": "", "c": "012", "d": "OSError: in use"},
    ),
    Judge("01.3", find=private_memory, letter=letter_of_part, reached={"a": 0.01, "b": 0.5, "c": 1.0, "d": 2.0}),
    Judge(
        "01.4",
        find=left_alone,
        letter=letter_of_remains,
        reached={
            "a": {"collect": 1.0, "read": 1.0},
            "b": {"collect": 0.01, "read": 0.01},
            "c": {"collect": 1.0, "read": 0.01},
            "d": {"collect": 0.01, "read": 1.0},
        },
    ),
    Judge(
        "01.5",
        find=copied_lock,
        letter=letter_of_lock,
        reached={
            "a": {"got it": 0.1, "let go": 0.6, "waits": False},
            "b": {"got it": 0.7, "let go": 0.6, "waits": False},
            "c": {"got it": None, "let go": 0.6, "waits": True},
            "d": {"got it": None, "let go": 0.6, "waits": False},
        },
    ),
    Judge(
        "01.6",
        find=prepared_lock,
        letter=letter_of_found,
        reached={"a": None, "b": ["first half", "second half"], "c": ["first half"], "d": "error"},
    ),
    Judge("01.7", find=every_row, expected=EXPECTED, row_words="To a forked child, {row} is {option}"),
)

LEDGER = (
    Tested(
        sentence=5,
        claims=(
            "Both descriptors lead to one open file description",
            "To a forked child, the sequence of a random.Random(7) is copied",
        ),
        finding="half of it: a fork copies memory, and shares what descriptors lead to; the socket is shared because "
        "the descriptor table is copied",
        otherwise="not settled: on your machine, what was shared and what was copied is not as this notebook says",
    ),
    Tested(
        sentence=10,
        claims=("The child waits to its end, although the thread lets go",),
        finding="so for a forked child, which does inherit a lock that nobody lets go; that a spawned one does not "
        "is a matter for notebook 02",
        otherwise="not settled: on your machine the forked child got the lock",
    ),
)

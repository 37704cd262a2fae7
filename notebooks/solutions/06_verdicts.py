"""How the predictions of notebook 06 are judged, drawn and claimed."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab_support.instruments.record import recordings
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars_apart
from lab_support.notebook.figures.start_costs import start_costs
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table
from lab_support.notebook.recordings import cuda_after_fork, touch_signs
from lab_support.notebook.recordings.recorded import recorded

# ---- what the child meets --------------------------------------------------------------------------------------------

WORKS, STUCK, DISTURBS, SAME = "works", "waits for ever", "disturbs its parent", "gets the same as its sibling"
LEFT_BEHIND, SHARED, DOUBLED = "left behind", "shared", "doubled"
WAYS = {
    "a thread pool that the parent has used": LEFT_BEHIND,
    "NumPy's own threads": LEFT_BEHIND,
    "logging, beside a thread": LEFT_BEHIND,
    "a half-read file": SHARED,
    "a random.Random(7)": DOUBLED,
}


def what_a_child_meets(rows: ProcessResult) -> Found:
    told = {event.fields["row"]: event.fields for event in rows.events}
    return Found(
        rows={row: met(told[row]) for row in WAYS},
        seen={row: _in_words(told[row]) for row in WAYS},
    )


def met(told: Mapping[str, Any]) -> str:
    """The option for one row: `got` has the results of one child, or of two."""
    got = told["got"]
    if "stuck" in got:
        return STUCK
    if told["parent"]:
        return DISTURBS
    return SAME if len(got) == 2 and got[0] == got[1] else WORKS


def _in_words(told: Mapping[str, Any]) -> str:
    got = ", ".join("done" if each is None else str(each) for each in told["got"])
    return f"{got}; then the parent is at {told['parent']}" if told["parent"] is not None else got


def ways_that_the_rule_sees(rows: ProcessResult, repaired: ProcessResult) -> Found:
    told = {event.fields["row"]: event.fields for event in rows.events}
    harmed = [row for row in WAYS if met(told[row]) != WORKS]
    ways = sorted({WAYS[row] for row in harmed if told[row]["rule"] == "spawn"})
    lines = tuple((row, WAYS[row], met(told[row]), told[row]["rule"]) for row in WAYS)
    mended = repaired.events[-1].fields
    helped = mended["numbers"][0] != mended["numbers"][1] and (mended["read"], mended["place"]) == ("0123", 0)
    return Found(
        measured=ways,
        shown=Table(("what the child uses", "it is", "the child", "asked for fork, the rule says"), lines),
        claims=(
            Claim(
                "For what is left behind the rule finds a reason, for what is shared or doubled none",
                ways == [LEFT_BEHIND],
                ", ".join(ways) or "none",
            ),
            Claim("A child that helps itself draws its own number, and leaves its parent's place alone", helped),
        ),
    )


def letter_of_ways(ways: Sequence[str]) -> str:
    known = {(DOUBLED, LEFT_BEHIND, SHARED): "a", (LEFT_BEHIND, SHARED): "b", (LEFT_BEHIND,): "c", (): "d"}
    return known.get(tuple(sorted(ways)), "")


# ---- a second kernel -------------------------------------------------------------------------------------------------


def second_kernel(ghost: ProcessResult) -> Found:
    by_sys, by_os = (event.fields for event in ghost.events[:2])
    rows = tuple(
        (each["way"], "ended" if each["ended"] else "lives on", str(each["sockets"])) for each in (by_sys, by_os)
    )
    return Found(
        shown=Table(("the child calls", "and", "sockets that it holds"), rows),
        claims=(
            Claim(
                "A child forked in a cell does not end by sys.exit(), but by os._exit()",
                (by_sys["ended"], by_os["ended"]) == (False, True),
            ),
            Claim("It holds the kernel's sockets", by_sys["sockets"] > 5, by_sys["sockets"]),
        ),
    )


# ---- the cost of being wrong -----------------------------------------------------------------------------------------


def passed_over(wrong: ProcessResult) -> Found:
    told = wrong.events[-1].fields
    code = told["launcher"]
    launcher = "ready" if code is None else f"ended with exit code {code}"
    rows = (
        ("the client", told["client"]),
        *(("the log", line) for line in told["log"]),
        ("the launcher", f"{launcher}, {told['seconds']} s after its first line"),
    )
    late = code == 1 and told["seconds"] >= told["limit"]
    return Found(
        measured={name: told[name] for name in ("client", "log", "launcher")},
        shown=Table(("who", "sees"), rows),
        claims=(
            Claim(
                "With the rule overridden, the server is not ready at the end of the limit, and ends",
                late,
                f"{told['seconds']} s",
            ),
            Claim(
                "The log names no cause", not any("thread" in line for line in told["log"]), f"{len(told['log'])} lines"
            ),
        ),
    )


def letter_of_sign(told: Mapping[str, Any]) -> str:
    if told["launcher"] is None:
        return "c"
    if any("ERROR" in line or "failed" in line for line in told["log"]):
        return "a"
    return "d" if told["client"] in ("no answer", "the end of the connection") else "b"


def what_the_kernel_says(stuck: ProcessResult) -> Found:
    told = stuck.events[-1].fields
    facts, waits_in = told["facts"], told["waits_in"]
    rows = (
        ("state", facts["state"]),
        ("waits in", waits_in),
        ("threads", str(told["threads"])),
        ("seconds of processor time", str(facts["seconds"])),
    )
    hidden = "" if waits_in.strip("0") else "this kernel does not say in which function a process waits"
    return Found(
        measured={"state": facts["state"], "waits_in": waits_in},
        shown=Table(("the engine core", "by the kernel"), rows),
        claims=(Claim("The late engine core waits in a futex", "futex" in waits_in, waits_in, untestable=hidden),),
    )


def letter_of_wait(told: Mapping[str, str]) -> str:
    if told["state"] == "Z":
        return "a"
    if "futex" in told["waits_in"]:
        return "d"
    return "b" if told["state"] == "R" else "c"


# ---- a sign of a driver in use ---------------------------------------------------------------------------------------

_LETTERS = {"a": "c", "b": "b", "c": "a", "d": "d"}
"""The letters of `touch_signs.telling_sign`, and those of the question."""


def telling_sign(_: ProcessResult) -> Found:
    left = recorded("what_a_touch_leaves", cuda_after_fork.signs)
    tested = left.tested(touch_signs.mappings_tell)
    return Found(
        measured=_LETTERS.get(left.found(touch_signs.telling_sign), ""),
        shown=left,
        claims=(
            Claim(
                "Files of the device are mapped where the child is barred, and only there",
                tested.get("condition"),
                tested.get("got"),
                untestable=tested.get("untestable", ""),
            ),
        ),
    )


# ---- what the choice costs -------------------------------------------------------------------------------------------

METHODS = ("spawn", "forkserver", "forkserver, preloaded", "fork")


def cost_of_the_choice(starts: ProcessResult) -> Found:
    told = {event.fields["method"]: event.fields for event in starts.events}
    sooner = told["fork"]["seconds"] / told["spawn"]["seconds"]
    copies = {f"{role} by {method}" for method, each in told.items() for role, copy in each["copies"].items() if copy}
    says = {method: each["says"]["engine_cores"] for method, each in told.items()}
    recording = recordings.load("start_methods")
    heavy = start_costs(recording, "torch")
    machine = recording.label.removeprefix("recorded on ").partition(" with ")[0]
    saved = heavy.ms("fork", 1) / heavy.ms("spawn", 1)
    here = {name: {method: 100 * each[what] / told["spawn"][what] for method, each in told.items()}
            for name, what in (("processor time", "seconds"), ("its memory", "mb"))}  # fmt: skip
    there = {
        "until ready": {method: 100 * heavy.ms(method, 1) / heavy.ms("spawn", 1) for method in METHODS},
        "child's memory": {method: 100 * heavy.mb(method, 1) / heavy.mb("spawn", 1) for method in METHODS},
    }
    panels = {
        "measured here: our engine core,\nwhose launcher holds nothing": here,
        f"RECORDED on {machine}:\na parent that has PyTorch": there,
    }
    finding = "Fork saves what the parent has, and our launcher has nothing"
    return Found(
        measured=sooner,
        shown=lambda: bars_apart(panels, unit="% of what spawn costs", finding=finding),
        claims=(
            Claim(
                "With fork, our engine core needs about as much processor time as with spawn",
                0.5 < sooner < 1.7,
                sooner,
            ),
            Claim(
                "Where the parent has loaded PyTorch, fork takes a small part of the time (recorded)",
                saved < 0.2,
                f"{100 * saved:.1f} %",
            ),
            Claim(
                "Only the engine core by fork is a copy of the launcher, and /version says so",
                copies == {"engine-0 by fork"} and says["fork"] == "fork",
                ", ".join(copies),
                untestable="; ".join(told["fork"]["says"].get("reasons", ())),
            ),
        ),
    )


def letter_of_cost(sooner: float) -> str:
    return "a" if sooner < 0.5 else "b" if sooner < 1.5 else "c"


JUDGES = (
    Judge(
        "06.1",
        find=what_a_child_meets,
        expected={
            "a thread pool that the parent has used": STUCK,
            "NumPy's own threads": WORKS,
            "logging, beside a thread": WORKS,
            "a half-read file": DISTURBS,
            "a random.Random(7)": SAME,
        },
        row_words="A forked child that uses {row} {option}",
    ),
    Judge(
        "06.2",
        find=ways_that_the_rule_sees,
        letter=letter_of_ways,
        reached={"a": [DOUBLED, LEFT_BEHIND, SHARED], "b": [LEFT_BEHIND, SHARED], "c": [LEFT_BEHIND], "d": []},
    ),
    Judge("06.kernel", find=second_kernel),
    Judge(
        "06.3",
        find=passed_over,
        letter=letter_of_sign,
        reached={
            "a": {"client": "Connection refused", "log": ["lab:engine-0 ERROR failed"], "launcher": 1},
            "b": {"client": "Connection refused", "log": ["lab serve: not ready within 8 s"], "launcher": 1},
            "c": {"client": "HTTP/1.1 200 OK", "log": [], "launcher": None},
            "d": {"client": "no answer", "log": [], "launcher": 1},
        },
    ),
    Judge(
        "06.4",
        find=what_the_kernel_says,
        letter=letter_of_wait,
        reached={
            "a": {"state": "Z", "waits_in": "0"},
            "b": {"state": "R", "waits_in": "0"},
            "c": {"state": "S", "waits_in": "pipe_read"},
            "d": {"state": "S", "waits_in": "futex_do_wait"},
        },
    ),
    Judge("06.5", find=telling_sign, letter=str, reached={"a": "a", "b": "b", "c": "c", "d": "d"}),
    Judge("06.6", find=cost_of_the_choice, letter=letter_of_cost, reached={"a": 0.3, "b": 0.9, "c": 2.0}),
)

_COPY = "Only the engine core by fork is a copy of the launcher, and /version says so"
_COST = "With fork, our engine core needs about as much processor time as with spawn"
_LATE = "With the rule overridden, the server is not ready at the end of the limit, and ends"
_POOL = "A forked child that uses a thread pool that the parent has used waits for ever"

LEDGER = (
    Tested(
        12,
        claims=("Files of the device are mapped where the child is barred, and only there",),
        finding="half so (recorded on an H200): the child's first calls fail, but with errors; none hung or crashed",
        otherwise="not so in this run: see the signs below 06.5",
    ),
    Tested(
        13,
        claims=(_COPY,),
        finding="not for API servers, which are spawned whatever is asked: in vLLM (read), and here (measured)",
        otherwise="not as here expected: see who is a copy below 06.6",
    ),
    Tested(
        15,
        claims=(_POOL, _LATE),
        finding="so it is: a pool and PyTorch's threads hang a forked child, and a spawned one has its own",
        otherwise="not so here: see the threads below 06.1 and 06.3",
    ),
    Tested(
        16,
        claims=(_COPY,),
        finding="so for API servers; the default is fork for vLLM as a library, and spawn under `vllm serve` (read)",
        otherwise="not so here: see who is a copy below 06.6",
    ),
    Tested(
        19,
        claims=(
            _COST,
            "Where the parent has loaded PyTorch, fork takes a small part of the time (recorded)",
        ),
        finding="only where the parent has loaded what the children need; a launcher that has nothing gives up nothing",
        otherwise="not so here: see the costs below 06.6",
    ),
)

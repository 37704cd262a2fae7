"""How the predictions of notebook 07 are judged, drawn and claimed."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.canvas.plots import Picture
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.figures.lost_starts import lost_starts
from lab_support.notebook.figures.swimlanes import request_lanes, start_lanes
from lab_support.notebook.figures.who_waits import ANSWERS, Wait, who_waits
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.recordings.recorded import recorded

# ---- 07.1: probe, close, bind later ----------------------------------------------------------------------------------

TOO_WIDE = "this kernel can't narrow the range of one socket (Linux 6.3 can), and in the whole range losses are rare"


def count_lost_starts(race: ProcessResult) -> Found:
    races = [event.fields for event in race.events]
    if not all(each["narrow"] for each in races):
        return _from_the_recording()
    lost = lost_by_launchers(races)
    drawn = len({address for each in races for address in each["addresses"]})
    return Found(
        measured=[sum(counts) / len(counts) for counts in lost.values()],
        shown=lambda: lost_starts(lost, starts=races[0]["starts"], ports=drawn),
        claims=(_grows(lost),),
    )


def lost_by_launchers(races: Sequence[Mapping[str, int]]) -> dict[int, list[int]]:
    """The lost starts of each race, by launchers at once."""
    numbers = dict.fromkeys(each["launchers"] for each in races)
    return {number: [each["lost"] for each in races if each["launchers"] == number] for number in numbers}


def _grows(lost: Mapping[int, Sequence[int]], untestable: str = "") -> Claim:
    alone, four, sixteen = (sum(lost.get(launchers, ())) for launchers in (1, 4, 16))
    return Claim(
        "One launcher at a time loses no start, four at once lose some, and sixteen lose several times as many",
        alone == 0 < four and sixteen > 1.5 * four,
        got=f"{alone}, {four} and {sixteen}",
        untestable=untestable,
    )


def _from_the_recording() -> Found:
    run = recorded("lost_starts", draw_recording)
    return Found(measured=run.found(means_of_recording), shown=run, claims=(_grows({}, TOO_WIDE),))


def draw_recording(run: Recording) -> Picture:
    races = run.of("race")
    ports = run.of("ports")[0]["drawn"]
    return lost_starts(lost_by_launchers(races), starts=races[0]["starts"], ports=ports)


def means_of_recording(run: Recording) -> list[float]:
    lost = lost_by_launchers(run.of("race"))
    return [sum(lost[launchers]) / len(lost[launchers]) for launchers in (1, 4, 16)]


def letter_of_losses(means: Sequence[float]) -> str:
    if len(means) != 3:
        return ""
    alone, four, sixteen = means
    if sixteen == 0:
        return "a"
    if alone > 0:
        return "b"
    if sixteen > 100 and four < 1:
        return "d"
    return "c" if sixteen > 1.5 * four > 0 else ""


# ---- 07.2: ways that never let go ------------------------------------------------------------------------------------

PROBED, REPORTED, PRIVATE, PASSED = "probe and close", "port 0, reported", "private directory", "bound, passed on"


A_CONNECTION, AN_ERROR, NO_ADDRESS = "a connection", "an error", "no address to try"
FOUR = {PROBED: AN_ERROR, REPORTED: NO_ADDRESS, PRIVATE: AN_ERROR, PASSED: A_CONNECTION}
_OPTIONS = {"connected": A_CONNECTION, "no address yet": NO_ADDRESS}


def compare_ways(ways: ProcessResult) -> Found:
    found = ways.by("way")
    starts, answered = found[PASSED]["starts"], found[PASSED]["answers"].get("answered", 0)
    kept = [found[way]["lost"] for way in (REPORTED, PRIVATE, PASSED)]
    return Found(
        rows={way: option_of(found[way]) for way in FOUR},
        seen={way: way_in_words(found[way]) for way in FOUR},
        claims=(
            Claim(
                "None of the three ways without a probe loses a start, and the child answers each client that connects",
                kept == [0, 0, 0] and answered == starts,
                got=f"{', '.join(map(str, kept))} lost; {answered} of {starts} answered",
            ),
        ),
    )


def option_of(found: Mapping[str, Mapping[str, int]]) -> str:
    """What all early clients of a way got; their outcomes in words if they differ, which is no option."""
    met = list(found["clients"])
    return _OPTIONS.get(met[0], AN_ERROR) if len(met) == 1 else " or ".join(met) or "nothing"


def way_in_words(found: Mapping[str, Any]) -> str:
    """Such as "connected; later answered; 0 of 96 starts lost"."""
    answers = f"; later {', '.join(found['answers'])}" if "connected" in found["clients"] else ""
    return f"{', '.join(found['clients'])}{answers}; {found['lost']} of {found['starts']} starts lost"


# ---- 07.3: three parents, two children -------------------------------------------------------------------------------

LIMIT, LIMIT_ALONE = 3.0, 2.0  # seconds, as in the two cells
AT_ONCE, AT_LIMIT, TOO_EARLY = "knows at once, or by its next poll", "waits to its limit", "says ready, and is wrong"
CHILDREN = {"slow": "slow child", "killed": "killed child", "raises": "raising child"}
SIX = {
    "sleeper, slow child": TOO_EARLY,
    "sleeper, killed child": TOO_EARLY,
    "poller, slow child": AT_ONCE,
    "poller, killed child": AT_LIMIT,
    "waiter, slow child": AT_ONCE,
    "waiter, killed child": AT_ONCE,
}


def six_waits(parents: ProcessResult) -> Found:
    told = {row_of(each): each for each in _pairs(parents)}
    return Found(
        rows={row: outcome(told[row]) for row in SIX},
        seen={row: in_words(told[row]) for row in SIX},
    )


def _pairs(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events if "parent" in event.fields]


def row_of(told: Mapping[str, Any]) -> str:
    return f"{told['parent']}, {CHILDREN.get(told['child'], told['child'])}"


def outcome(told: Mapping[str, Any]) -> str:
    """The option for one pair. Its answer came at once if it came well before the limit, counted from the event."""
    if told["said"] == "ready" and not told["served"]:
        return TOO_EARLY
    soon = told["after"] is not None and told["after"] < LIMIT / 3
    return AT_ONCE if told["said"] != "late" and soon else AT_LIMIT


def in_words(told: Mapping[str, Any]) -> str:
    client = {True: "; a client is served", False: "; a client is refused", None: ""}[told["served"]]
    return f"“{told['said']}” after {told['waited']:.1f} s{client}"


# ---- 07.4: the message alone -----------------------------------------------------------------------------------------


def wait_alone(waits: ProcessResult) -> Found:
    alone, with_end = (
        {each["child"]: each for each in _pairs(waits) if each["parent"] == name}
        for name in ("message_alone", "message_and_end")
    )
    killed, dead = alone["killed"], [alone["killed"], alone["raises"]]
    return Found(
        measured=[killed["said"], killed["waited"]],
        shown=lambda: drawn(alone, with_end),
        claims=(
            Claim(
                "With the message alone, the parent waits to its limit for both dead children, and holds their ends",
                all(at_limit(each) and each["held"] == ["the parent"] for each in dead),
                got=" and ".join(f"{each['waited']:.1f} s" for each in dead),
            ),
            Claim(
                "With the sentinel as well, it is late for the stuck child alone",
                [each["said"] for each in with_end.values()] == ["ready", "dead", "dead", "late"],
                got=", ".join(f"{child}: {each['said']}" for child, each in with_end.items()),
            ),
        ),
    )


def drawn(alone: Mapping[str, Any], with_end: Mapping[str, Any]) -> Picture:
    waits = [
        *(a_wait("the message alone", each, held=True) for each in alone.values()),
        *(a_wait("message and sentinel", each) for each in with_end.values()),
    ]
    killed, told = alone["killed"], with_end["killed"]
    finding = (
        f"Without the sentinel, the parent of the killed child waits for {killed['waited']:.1f} s; with it, "
        f"for {told['waited']:.1f} s"
    )
    return who_waits(waits, finding)


def a_wait(parent: str, told: Mapping[str, Any], held: bool = False) -> Wait:
    return Wait(
        parent,
        {"raises": "raising"}.get(told["child"], told["child"]),
        told["said"] if told["said"] in ANSWERS else "ready" if told["said"] == "READY" else "dead",
        told["waited"],
        None if told["after"] is None else max(0.0, told["waited"] - told["after"]),
        died=told["child"] in ("killed", "raises"),
        note=f"the pipe's other end is open in {' and '.join(told['held']) or 'no process'}" if held else "",
    )


def at_limit(told: Mapping[str, Any]) -> bool:
    return bool(told["said"] == "late" and told["waited"] > LIMIT_ALONE / 2)


def letter_of_wait(measured: Sequence[Any]) -> str:
    said, waited = measured
    if said == "late":
        return "b" if waited > LIMIT_ALONE / 2 else "d"
    return {"EOFError": "a", "InterruptedError": "c"}.get(said, "")


# ---- the start -------------------------------------------------------------------------------------------------------


def early_client(client: Mapping[str, Any], milestones: list[dict[str, Any]]) -> Found:
    children = [each for each in milestones if each["role"] != "launcher"]
    zero, first_ready = milestones[0]["at"], min(each["at"] for each in children if each["stage"] == "READY")
    before_any = client["connected"] < min(each["at"] for each in children)
    early = "before any child has run a line" if before_any else "before a child is ready"
    connected, ready, answered = (each - zero for each in (client["connected"], first_ready, client["answered"]))
    told = f"connected {connected:.2f} s, first READY {ready:.2f} s, answered {answered:.2f} s"
    finding = f"A client connects at {connected:.2f} s, {early}, and is answered at {answered:.2f} s"
    return Found(
        shown=lambda: start_lanes(client, milestones, finding=finding),
        claims=(
            Claim(
                "The client connected before the first child was ready, and was answered without any retry",
                connected < ready and client["status"] == 200 and client["connections"] == 1,
                got=f"{told}, with {client['connections']} connection",
            ),
        ),
    )


# ---- one request, alone ----------------------------------------------------------------------------------------------

KINDS = ("launcher", "api", "engine")


def followed_alone(told: Mapping[str, Any], woken: Mapping[str, int]) -> Found:
    woken = {role: count for role, count in woken.items() if role.partition("-")[0] in KINDS}
    share = in_steps(told) / told["total"]
    touched = touched_by(woken, len(told["steps"]))
    launcher = f"woken {woken['launcher']} times" if woken["launcher"] else "never woken"
    finding = f"{share:.0%} of {1000 * told['total']:.0f} ms are steps of the engine core; the launcher was {launcher}"
    return Found(
        measured=(touched, share),
        shown=lambda: request_lanes(told, woken, finding=finding),
        claims=(
            Claim("More than half of a request's time is steps of the engine core", share > 0.5, f"{share:.0%}"),
            Claim(
                "An API server and the engine core are woken at least once for four tokens, and the launcher is not",
                touched == ["api", "engine"],
                f"woken for {len(told['steps'])} tokens: {', '.join(f'{role} {n}' for role, n in woken.items())}",
            ),
        ),
    )


def in_steps(told: Mapping[str, Any]) -> float:
    return sum(ended - begun for begun, ended, _ in told["steps"])


def touched_by(woken: Mapping[str, int], tokens: int) -> list[str]:
    """The kinds of process of which one was woken for every fourth token at least: nobody reads a message asleep."""
    return sorted({role.partition("-")[0] for role, count in woken.items() if 4 * count >= tokens})


def letter_of_road(found: tuple[list[str], float]) -> str:
    touched, share = found
    if touched not in (["api", "engine"], ["api", "engine", "launcher"]):
        return ""
    return {(True, True): "a", (False, False): "b", (True, False): "c", (False, True): "d"}[
        "launcher" in touched, share > 0.5
    ]


# ---- among 16 --------------------------------------------------------------------------------------------------------

STEPS, WAITING, ELSEWHERE = "in steps", "waiting for its\nfirst step", "elsewhere: HTTP,\ntext, on its way"


def followed_among_16(crowd: ProcessResult) -> Found:
    told = [each.fields for each in crowd.events if "steps" in each.fields]
    alone, among = (typical([parts(each) for each in told if each["clients"] == clients]) for clients in (1, 16))
    grown = {part: among[part] - alone[part] for part in alone}
    total = sum(grown.values())
    times = sum(among.values()) / sum(alone.values())
    shown = {part: {"alone": 1000 * alone[part], "among 16": 1000 * among[part]} for part in alone}
    finding = f"Among 16, it takes {times:.1f} times as long; {grown[STEPS] / total:.0%} of the extra time is in steps"
    hardly = "" if times > 1.15 else f"among 16 it took only {times:.2f} times as long as alone"
    return Found(
        measured=(times, grown[STEPS], grown[WAITING], grown[ELSEWHERE]),
        shown=lambda: bars(
            shown, unit="milliseconds of one request\n(median of 3)", finding=hardly.capitalize() or finding
        ),
        claims=(
            Claim(
                "Most of a request's extra time among 16 lies in steps",
                grown[STEPS] > 0.5 * total,
                {part.replace("\n", " "): f"{1000 * seconds:+.0f} ms" for part, seconds in grown.items()},
                hardly,
            ),
        ),
    )


def parts(told: Mapping[str, Any]) -> dict[str, float]:
    """The time of a request, in seconds, by `times_of`."""
    stepping, waiting = in_steps(told), told["waited"]
    return {STEPS: stepping, WAITING: waiting, ELSEWHERE: max(0.0, told["total"] - stepping - waiting)}


def typical(repeats: list[dict[str, float]]) -> dict[str, float]:
    """The repeat of median length."""
    return sorted(repeats, key=lambda each: sum(each.values()))[len(repeats) // 2]


def letter_of_growth(found: tuple[float, float, float, float]) -> str:
    times, *grown = found
    return "d" if times < 1.15 else "abc"[grown.index(max(grown))]


JUDGES = (
    Judge(
        "07.1",
        find=count_lost_starts,
        letter=letter_of_losses,
        reached={"a": [0, 0, 0], "b": [2, 2, 3], "c": [0, 3, 14], "d": [0, 0, 150]},
    ),
    Judge(
        "07.2",
        find=compare_ways,
        expected=FOUR,
        row_words="{row}: a client that comes before the child gets {option}",
    ),
    Judge("07.3", find=six_waits, expected=SIX, row_words="{row}: the parent {option}"),
    Judge(
        "07.4",
        find=wait_alone,
        letter=letter_of_wait,
        reached={"a": ["EOFError", 0.3], "b": ["late", 2.0], "c": ["InterruptedError", 0.3], "d": ["late", 0.3]},
    ),
    Judge("07.start", find=early_client),
    Judge(
        "07.5",
        find=followed_alone,
        letter=letter_of_road,
        reached={
            "a": (["api", "engine", "launcher"], 0.9),
            "b": (["api", "engine"], 0.2),
            "c": (["api", "engine", "launcher"], 0.2),
            "d": (["api", "engine"], 0.9),
        },
    ),
    Judge(
        "07.6",
        find=followed_among_16,
        letter=letter_of_growth,
        reached={"a": (2.5, 0.2, 0.0, 0.0), "b": (8.0, 0.0, 0.8, 0.0), "c": (2.0, 0.0, 0.0, 0.1), "d": (1.0, 0, 0, 0)},
    ),
)

# ---- the article's sentences that this notebook tested ---------------------------------------------------------------

LEDGER = (
    Tested(
        17,
        claims=(
            "The client connected before the first child was ready, and was answered without any retry",
            "An API server and the engine core are woken at least once for four tokens, and the launcher is not",
        ),
        finding="so: the socket takes clients before any of them runs, and the launcher has no part in an answer",
        otherwise="not as here expected: see the figures of the early client and below 07.5",
    ),
)

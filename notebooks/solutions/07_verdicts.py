"""How the predictions of notebook 07 are judged, drawn and claimed."""

from collections.abc import Mapping
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.figures.swimlanes import request_lanes, start_lanes
from lab_support.notebook.moves.verdicts import Claim, Found, Judge

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
                "For every fourth token at least, an API server and the engine core are woken, and the launcher is not",
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
    finding = f"Among 16, a request takes {times:.1f} times as long; {grown[STEPS] / total:.0%} of that is in steps"
    hardly = "" if times > 1.15 else f"among 16 it took only {times:.2f} times as long as alone"
    return Found(
        measured=(times, grown[STEPS], grown[WAITING], grown[ELSEWHERE]),
        shown=lambda: bars(
            shown, unit="milliseconds of one request\n(median of 3)", finding=hardly.capitalize() or finding
        ),
        claims=(
            Claim(
                "Most of what a request takes longer among 16 lies in steps",
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

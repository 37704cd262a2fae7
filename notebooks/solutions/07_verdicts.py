"""How the predictions of notebook 07 are judged, drawn and claimed."""

from collections.abc import Mapping, Sequence

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.lost_starts import lost_starts
from lab_support.notebook.figures.plots import Picture
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table
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


def compare_ways(ways: ProcessResult) -> Found:
    found = ways.by("way")
    passed = found[PASSED]
    met, answer = (next(iter(passed[key]), "") for key in ("clients", "answers"))
    kept = [found[way]["lost"] for way in (REPORTED, PRIVATE, PASSED)]
    starts = passed["starts"]
    heads = ("way", f"lost of {starts}", "a client, before the child runs", "afterwards", "from another machine")
    return Found(
        measured=(passed["lost"], met, answer),
        shown=Table(heads, tuple(_row(way, each) for way, each in found.items())),
        claims=(
            Claim("Of the ways that never let go of an address, none loses a start", kept == [0, 0, 0], kept),
            Claim(
                "A client of the passed socket is connected before the child runs, and answered by the child",
                passed["clients"] == {"connected": starts} and passed["answers"] == {"answered": starts},
                got=f"{passed['clients'].get('connected', 0)} and {passed['answers'].get('answered', 0)} of {starts}",
            ),
        ),
    )


def _row(way: str, found: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    met, answer = (", ".join(found[key]) for key in ("clients", "answers"))
    answer = answer if "connected" in met else "–"
    reached = "can't be reached" if way == PRIVATE else "can be reached"
    return (way, str(found["lost"]), met, answer, reached)


def letter_of_early_client(measured: Sequence[object]) -> str:
    lost, met, answer = measured
    if lost:
        return "d"
    if met == "connected":
        return "a" if answer == "answered" else "c"
    return "b" if met == "refused" else ""


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
        letter=letter_of_early_client,
        reached={
            "a": (0, "connected", "answered"),
            "b": (0, "refused", "not answered"),
            "c": (0, "connected", "not answered"),
            "d": (96, "connected", "not answered"),
        },
    ),
)

"""How the predictions of appendix 07a are judged, drawn and claimed."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

# ---- 07a.1: a second engine core -------------------------------------------------------------------------------------


def choose_a_core(routed: ProcessResult, scored: ProcessResult) -> Found:
    waiting = {way: seen["waiting"] for way, seen in routed.by("way").items()}
    got = {row: seen["got"] for row, seen in scored.by("row").items()}
    in_turn, fewest = waiting["in turn"], waiting["the fewest in flight"]
    old_news = got["published load, 0"]
    rows = (
        ("in turn", str(sum(in_turn)), "–", "–", "–"),
        ("own in flight", str(sum(fewest)), *_burst("own in flight", got)),
        ("published load", "–", *_burst("published load", got)),
        ("yours", "–", *_burst("yours", got)),
    )
    columns = ("chosen by", "wait, of 40", "a burst to cores 0 and 1, both idle", "core 1 had 1", "core 1 had 40")
    return Found(
        measured=(sum(in_turn), sum(fewest)),
        shown=Table(columns, rows),
        claims=(
            Claim("In turn, half of the clients go to the core that hangs", sum(in_turn) == 20, sum(in_turn)),
            Claim("A front end that counts its own sends one client there", fewest == [1, 1], _pair(fewest)),
            Claim(
                "By old news alone, two front ends send a whole burst to one core", max(old_news) == 16, max(old_news)
            ),
        ),
    )


def _burst(by: str, got: dict[str, list[int]]) -> tuple[str, ...]:
    return tuple(_pair(got[f"{by}, {load}"]) for load in (0, 1, 40))


def _pair(counts: list[int]) -> str:
    return " and ".join(map(str, counts))


def letter_of_waiting(waiting: tuple[int, int]) -> str:
    in_turn, fewest = waiting
    if fewest > in_turn / 2:
        return "d"
    return "a" if fewest == 0 else "c" if fewest == 1 else "b"


# ---- 07a.2: nobody reads ---------------------------------------------------------------------------------------------

WAITS, ERROR = "it waits", "it gets an error"
LOST, KEPT = "it goes on, and most are lost", "it goes on, and all arrive later"
FULL = {
    "DEALER": WAITS,
    "DEALER, sends with NOBLOCK": ERROR,
    "DEALER, high-water mark 0": KEPT,
    "ROUTER": LOST,
    "ROUTER, MANDATORY, with NOBLOCK": ERROR,
    "XPUB": LOST,
}


def meet_a_full_queue(full: ProcessResult, refused: ProcessResult) -> Found:
    by_row = full.by("row")
    grown = {row: by_row[row]["grown_mb"] for row in FULL}
    unbounded = grown.pop("DEALER, high-water mark 0")
    told = refused.told
    answered = f"core 0 answered {told['served']}, core 1 took {told['taken']} and answered {told['answered']}"
    return Found(
        rows={row: _fate(by_row[row]) for row in FULL},
        seen={row: _in_words(by_row[row]) for row in FULL},
        claims=(
            Claim(
                "With a high-water mark of 0, the sender's memory grows by all that nobody reads",
                unbounded > 15 and max(grown.values()) < 8,
                f"by {unbounded:.0f} MB; otherwise by {max(grown.values()):.1f} MB at most",
            ),
            Claim(
                "A front end that refuses loses nothing, and goes on with the other core",
                told["served"] > told["taken"] == told["answered"] and told["full"] > 0,
                answered,
            ),
        ),
    )


def _fate(seen: dict[str, Any]) -> str:
    if seen["stopped"]:
        return WAITS if seen["waited"] else ERROR
    return KEPT if seen["arrived"] == seen["sent"] else LOST


def _in_words(seen: dict[str, Any]) -> str:
    return f"sent {seen['sent']:,}, arrived {seen['arrived']:,}, {seen['grown_mb']:.1f} MB more memory"


# ---- 07a.3: what a message weighs ------------------------------------------------------------------------------------


def weigh(weighed: ProcessResult) -> Found:
    by_row = weighed.by("row")
    of = {name: [by_row[f"{name}, {codec}"] for codec in ("msgspec", "pickle")] for name in MESSAGES}
    size, time = ({name: _ratio(of[name], what) for name in MESSAGES} for what in ("bytes", "microseconds"))
    request, step = (size[name] for name in MESSAGES)
    slower = time["a step's tokens"]
    return Found(
        measured=(request, step),
        shown=lambda: bars(
            {"bytes": size, "time to pack and unpack": time},
            unit="pickle ÷ msgspec\n(time: quickest of 200)",
            level=1.0,
            level_is="as much as msgspec",
            finding=f"A step's tokens as a pickle: {step:.1f} × the bytes, {slower:.1f} × the time",
        ),
        claims=(
            Claim("A long prompt takes about as many bytes either way", 0.7 < request < 1.4, _bytes(of["a request"])),
            Claim("A step's tokens take far more as a pickle", step > 1.7, _bytes(of["a step's tokens"])),
            Claim(
                "Packing and unpacking them takes pickle more than twice the time",
                slower > 2,
                _time(of["a step's tokens"]),
            ),
        ),
    )


MESSAGES = ("a request", "a step's tokens")


def _ratio(codecs: list[dict[str, float]], what: str) -> float:
    msgspec, pickle = (each[what] for each in codecs)
    return pickle / msgspec


def _bytes(codecs: list[dict[str, int]]) -> str:
    msgspec, pickle = (each["bytes"] for each in codecs)
    return f"msgspec {msgspec:,}, pickle {pickle:,}"


def _time(codecs: list[dict[str, float]]) -> str:
    msgspec, pickle = (each["microseconds"] for each in codecs)
    return f"msgspec {msgspec:.1f} µs, pickle {pickle:.1f} µs"


def letter_of_size(ratios: tuple[float, float]) -> str:
    request, step = (ratio > 1.5 for ratio in ratios)
    return {(True, True): "a", (False, False): "b", (True, False): "c", (False, True): "d"}[request, step]


# ---- 07a.4: what a pickle can do -------------------------------------------------------------------------------------


def open_the_gift(received: ProcessResult) -> Found:
    by_row = received.by("row")
    gift, refused = by_row["by_pickle: the gift"], by_row["by_msgspec: the gift"]
    wrong = by_row["by_msgspec: an Abort of a text"]
    rows = tuple((row, seen["said"], "made" if seen["made"] else "not made") for row, seen in by_row.items())
    return Found(
        measured=(bool(gift["made"]), gift["said"].partition(":")[0]),
        shown=Table(("receiver: frame", "the receiver's result", "the folder"), rows),
        claims=(
            Claim(
                "pickle.loads has run the sender's function before any check",
                bool(gift["made"]) and gift["said"].startswith("TypeError"),
                gift["said"],
            ),
            Claim(
                "msgspec, told the class, refuses the same frame and a wrong field, and runs nothing",
                _is_refused(refused) and _is_refused(wrong),
                refused["said"],
            ),
        ),
    )


def _is_refused(seen: dict[str, Any]) -> bool:
    return not seen["made"] and seen["said"].startswith("ValidationError")


def letter_of_gift(seen: tuple[bool, str]) -> str:
    made, said = seen
    if made:
        return "d" if said == "Abort" else "c"
    return "b" if said == "TypeError" else "a"


JUDGES = (
    Judge(
        "07a.1",
        find=choose_a_core,
        letter=letter_of_waiting,
        reached={"a": (20, 0), "b": (20, 2), "c": (20, 1), "d": (20, 20)},
    ),
    Judge("07a.2", find=meet_a_full_queue, expected=FULL, row_words="{row}: {option}"),
    Judge(
        "07a.3",
        find=weigh,
        letter=letter_of_size,
        reached={"a": (3.0, 2.6), "b": (1.0, 1.1), "c": (3.0, 1.1), "d": (1.0, 2.6)},
    ),
    Judge(
        "07a.4",
        find=open_the_gift,
        letter=letter_of_gift,
        reached={
            "a": (False, "UnpicklingError"),
            "b": (False, "TypeError"),
            "c": (True, "TypeError"),
            "d": (True, "Abort"),
        },
    ),
)

"""How the predictions of appendix 08a are judged, drawn and claimed."""

from statistics import mean, median
from typing import Any

from lab_support.instruments.load.latency import percentile
from lab_support.instruments.record import recordings
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.bars import bars
from lab_support.notebook.figures.load.percentiles import percentiles
from lab_support.notebook.figures.load.stacked import stacked
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.recordings import peers
from lab_support.notebook.recordings.recorded import Recorded

# ---- 08a.1: one second of standing still -----------------------------------------------------------------------------

STOP = 1.0  # seconds
CLOSED, SENT, DUE = "closed loop", "on schedule, from the sending", "on schedule, from the due time"


def see_the_stop(stopped: ProcessResult) -> Found:
    told = stopped.told
    seen = {CLOSED: told["in_a_row"], SENT: told["from_sent"], DUE: told["yours"]}
    of_100 = {name: percentile(sorted(values), 99) for name, values in seen.items()}
    finding = f"99 of 100 requests took at most {_ms(of_100[CLOSED])}, or {_ms(of_100[DUE])} from the due time"
    return Found(
        measured=(of_100[CLOSED] / STOP, of_100[DUE] / STOP),
        shown=lambda: percentiles(
            seen, finding=_by(told, finding), seconds=STOP, words="the engine core stands still so long"
        ),
        claims=(
            Claim(
                "From the due time, one request in a hundred takes longer than half of the stop",
                of_100[DUE] > STOP / 2,
                _ms(of_100[DUE]),
            ),
            Claim(
                "By the closed loop, 99 of 100 requests take less than half of the stop",
                of_100[CLOSED] < STOP / 2,
                f"{_ms(of_100[CLOSED])}; {_slow(seen[CLOSED])} of {len(seen[CLOSED]):,} took longer than half of it",
            ),
            Claim(
                "Counted from the sending, 99 of 100 requests on schedule take less than half of it, too",
                of_100[SENT] < STOP / 2,
                f"{_ms(of_100[SENT])}; {_slow(seen[SENT])} of {len(seen[SENT]):,} took longer than half of it",
            ),
        ),
    )


def _slow(latencies: list[float]) -> int:
    return sum(each > STOP / 2 for each in latencies)


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _by(told: dict[str, Any], finding: str) -> str:
    """A title of a figure that was measured with a stand-in."""
    return f"{finding}\nby a {told['stand_in']}"


def letter_of_stop(of_100: tuple[float, float]) -> str:
    closed, due = (share > 0.4 for share in of_100)
    return {(True, True): "a", (True, False): "b", (False, True): "c", (False, False): "d"}[closed, due]


# ---- 08a.2: Little's law ---------------------------------------------------------------------------------------------

STAYS, GIVES_UP = "stays", "gives_up"
_CLIENTS = {STAYS: "all stay", GIVES_UP: "half are abandoned"}


def compare_with_the_law(little: ProcessResult) -> Found:
    by_client = little.by("client")
    law = {client: by_client[client]["total"] / by_client[client]["seconds"] for client in _CLIENTS}
    present = {client: by_client[client]["present"] for client in _CLIENTS}
    share = {client: law[client] / present[client] for client in _CLIENTS}
    shown = {
        words: {"by the histogram and the law": law[client], "running + waiting": present[client]}
        for client, words in _CLIENTS.items()
    }
    finding = (
        f"The law's L is {share[STAYS]:.0%} of those in the server, and {share[GIVES_UP]:.0%} if half are abandoned"
    )
    return Found(
        measured=share[GIVES_UP],
        shown=lambda: bars(shown, unit="requests in the server, mean of 2.5 s", finding=_by(by_client[STAYS], finding)),
        claims=(
            Claim(
                "While all stay, the law's L is within a fifth of what the engine core reports",
                abs(share[STAYS] - 1) < 0.2,
                f"{law[STAYS]:.1f} and {present[STAYS]:.1f}",
            ),
            Claim(
                "Where half are abandoned, the histogram's L is less than four fifths of what the engine core reports",
                share[GIVES_UP] < 0.8,
                f"{law[GIVES_UP]:.1f} and {present[GIVES_UP]:.1f}",
            ),
        ),
    )


def letter_of_law(share: float) -> str:
    if share < 0.25:
        return "d"
    return "b" if share < 0.85 else "a" if share < 1.15 else "c"


# ---- 08a.3: static and continuous batching ---------------------------------------------------------------------------


def compare_batching(batched: ProcessResult) -> Found:
    by_batching = batched.by("batching")
    static, continuous = by_batching["static"], by_batching["continuous"]
    times = _tokens_per_second(continuous) / _tokens_per_second(static)
    short = {name: _mean_of_short(found) for name, found in by_batching.items()}
    shown = {name: {"computed": found["expected"], "measured": found["steps"]} for name, found in by_batching.items()}
    finding = (
        f"Continuous batching: {times:.1f} times the tokens per second, and a short answer ends after "
        f"{short['continuous']:.1f} s, not {short['static']:.1f}"
    )
    return Found(
        measured=times,
        shown=lambda: bars(shown, unit="steps for 64 answers", finding=_by(static, finding)),
        claims=(
            Claim(
                "Continuous batching gives more than 1.7 times as many tokens per second",
                times > 1.7,
                f"{_tokens_per_second(continuous):,.0f} and {_tokens_per_second(static):,.0f} tokens/s",
            ),
            Claim(
                "Each static batch takes the steps of its longest answer, within 15 %",
                abs(static["steps"] / static_steps(static["lengths"]) - 1) < 0.15,
                f"computed {static_steps(static['lengths'])}, measured {static['steps']:.0f}",
            ),
            Claim(
                "With continuous batching, a short answer ends in less than 0.7 of the time, on average",
                short["continuous"] < 0.7 * short["static"],
                f"{short['continuous']:.2f} s and {short['static']:.2f} s",
            ),
        ),
    )


ROWS = 8


def static_steps(lengths: list[int]) -> int:
    return sum(max(lengths[place : place + ROWS]) for place in range(0, len(lengths), ROWS))


def _tokens_per_second(found: dict[str, Any]) -> float:
    return float(found["tokens"] / found["seconds"])


def _mean_of_short(found: dict[str, Any]) -> float:
    least = min(found["lengths"])
    return mean(at for at, length in zip(found["ended"], found["lengths"], strict=True) if length == least)


def letter_of_times(times: float) -> str:
    if times > 5:
        return "c"
    return "b" if times < 1.3 else "d" if times < 1.9 else "a"


# ---- 08a.4: a long prompt --------------------------------------------------------------------------------------------

LESS, SAME, MORE = "less", "about the same", "more"
PAUSE, FIRST, MEANWHILE = (
    "the longest pause of a running answer",
    "the time to the long prompt's first token",
    "tokens of running answers while the prompt is computed",
)
CHUNKED = {PAUSE: LESS, FIRST: MORE, MEANWHILE: MORE}
SMALL, LARGE = 64, 2048


def compare_chunks(chunked: ProcessResult) -> Found:
    found = {row: [_typical(chunked, budget, field) for budget in (SMALL, LARGE)] for row, field in _FIELDS.items()}
    return Found(
        rows={row: option_of(*values) for row, values in found.items()},
        seen={row: _in_words(row, *values) for row, values in found.items()},
    )


_FIELDS = {PAUSE: "pause", FIRST: "first", MEANWHILE: "meanwhile"}


def _typical(chunked: ProcessResult, budget: int, field: str) -> float:
    """Of the repeats the quickest, because other programs only make them slower; of counts the median."""
    repeats = [event.fields[field] for event in chunked.events if event.fields.get("budget") == budget]
    return float(median(repeats) if field == "meanwhile" else min(repeats))


def option_of(small: float, large: float) -> str:
    """Less or more by a fifth at least."""
    return LESS if small < large / 1.2 else MORE if small > large * 1.2 else SAME


def _in_words(row: str, small: float, large: float) -> str:
    if row == MEANWHILE:
        return f"{small:.0f}; in one step {large:.0f}"
    return f"{_ms(small)}; in one step {_ms(large)} (least of 5)"


# ---- where the time of one token goes --------------------------------------------------------------------------------


PROMPT = 1000.0
"""Microseconds of both ways, with one client: who waits for a message wakes up sooner unless others have the cores."""


def follow_a_token(one_token: ProcessResult) -> Found:
    by_clients = one_token.by("clients")
    alone, among = ({stage: 1e6 * value for stage, value in by_clients[count].items() if stage != "clients"}
                    for count in (1, 16))  # fmt: skip
    shares = [each["computed"] / sum(each.values()) for each in (alone, among)]
    text = among["text, event, send"] / alone["text, event, send"]
    ways = [each["to the API server"] + each["to its client"] for each in (alone, among)]
    busy = "" if ways[0] < PROMPT else f"a message took {ways[0] / 1000:.1f} ms to processes that waited for it"
    finding = f"On this CPU, {shares[0]:.0%} of a token's time is computing it, and {shares[1]:.0%} among 16"
    return Found(
        shown=lambda: stacked(
            {"alone": alone, "among 16": among}, unit="microseconds of one token, medians", finding=finding
        ),
        claims=(
            Claim(
                "On a CPU, more than half of a token's time is computing it, alone and among 16",
                min(shares) > 0.5,
                f"{shares[0]:.0%} and {shares[1]:.0%}",
                untestable=busy,
            ),
            Claim(
                "Among 16, a token is on its two ways at least 1.2 times as long as alone",
                ways[1] > 1.2 * ways[0],
                f"{ways[0]:.0f} µs and {ways[1]:.0f} µs",
                untestable=busy,
            ),
            Claim(
                "Among 16, an API server makes and sends the text of a token in less than half of the time",
                text < 0.5,
                f"{alone['text, event, send']:.0f} µs and {among['text, event, send']:.0f} µs",
                untestable=busy,
            ),
        ),
    )


# ---- other servers ---------------------------------------------------------------------------------------------------


def other_servers() -> Found:
    """Always the recording: each of the others has an environment of its own, of 1 to 3 GB."""
    shown = Recorded(peers.RECORDING, recordings.load(peers.RECORDING), False, "", peers.table)
    whole, unbatched = shown.tested(peers.a_whole_answer_is_late), shown.tested(peers.without_batches_all_wait)
    return Found(
        shown=shown,
        claims=(
            Claim(
                "Answers that come as a whole have their first token over five times later, from the same server",
                whole["condition"],
                whole["got"],
            ),
            Claim(
                "With one request at a time in each worker, the first token comes over ten times later than here",
                unbatched["condition"],
                unbatched["got"],
            ),
        ),
    )


JUDGES = (
    Judge(
        "08a.1",
        find=see_the_stop,
        letter=letter_of_stop,
        reached={"a": (0.9, 0.95), "b": (0.9, 0.02), "c": (0.02, 0.95), "d": (0.02, 0.02)},
    ),
    Judge(
        "08a.2",
        find=compare_with_the_law,
        letter=letter_of_law,
        reached={"a": 1.0, "b": 0.57, "c": 1.4, "d": 0.1},
    ),
    Judge(
        "08a.3",
        find=compare_batching,
        letter=letter_of_times,
        reached={"a": 2.4, "b": 1.1, "c": 8.0, "d": 1.5},
    ),
    Judge("08a.4", find=compare_chunks, expected=CHUNKED, row_words="{row}: {option}"),
    Judge("08a.token", find=follow_a_token),
    Judge("08a.peers", find=other_servers),
)

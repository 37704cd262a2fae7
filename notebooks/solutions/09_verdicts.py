"""How the predictions of notebook 09 are judged, drawn and claimed."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.plain import plain
from lab_support.notebook.page.tables import Table

# ---- 09.1: the end of a launcher -------------------------------------------------------------------------------------

AN_ANSWER, A_REFUSAL = "an answer", "a refusal"
FOUR_ENDS = {"its main returns": A_REFUSAL, "SIGINT": A_REFUSAL, "SIGTERM": AN_ANSWER, "SIGKILL": AN_ANSWER}


def ends_of_launchers(launchers: ProcessResult) -> Found:
    found = launchers.by("end")
    return Found(
        rows={end: found[end]["client"] for end in FOUR_ENDS},
        seen={end: left_in_words(found[end]) for end in FOUR_ENDS},
    )


def left_in_words(found: Mapping[str, Any]) -> str:
    """Such as "2 API servers run, their parent is process 1; the port is in use"."""
    running = f"{found['running']} API servers run, their parent is {found['parent']}"
    return f"{running if found['running'] else 'none runs'}; the port is {'free' if found['free'] else 'in use'}"


# ---- 09.2: two precautions, six events ------------------------------------------------------------------------------

BOTH, SIGNAL, PIPE, NEITHER = "both", "the signal alone", "the pipe alone", "neither"
PLAIN, EARLY, THREAD, SIBLING, STOPPED, IN_C = (
    "the parent is killed",
    "the parent is killed before the precaution is taken",
    "the thread that made the worker ends",
    "the parent has forked a sibling, and is killed",
    "the worker is stopped, and the parent is killed",
    "the worker is in C code that holds Python's lock, and the parent is killed",
)
SIX = {PLAIN: BOTH, EARLY: PIPE, THREAD: PIPE, SIBLING: SIGNAL, STOPPED: SIGNAL, IN_C: SIGNAL}
_WHICH = {(True, True): BOTH, (True, False): SIGNAL, (False, True): PIPE, (False, False): NEITHER}


def six_events(precautions: ProcessResult) -> Found:
    told = fates_of(precautions)
    right = {key: is_right(each) for key, each in told.items()}
    missed = [event for event in SIX if not right[event, "both"]]
    return Found(
        rows={event: _WHICH[right[event, "the_signal"], right[event, "the_pipe"]] for event in SIX},
        seen={event: event_in_words(event, told) for event in SIX},
        claims=(
            Claim(
                "Taken together, they work in every event but one: the end of the thread that made the worker",
                missed == [THREAD],
                got=f"wrong where {'; '.join(missed) or 'nothing happens'}",
            ),
        ),
    )


def fates_of(precautions: ProcessResult) -> dict[tuple[str, str], dict[str, Any]]:
    """By event and precaution."""
    return {(each.fields["event"], each.fields["precaution"]): each.fields for each in precautions.events}


def is_right(told: Mapping[str, Any]) -> bool:
    """The worker ends with its parent, and never before."""
    return bool(told["fate"] == ("it lives on" if told["event"] == THREAD else "it ends"))


def event_in_words(event: str, told: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """Such as "signal: it ends, killed by SIGKILL; pipe: it lives on (a sibling has the write end)"."""
    by_signal, by_pipe = told[event, "the_signal"], told[event, "the_pipe"]
    return f"signal: {fate_in_words(by_signal)}; pipe: {fate_in_words(by_pipe)}"


def fate_in_words(told: Mapping[str, Any]) -> str:
    writers = f" ({', '.join(told['writers'])} has the write end)" if told["writers"] else ""
    return ", ".join(filter(None, (told["fate"], told["how"]))) + (writers if told["fate"] == "it lives on" else "")


# ---- 09.3: each process killed ---------------------------------------------------------------------------------------

SERVED, SOME, CUT_OFF, TOLD = (
    "all are served to the end",
    "some are cut off, the others are served to the end",
    "all are cut off",
    "all are told by an error event, a last line in the stream",
)
FOUR_DEATHS = {"launcher": CUT_OFF, "coordinator": TOLD, "api-0": SOME, "engine-0": TOLD}
_CLIENTS = {("done",): SERVED, ("cut off", "done"): SOME, ("cut off",): CUT_OFF, ("error event",): TOLD}


def four_deaths(deaths: ProcessResult) -> Found:
    found = {each.fields["role"]: each.fields for each in deaths.events if each.fields["state"] == "streaming"}
    on = [role for role in FOUR_DEATHS if found[role]["server"] == "goes on"]
    return Found(
        rows={role: clients_got(found[role]["clients"]) for role in FOUR_DEATHS},
        seen={role: noticed_in_words(found[role]) for role in FOUR_DEATHS},
        claims=(
            Claim(
                "Of these deaths, only that of an API server does not end the server, and none leaves a process",
                on == ["api-0"] and not any(found[role]["left"] for role in FOUR_DEATHS),
                got=f"it goes on without {', '.join(on) or 'none of them'}",
            ),
        ),
    )


def clients_got(clients: Mapping[str, int]) -> str:
    """The option for these outcomes of clients; in words, if it is none of them."""
    return _CLIENTS.get(tuple(sorted(clients)), plain(clients))


def noticed_in_words(found: Mapping[str, Any]) -> str:
    """Such as "launcher: the process's end, after 9 ms; the server ended"."""
    means: dict[str, list[float]] = {}
    for how, ms in found["noticed"].values():
        means.setdefault(how, []).append(ms)
    who, when = ("its children", "the last after") if found["role"] == "launcher" else ("launcher", "after")
    told = "; ".join(f"{who}: {how}, {when} {max(times):,.0f} ms" for how, times in means.items())
    return f"{told or 'nobody'}; the server {found['server']}"


# ---- 09.4: a process that stands still -------------------------------------------------------------------------------


def standing_still(stopped: ProcessResult) -> Found:
    without, with_one = (event.fields for event in stopped.events)
    after = [ms for _, ms in with_one["noticed"].values()]
    rows = tuple(
        (
            f"{each['deadline']:g} s" if each["deadline"] else "none",
            noticed_in_words(each),
            plain(each["clients"]),
        )
        for each in (without, with_one)
    )
    return Found(
        measured=sorted(without["noticed"]),
        shown=Table(("deadline", "who notices", "clients"), rows),
        claims=(
            Claim(
                "Without a deadline nobody notices within 6 s, and with one the launcher does",
                not without["noticed"] and bool(after),
                got=f"nobody; after {min(after, default=0) / 1000:.1f} s",
            ),
        ),
    )


def letter_of_stop(noticed: Sequence[str]) -> str:
    if not noticed:
        return "c"
    return {"launcher": "a", "coordinator": "d"}.get(noticed[0], "b")


# ---- 09.5: exit code 0 -----------------------------------------------------------------------------------------------

CLEAN, KILLED, COORDINATOR = (
    "api-0 ends with exit code 0",
    "api-0 is killed",
    "the coordinator ends with exit code 0",
)
TWICE, ASKED = "api-0 is killed, and then its successor", "all are asked to end, and do"
BREAKS = "api-0 is killed, and each successor breaks at once"


def waits_of_vllm(vllms: ProcessResult) -> Found:
    told = vllms.by("ending")
    clean, coordinator = told[CLEAN], told[COORDINATOR]
    return Found(
        measured=reaction(clean),
        shown=lambda: reactions(told),
        claims=(
            Claim(
                "An end with exit code 0 that nobody asked for is no failure there: it waits for the others",
                all(each["did"] == "waits on" and len(each["left"]) == 2 for each in (clean, coordinator)),
                got=f"{reaction_in_words(clean)}; {reaction_in_words(coordinator)}",
            ),
        ),
    )


def reaction(told: Mapping[str, Any]) -> tuple[str, int]:
    """What the rule did, and the number of successors."""
    return told["did"], told["starts"]


def reactions(told: Mapping[str, Mapping[str, Any]]) -> Table:
    heads = ("what happens", "the function", "its children then")
    rows = tuple((ending, did_in_words(each), left_of(each)) for ending, each in told.items())
    return Table(heads, rows)


def did_in_words(told: Mapping[str, Any]) -> str:
    said = f": “{told['said']}”" if told["said"] else ""
    starts = f"; successors: {told['starts']}" if told["starts"] else ""
    return f"{told['did'] or 'could not be tried'}{said}{starts}"


def left_of(told: Mapping[str, Any]) -> str:
    return ", ".join(told["left"]) or "none"


def reaction_in_words(told: Mapping[str, Any]) -> str:
    return f"{did_in_words(told)}, with {left_of(told)}"


def letter_of_clean(measured: Sequence[Any]) -> str:
    did, starts = measured
    return {"raises": "a", "returns": "c"}.get(did, "") or ("" if did != "waits on" else "d" if starts else "b")


# ---- 09.6: a rule without memory -------------------------------------------------------------------------------------


def waits_of_reader(mine: ProcessResult) -> Found:
    told = mine.by("ending")
    ends = [told[CLEAN], told[KILLED], told[TWICE]]
    return Found(
        measured=reaction(told[BREAKS]),
        shown=lambda: reactions(told),
        claims=(
            Claim(
                "Whatever its exit code, an API server that ends unasked has a successor, which has one, too",
                [each["starts"] for each in ends] == [1, 1, 2] and all(len(each["left"]) == 3 for each in ends),
                got=f"{', '.join(str(each['starts']) for each in ends)} successors",
            ),
            Claim(
                "A rule without a memory starts a server that breaks at once again and again, without a pause",
                told[BREAKS]["starts"] > MANY,
                got=f"{told[BREAKS]['starts']} starts",
            ),
        ),
    )


MANY = 10


def letter_of_breaks(measured: Sequence[Any]) -> str:
    did, starts = measured
    if starts > MANY:
        return "d"
    return "a" if starts == 0 else "b" if did == "raises" else "c"


JUDGES = (
    Judge(
        "09.1",
        find=ends_of_launchers,
        expected=FOUR_ENDS,
        row_words="After its launcher's end ({row}), a plain server gives a client {option}",
    ),
    Judge(
        "09.2",
        find=six_events,
        expected=SIX,
        row_words="Where {row}, {option} of the two works",
    ),
    Judge(
        "09.3",
        find=four_deaths,
        expected=FOUR_DEATHS,
        row_words="If {row} is killed while four clients read, {option}",
    ),
    Judge(
        "09.4",
        find=standing_still,
        letter=letter_of_stop,
        reached={"a": ["launcher"], "b": ["api-0"], "c": [], "d": ["coordinator"]},
    ),
    Judge(
        "09.5",
        find=waits_of_vllm,
        letter=letter_of_clean,
        reached={"a": ("raises", 0), "b": ("waits on", 0), "c": ("returns", 0), "d": ("waits on", 1)},
    ),
    Judge(
        "09.6",
        find=waits_of_reader,
        letter=letter_of_breaks,
        reached={"a": ("raises", 0), "b": ("raises", 1), "c": ("waits on", 3), "d": ("waits on", 100)},
    ),
)

# ---- the article's sentences that this notebook tested ---------------------------------------------------------------

LEDGER = (
    Tested(
        17,
        claims=("After SIGTERM and after SIGKILL both API servers run on, and the port is in use",),
        finding="so, and even without a launcher: what shares the listening socket keeps the port",
        otherwise="not as here expected: see the table of 09.1",
    ),
)

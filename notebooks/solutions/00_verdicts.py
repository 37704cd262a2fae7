"""How the predictions of notebook 00 are judged, drawn and claimed."""

from collections.abc import Mapping, Sequence
from typing import Any

from lab_support.notebook.canvas.plots import process_tree
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.ledger import Tested
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.role_view import RoleView
from lab_support.notebook.page.tables import Table

# ---- who picks up ----------------------------------------------------------------------------------------------------


def answered_at_once(before: Mapping[str, int], meanwhile: Mapping[str, int]) -> Found:
    rounds = {"both run": before, "api-0 stands still": meanwhile}
    rows = tuple(
        (name, *(str(each.get(who, 0)) for who in ("api-0", "api-1", "nobody"))) for name, each in rounds.items()
    )
    answered = sum(meanwhile.values()) - meanwhile.get("nobody", 0)
    return Found(
        measured=answered,
        shown=Table(("40 new connections", "api-0", "api-1", "nobody within a second"), rows),
        claims=(
            Claim("While one process stands still, the other answers all", meanwhile.get("api-1", 0) == 40, answered),
        ),
    )


def letter_of_answered(answered: int) -> str:
    if answered == 40:
        return "d"
    return "c" if answered == 0 else "a" if 14 <= answered <= 26 else "b"


NOBODY = "TimeoutError"


def answer_on_a_kept_connection(kept: ProcessResult) -> Found:
    told = kept.events[-1].fields
    words = {NOBODY: "nobody within a second"}
    rows = (("at first", told["first"]), ("on the same connection", told["same"]), ("on a new one", told["new"]))
    other = told["new"].startswith("api-") and told["new"] != told["first"]
    return Found(
        measured=told["same"],
        shown=Table(("asked", "answered by"), tuple((asked, words.get(who, who)) for asked, who in rows)),
        claims=(
            Claim(
                "On a connection whose process stands still, nobody answers",
                told["same"] == NOBODY,
                words.get(told["same"], told["same"]),
            ),
            Claim("A new connection is answered by the other process", other, words.get(told["new"], told["new"])),
        ),
    )


def letter_of_kept(answered: str) -> str:
    return "a" if answered == NOBODY else "b" if answered.startswith("api-") else "c"


# ---- who has what ----------------------------------------------------------------------------------------------------

SOCKET, TORCH, BOTH, NEITHER = "only the socket", "only PyTorch", "both", "neither"
ROLES = {
    "the launcher": "launcher",
    "an API server": "api-",
    "the engine core": "engine-",
    "the resource tracker": "resource-tracker",
}


def what_each_has(views: Sequence[RoleView]) -> Found:
    of_row = {row: [view for view in views if view.role.startswith(role)] for row, role in ROLES.items()}
    return Found(
        rows={row: _has(these) for row, these in of_row.items()},
        seen={row: _in_words(these) for row, these in of_row.items()},
    )


def _has(views: Sequence[RoleView]) -> str:
    socket, torch = any(view.socket_numbers for view in views), any(view.maps_torch for view in views)
    return {(True, False): SOCKET, (False, True): TORCH, (True, True): BOTH}.get((socket, torch), NEITHER)


def _in_words(views: Sequence[RoleView]) -> str:
    numbers = sorted({number for view in views for number in view.socket_numbers})
    socket = f"descriptor {', '.join(map(str, numbers))}" if numbers else "no such descriptor"
    memory = " and ".join(f"{view.proportional_mb:.0f}" for view in views)
    return f"{socket}; {'libtorch' if any(view.maps_torch for view in views) else 'no libtorch'}; {memory} MB"


def holders_of_the_port(holders: ProcessResult) -> Found:
    found = [event.fields for event in holders.events if "role" in event.fields]
    views = [_view(each) for each in holders.events[-1].fields["views"]]
    sockets, roles = {each["link"] for each in found}, sorted({each["role"] for each in found})
    wanted = ["api-0", "api-1", "api-2", "api-3", "launcher"]
    return Found(
        measured=[len(sockets), len(found)],
        shown=lambda: process_tree(views),
        claims=(
            Claim(
                "The launcher and all four API servers hold a listening socket, and nobody else",
                roles == wanted,
                ", ".join(roles),
            ),
            Claim("All their descriptors lead to one and the same kernel object", len(sockets) == 1, len(sockets)),
        ),
    )


def _view(fields: dict[str, Any]) -> RoleView:
    return RoleView(**fields | {"socket_numbers": tuple(fields["socket_numbers"])})


def letter_of_holders(counted: Sequence[int]) -> str:
    sockets, descriptors = counted
    if sockets == 1:
        return "d" if descriptors == 1 else "b"
    return "c" if sockets == 2 else "a"


# ---- work ------------------------------------------------------------------------------------------------------------


def tokens_in_a_step(steps: ProcessResult) -> Found:
    loads = [event.fields for event in steps.events]
    measured = {each["clients"]: each["tokens"] / max(1, each["after"] - each["before"]) for each in loads}
    rows = tuple(
        (
            str(each["clients"]),
            str(each["tokens"]),
            f"{each['after'] - each['before']:.0f}",
            f"{measured[each['clients']]:.1f}",
        )
        for each in loads
    )
    return Found(
        measured=measured[8],
        shown=Table(("clients", "tokens", "steps", "tokens in one step"), rows),
        claims=(
            Claim("For one client, a step makes one token", measured[1] < 2.5, measured[1]),
            Claim("For eight clients, a step makes several tokens", measured[8] > 4, measured[8]),
        ),
    )


def letter_of_tokens(in_a_step: float) -> str:
    if in_a_step < 2.5:
        return "a"
    return "b" if in_a_step < 5 else "c" if in_a_step < 8.5 else "d"


# ---- without a launcher ----------------------------------------------------------------------------------------------


def left_without_a_launcher(killed: ProcessResult) -> Found:
    told = killed.events[-1].fields
    server, plain = told["server_left"], told["plain_left"]
    rows = (
        ("the server", ", ".join(server) or "nobody"),
        ("the plain program", ", ".join(plain) or "nobody"),
    )
    end = "reached its end" if told["pipe_at_its_end"] else "went on"
    return Found(
        measured={"server": server, "plain": plain},
        shown=Table(("the launcher or parent was killed", "still running"), rows, f"The odd pipe {end}."),
        claims=(
            Claim("When the launcher is killed, all its processes end", server == [], ", ".join(server) or "none left"),
            Claim("A plain child outlives its parent", plain == ["child"], ", ".join(plain) or "none left"),
            Claim("The pipe that only the launcher could write is then at its end", told["pipe_at_its_end"]),
        ),
    )


def letter_of_left(left: Mapping[str, Sequence[str]]) -> str:
    server, plain = left["server"], left["plain"]
    if not server:
        return "c" if plain else "b"
    return "d" if all(role.startswith("engine-") for role in server) else "a"


JUDGES = (
    Judge("00.1", find=answered_at_once, letter=letter_of_answered, reached={"a": 20, "b": 33, "c": 0, "d": 40}),
    Judge(
        "00.2",
        find=answer_on_a_kept_connection,
        letter=letter_of_kept,
        reached={"a": NOBODY, "b": "api-1", "c": "ConnectionResetError"},
    ),
    Judge(
        "00.3",
        find=what_each_has,
        expected={
            "the launcher": SOCKET,
            "an API server": SOCKET,
            "the engine core": TORCH,
            "the resource tracker": NEITHER,
        },
        row_words="Of a listening socket and PyTorch, {row} has {option}",
    ),
    Judge(
        "00.4",
        find=holders_of_the_port,
        letter=letter_of_holders,
        reached={"a": [5, 5], "b": [1, 5], "c": [2, 5], "d": [1, 1]},
    ),
    Judge("00.5", find=tokens_in_a_step, letter=letter_of_tokens, reached={"a": 1.0, "b": 4.0, "c": 7.2, "d": 12.0}),
    Judge(
        "00.6",
        find=left_without_a_launcher,
        letter=letter_of_left,
        reached={
            "a": {"server": ["engine-0", "api-0", "api-1"], "plain": ["child"]},
            "b": {"server": [], "plain": []},
            "c": {"server": [], "plain": ["child"]},
            "d": {"server": ["engine-0"], "plain": ["child"]},
        },
    ),
)

LEDGER = (
    Tested(
        4,
        claims=(
            "The launcher and all four API servers hold a listening socket, and nobody else",
            "All their descriptors lead to one and the same kernel object",
        ),
        finding="so it is: five descriptors in five processes lead to one socket",
        otherwise="not so here: see the processes and the sockets below 00.4",
    ),
    Tested(
        17,
        claims=(
            "All their descriptors lead to one and the same kernel object",
            "While one process stands still, the other answers all",
            "On a connection whose process stands still, nobody answers",
        ),
        finding="so it is: one goes on while the other stands still; they share the socket, but no connection",
        otherwise="not so here: see what became of the connections below 00.1 and 00.2",
    ),
)

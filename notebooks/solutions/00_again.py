"""Predictions of notebook 00, asked again with other numbers."""

from collections.abc import Mapping
from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found
from lab_support.notebook.page.tables import Table

# ---- 00.1: some of the API servers stand still -----------------------------------------------------------------------

CLIENTS = 12
_STANDING = """\
import os, requests, signal
from lab_support.notebook.script import emit
from lab_support.notebook.servers.live_server import live_server

def answered():
    try:
        return server.session.get(f"{{server.url}}/version", timeout=0.5).ok
    except requests.RequestException:
        return False

with live_server(api_server_count={servers}, accept="shared") as server:
    for role in server.api_servers[:{still}]:
        os.kill(server.pids[role], signal.SIGSTOP)
    emit(answered=sum(answered() for _ in range({clients})))
    for role in server.api_servers[:{still}]:
        os.kill(server.pids[role], signal.SIGCONT)
"""


def standing(random: Random) -> dict[str, Any]:
    servers = random.choice((2, 3, 4))
    return {"servers": servers, "still": random.randint(1, servers), "clients": CLIENTS}


def found_answered(result: ProcessResult, given: Mapping[str, Any]) -> Found:
    answered = result.events[-1].fields["answered"]
    row = (str(given["servers"]), str(given["still"]), f"{answered} of {given['clients']}")
    return Found(answered, Table(("API servers", "stand still", "answered within half a second"), (row,)))


def letter_of_answered(answered: int, given: Mapping[str, Any]) -> str:
    if answered == given["clients"]:
        return "a"
    return "c" if answered == 0 else "b"


# ---- 00.5: other clients, other limits ------------------------------------------------------------------------------

_STEPS = """\
from lab_support.notebook.script import emit
from lab_support.notebook.servers.drive import drive
from lab_support.notebook.servers.live_server import live_server
from lab_support.notebook.servers.look import metric

with live_server(max_num_seqs={most}) as server:
    before = metric(server, "lab_engine_steps_total")
    load = drive(server, clients={clients}, requests=6 * {clients}, output_tokens="12-24")
    emit(tokens=load.tokens, steps=metric(server, "lab_engine_steps_total") - before)
"""


def limits(random: Random) -> dict[str, Any]:
    few, many = random.choice((2, 3, 4)), random.choice((8, 10, 12))
    clients, most = random.choice(((few, many), (many, few)))
    return {"clients": clients, "most": most, "options": random.sample([1, few, many], 3)}


def found_tokens(result: ProcessResult, given: Mapping[str, Any]) -> Found:
    told = result.events[-1].fields
    in_a_step = told["tokens"] / max(1, told["steps"])
    row = (str(given["clients"]), str(given["most"]), f"{in_a_step:.1f}")
    return Found(in_a_step, Table(("clients", "sequences in a step, at most", "tokens in one step"), (row,)))


def letter_of_tokens(in_a_step: float, given: Mapping[str, Any]) -> str:
    """The option that is nearest, by ratio."""
    distances = [max(each, in_a_step) / min(each, max(in_a_step, 0.01)) for each in given["options"]]
    return "abc"[distances.index(min(distances))]


AGAIN = (
    Again(
        "00.1",
        draw=standing,
        words=lambda given: (
            f"of {given['clients']} new connections, those answered within half a second while {given['still']} of "
            f"{given['servers']} API servers stand still"
        ),
        options=lambda given: {"a": "all of them", "b": "some of them", "c": "none of them"},
        program=lambda given: _STANDING.format(**given),
        find=found_answered,
        letter=letter_of_answered,
        timeout=100,
    ),
    Again(
        "00.5",
        draw=limits,
        words=lambda given: (
            f"tokens in one step, while {given['clients']} clients ask a server that takes at most {given['most']} "
            "sequences into a step (max_num_seqs)"
        ),
        options=lambda given: {letter: f"about {each}" for letter, each in zip("abc", given["options"], strict=True)},
        program=lambda given: _STEPS.format(**given),
        find=found_tokens,
        letter=letter_of_tokens,
        timeout=100,
    ),
)

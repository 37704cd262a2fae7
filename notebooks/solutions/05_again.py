"""Predictions of notebook 05, asked again with other numbers."""

from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found, Given
from lab_support.notebook.page.tables import Table

# ---- 05.3: a forked child and the pretend driver ---------------------------------------------------------------------

ENDS = {"a": "it works", "b": "an error", "c": "it never comes back", "d": "the child crashes"}
HOOKS = {
    "": "no hook",
    "refuse": "a hook in each child calls driver.refuse",
    "forget": "a hook in each child calls driver.forget",
}


def draw_child(random: Random) -> Given:
    peeks = random.random() < 0.5
    return {
        "used": peeks or random.random() < 0.7,
        "call": "driver.peek(handle)" if peeks else "driver.load(driver.store(8))",
        "hook": random.choice(tuple(HOOKS)),
    }


def words_of_child(given: Given) -> str:
    first = "the parent has used the driver" if given["used"] else "the parent has not used the driver yet"
    return f"{first}; {HOOKS[given['hook']]}; a forked child calls {given['call']}"


def program_of_child(given: Given) -> str:
    hook = f"os.register_at_fork(after_in_child=driver.{given['hook']})" if given["hook"] else ""
    return f"""\
import os
from lab_support.notebook.stages.pretend_driver import driver
from lab_support.notebook.script import emit, in_child

handle = {"driver.store(7)" if given["used"] else "0"}
{hook}
emit(said=in_child(lambda: {given["call"]}, 2))
"""


def end_of_child(result: ProcessResult, given: Given) -> Found:
    said = result.events[-1].fields["said"]
    return Found(measured=said, shown=Table(("the child calls", "it gets"), ((given["call"], str(said)),)))


def letter_of_child(said: object, given: Given) -> str:
    words = str(said)
    return "c" if words == "stuck" else "d" if words.startswith("ended by") else "b" if "Error" in words else "a"


# ---- 05.6: whose memory it is, with three children -------------------------------------------------------------------

HELD = {
    "sleeps": "keeps its descriptor",
    "closes": "closes its descriptor",
    "maps": "maps the memory, and closes its descriptor",
}
FREE = {
    "a": "when the owner is killed",
    "b": "when child 1 has ended",
    "c": "when child 2 has ended",
    "d": "when child 3 has ended",
}


def draw_children(random: Random) -> Given:
    return {"children": [random.choice(tuple(HELD)) for _ in range(3)]}


def words_of_children(given: Given) -> str:
    told = "; ".join(f"child {number} {HELD[each]}" for number, each in enumerate(given["children"], 1))
    return f"the owner of 256 MiB forks three children and is killed, then they end in order. When is it free? {told}"


def program_of_children(given: Given) -> str:
    return f"""\
import os
from lab_support.notebook.script import emit
from lab_support.notebook.stages.shared_memory import killed_owner, map_alone

def sleeps(memory):
    pass

def closes(memory):
    os.close(memory)

def maps(memory):
    map_alone(memory)

emit(killed_owner({", ".join(given["children"])}))
"""


def freed_by(result: ProcessResult, given: Given) -> Found:
    told = result.told
    used = [(step["what"], step["seen"][-1][1] - told["before"]) for step in told["steps"]]
    table = Table(("step", "MB in use"), tuple((what, str(round(more / 1e6))) for what, more in used))
    free = [place for place, (_, more) in enumerate(used) if more < 128 << 20]
    return Found(measured=free[0] if free else None, shown=table)


def letter_of_children(free: Any, given: Given) -> str:
    return "abcd"[free - 1] if free else ""


AGAIN = (
    Again(
        "05.3", draw_child, words_of_child, lambda given: ENDS, program_of_child, end_of_child, letter_of_child, 20
    ),
    Again(
        "05.6", draw_children, words_of_children, lambda given: FREE, program_of_children, freed_by,
        letter_of_children, 30,
    ),
)  # fmt: skip

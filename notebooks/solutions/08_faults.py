"""08.1, must: four misconfigured servers, told apart by what can be measured of them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

EXHIBIT = Path(__file__).parents[2] / "data" / "exhibits" / "misconfigured_servers.json"

FAULT = '''\
def fault(seen):
    """The fault of a loaded server: "api", "rows", "cache", "static" or "none".

    seen["tokens_per_second"], seen["pace"]: what it gives, and what its GPU could give with a row for each client
    seen["busy"]: for "api-0" and "engine-0", the share of the time for which its busiest thread was on a core
    seen["running"], seen["waiting"]: lists, the sequences in the batch and before it, at several moments
    seen["cache_usage"]: a list, the share of the KV cache's blocks in use at these moments, from 0 to 1
    seen["preemptions"]: sequences that lost their place in the batch, in a second
    """
    return "none"


[fault(event.fields["seen"]) for event in servers.events]  # of your servers A to D
'''
_SKETCH = '    return "none"\n\n\n[fault(event.fields["seen"]) for event in servers.events]  # of your servers A to D\n'


def _rule(text: str) -> str:
    return changed(FAULT, _SKETCH, text)


_API = """\
    if seen["busy"]["api-0"] > 0.5:
        return "api"
"""
_NONE = """\
    if max(seen["waiting"]) == 0:
        return "none"
"""
_CACHE = """\
    if max(seen["cache_usage"]) > 0.7:
        return "cache"
"""
_BATCH = """\
    mean = sum(seen["running"]) / len(seen["running"])
    return "static" if mean < 0.75 * max(seen["running"]) else "rows"
"""

FAULT_BY_ROOM = _rule(
    """\
    if seen["tokens_per_second"] > 0.7 * seen["pace"]:
        return "none"
    if not any(seen["waiting"]):
        return "api"
    if max(seen["cache_usage"]) > 0.7:
        return "cache"
    full = [now for now in seen["running"] if now > 0.8 * max(seen["running"])]
    return "rows" if len(full) > len(seen["running"]) / 2 else "static"
"""
)
FAULT_BY_STEPS = _rule(_API + _NONE + _CACHE + _BATCH)
FAULT_BY_SIGNS = "from statistics import median\n\n\n" + _rule(
    """\
    signs = {
        "api": max(seen["busy"].values()) > 0.6,
        "none": sum(seen["waiting"]) == 0,
        "cache": max(seen["cache_usage"]) > 0.6,
        "static": median(seen["running"]) < 0.7 * max(seen["running"]),
        "rows": True,
    }
    return next(name for name, found in signs.items() if found)
"""
)

BLOCKS = (
    "at some moment nearly all blocks of the KV cache are in use: whoever gets none has to wait, and no running "
    "sequence need lose its place for that"
)
SHRINKS = (
    "the batch is far from full most of the time while others wait, so there is room that nobody may take: that is "
    "static batching"
)
FULL = (
    "at most moments the batch is as full as it ever gets: a place that has just become free is taken at the next "
    "step, so it is not static"
)
ROOM = "there are free blocks enough, so the KV cache is not what sequences wait for"
BUSY = (
    "nobody waits for a place in the batch, and yet it gives far less than its GPU can: the requests are held up "
    "before the engine core, in the API server"
)
NOT_BUSY = "the API server has time left, so it is not the limit: a low rate alone does not say who limits it"
HEALTHY = "a server in which nobody waits, and nobody works all the time, has no fault"
UNKNOWN = 'it is to return "api", "rows", "cache", "static" or "none"'
MISSED = "a server with a fault was called healthy: compare what it gives with what its GPU could give"


def _cause(true: str, named: str) -> str:
    findings = (
        (true == "none", HEALTHY),
        (true == "api", BUSY),
        (named == "api", NOT_BUSY),
        (named == "none", MISSED),
        (true == "cache", BLOCKS),
        (named == "cache", ROOM),
        (true == "static", SHRINKS),
    )
    return next((cause for found, cause in findings if found), FULL)


_BY_RATE = """\
    if seen["tokens_per_second"] < 0.55 * seen["pace"]:
        return "api"
"""
FAULT_WRONG = (
    Wrong(BLOCKS, _rule(_API + _NONE + '    if seen["preemptions"] > 0:\n        return "cache"\n' + _BATCH)),
    Wrong(SHRINKS, _rule(_API + _NONE + _CACHE + '    return "rows"\n')),
    Wrong(
        FULL,
        _rule(
            _API + _NONE + _CACHE + '    return "static" if min(seen["running"]) < max(seen["running"]) else "rows"\n'
        ),
    ),
    Wrong(NOT_BUSY, _rule(_BY_RATE + _NONE + _CACHE + _BATCH)),
    Wrong(HEALTHY, _rule(_API + _CACHE + _BATCH)),
    Wrong(BUSY, _rule(_API.replace("api-0", "engine-0") + _NONE + _CACHE + _BATCH)),
    Wrong(UNKNOWN, _rule("    return None\n")),
)

ASK = """
import json
from pathlib import Path
import answer
from lab_support.notebook.script import emit, inputs

emit(measured={"named": [answer.fault(seen) for seen in inputs()["servers"]]})
"""


def judge_fault(attempt: Attempt) -> Verdict:
    servers = json.loads(EXHIBIT.read_text())["servers"]
    asked = [{name: figure for name, figure in server.items() if name != "fault"} for server in servers]
    named = attempt.measure(ASK, inputs={"servers": asked})["named"]
    return verdict_on([server["fault"] for server in servers], named)


def verdict_on(faults: list[str], named: list[Any]) -> Verdict:
    """Of the wrong ones, the most frequent mistake is told."""
    wrong = Counter((true, str(name)) for true, name in zip(faults, named, strict=True) if true != name)
    measured = f"{len(faults) - wrong.total()} of {len(faults)} servers are named rightly"
    if not wrong:
        return passed(measured)
    strangers = [name for _, name in wrong if name not in faults]
    (true, name), count = wrong.most_common(1)[0]
    told = f'{measured}; {count} with the fault "{true}" {"was" if count == 1 else "were"} called "{name}"'
    return failed(told, "each fault by its name", UNKNOWN if strangers else _cause(true, name))


EXERCISES = (
    Exercise(
        name="08.1",
        kind="must",
        task="write a rule that names the fault of a server from figures alone",
        skeleton=FAULT,
        reference=FAULT_BY_ROOM,
        also_right=(FAULT_BY_STEPS, FAULT_BY_SIGNS),
        wrong=FAULT_WRONG,
        hints=(
            "Does it give what its GPU can? If not, where are the requests: do they wait for a place in the batch, or "
            "does nobody?",
            "If nobody waits before the engine core, they are held up in the API server. If they wait although there "
            "are free blocks, look at the batch: is it full at most moments?",
            "In this order: `none` if it gives over 0.7 of the pace, `api` if nobody ever waits, `cache` if over 0.7 "
            "of the blocks are ever in use, `rows` if the batch is near its most at most moments, else `static`.",
        ),
        judge=judge_fault,
    ),
)

"""A trace in Chrome's trace event format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (Trace Event Format). Times are
microseconds since the start of the server. Each process has three rows: its start, its event loop or its steps, and its
requests, which overlap and are therefore asynchronous events (b, e). Arrows (s, f) lead from an API server to the step
that computes a prompt, and back.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from lab_support.instruments.trace.read import ProcessTrace, Run
from lab_support.instruments.trace.requests import Request, Share, stages
from lab_support.instruments.trace.requests import Sequence as TracedSequence

START, LOOP = 1, 2
_ROWS = {START: "start", LOOP: "event loop"}

Entry = dict[str, Any]


def chrome_json(run: Run, requests: Sequence[Request]) -> str:
    """The whole run with these requests, as JSON."""
    events = [event for process in run.processes for event in _of_process(run, process)]
    steps: dict[int, tuple[ProcessTrace, Share]] = {}
    for number, request in enumerate(requests):
        events += _of_request(run, request, number)
        for sequence in request.sequences:
            for share in sequence.steps:
                if sequence.engine:
                    steps[id(share.step)] = (sequence.engine, share)
    for process, share in steps.values():
        events += _of_step(run, process, share)
    document = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"run": run.id, "notes": run.notes}}
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def _us(run: Run, at: float) -> float:
    return round((at - run.begun_at) * 1e6, 3)


def _slice(
    run: Run, process: ProcessTrace, row: int, name: str, begun_at: float, ended_at: float, **args: Any
) -> Entry:
    """A complete event (X)."""
    ts = _us(run, begun_at)
    duration = round(max(0.0, _us(run, ended_at) - ts), 3)
    return {
        "ph": "X",
        "name": name,
        "cat": "server",
        "pid": process.pid,
        "tid": row,
        "ts": ts,
        "dur": duration,
        "args": args,
    }


# ---- processes -------------------------------------------------------------------------------------------------------


def _of_process(run: Run, process: ProcessTrace) -> Iterator[Entry]:
    yield _named("process_name", process.pid, 0, name=process.role)
    yield _named("process_sort_index", process.pid, 0, sort_index=run.processes.index(process))
    for row, name in _ROWS.items():
        yield _named("thread_name", process.pid, row, name="steps" if row == LOOP and process.slot < 0 else name)
    for milestone in process.milestones:
        name = f"{milestone.stage} {milestone.about}".strip()
        yield {
            **{"ph": "i", "s": "p", "name": name, "cat": "start", "pid": process.pid, "tid": START},
            **{"ts": _us(run, milestone.at), "args": {"detail": milestone.detail}},
        }
    for before, after in pairwise(_start_of(process)):
        yield _slice(run, process, START, f"until {after.stage} {after.about}".strip(), before.at, after.at)


def _start_of(process: ProcessTrace) -> list[Any]:
    """Its milestones up to READY."""
    found = sorted(process.milestones, key=lambda each: each.at)
    last = next((index for index, each in enumerate(found) if each.stage.lower() == "ready"), len(found) - 1)
    return found[: last + 1]


def _named(kind: str, pid: int, row: int, **args: Any) -> Entry:
    return {"ph": "M", "name": kind, "pid": pid, "tid": row, "ts": 0, "args": args}


# ---- requests --------------------------------------------------------------------------------------------------------


def _of_request(run: Run, request: Request, number: int) -> Iterator[Entry]:
    made = stages(request)
    if not made:
        return
    args = {"end": request.end, "path": request.received.path, "tokens": request.tokens}
    if request.received.trace_id:
        args |= {"trace_id": request.received.trace_id, "parent_id": request.received.parent_id}
    yield from _asynchronous(run, request.api, number, request.id, made[0].begun_at, made[-1].ended_at, args)
    for stage in made:
        yield from _asynchronous(
            run, request.api, number, stage.name, stage.begun_at, stage.ended_at, {"in": stage.role}
        )
    for index, sequence in enumerate(request.sequences):
        yield from _of_sequence(run, request, sequence, f"{number}.{index}")


def _asynchronous(
    run: Run, process: ProcessTrace, number: int, name: str, begun_at: float, ended_at: float, args: Entry
) -> Iterator[Entry]:
    own = {"cat": "request", "id2": {"local": f"0x{number:x}"}, "name": name, "pid": process.pid, "tid": LOOP}
    yield {"ph": "b", **own, "ts": _us(run, begun_at), "args": args}
    yield {"ph": "e", **own, "ts": _us(run, ended_at), "args": {}}


def _of_sequence(run: Run, request: Request, sequence: TracedSequence, number: str) -> Iterator[Entry]:
    api = request.api
    if request.tokenised:
        yield _slice(run, api, LOOP, "engine core chosen", request.tokenised.at, sequence.sent.at, request=request.id)
    for each in sequence.streamed:
        yield _slice(run, api, LOOP, "token", each.at, each.written_at, request=request.id)
        yield _slice(run, api, LOOP, "to text", each.at, each.decoded_at)
        yield _slice(run, api, LOOP, "written", each.decoded_at, each.written_at)
    if sequence.engine and sequence.steps:
        begun_at = sequence.steps[0].step.at
        yield from _arrow(run, f"{number}>", (api, sequence.sent.at), (sequence.engine, begun_at))
    if sequence.engine and sequence.streamed and sequence.first_ran_at:
        first = sequence.streamed[0]
        yield from _arrow(run, f"{number}<", (sequence.engine, sequence.first_ran_at), (api, first.at))


def _arrow(
    run: Run, number: str, begin: tuple[ProcessTrace, float], end: tuple[ProcessTrace, float]
) -> Iterator[Entry]:
    own = {"cat": "crossing", "name": "crossing", "id": number, "tid": LOOP, "args": {}}
    yield {"ph": "s", **own, "pid": begin[0].pid, "ts": _us(run, begin[1])}
    yield {"ph": "f", "bp": "e", **own, "pid": end[0].pid, "ts": _us(run, end[1])}


def _of_step(run: Run, engine: ProcessTrace, share: Share) -> Iterator[Entry]:
    step = share.step
    decodes, prefills = len(step.decodes) // 2, len(step.prefills) // 3
    args = {"decodes": decodes, "prefills": prefills, "prompt_tokens": sum(step.prefills[2::3])}
    yield _slice(run, engine, LOOP, f"step of {decodes + prefills}", step.at, step.ended_at, **args)
    yield _slice(run, engine, LOOP, "schedule", step.at, step.scheduled_at)
    yield _slice(run, engine, LOOP, "run", step.scheduled_at, step.ran_at)
    yield _slice(run, engine, LOOP, "update and hand over", step.ran_at, step.ended_at)

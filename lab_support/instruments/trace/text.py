"""A trace as text: the start of the server, all requests in a table, and one request event by event. Times in ms."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from lab_support.instruments.foreign_text import visible
from lab_support.instruments.trace.read import Run
from lab_support.instruments.trace.requests import Request, Stage, stages
from lab_support.instruments.trace.requests import Sequence as TracedSequence
from lab_support.plural import counted

MOST_REQUESTS = 40  # of the table, unless all are asked for
FEW = 8  # token rows of one request, unless all are asked for
LONGEST = 36  # characters of a request's id in the table

Row = tuple[float, str, str]
"""(time, process, what happened)"""


def overview(run: Run, requests: Sequence[Request], everything: bool = False) -> str:
    """The start and the table of requests."""
    return "\n".join([*start_lines(run), "", *table_lines(run, requests, everything)]) + "\n"


# ---- the start -------------------------------------------------------------------------------------------------------


def start_lines(run: Run) -> list[str]:
    rows = [
        (
            milestone.at,
            process.role,
            " ".join(filter(None, (milestone.stage, milestone.about, _in_brackets(milestone.detail)))),
        )
        for process in run.processes
        for milestone in process.milestones
    ]
    pids = ", ".join(f"{process.role} {process.pid}" for process in run.processes)
    return [f"run {run.id}: {pids}", *_rows(sorted(rows), run.begun_at)]


def _in_brackets(detail: str) -> str:
    return f"({detail})" if detail else ""


def _rows(rows: Sequence[Row], zero: float) -> list[str]:
    width = max((len(role) for _, role, _ in rows), default=0)
    return [f"{_ms(at - zero):>12}  {role:{width}}  {visible(what)}" for at, role, what in rows]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3f}"


# ---- all requests ----------------------------------------------------------------------------------------------------

_HEAD = (
    "request",
    "from",
    "to",
    "at",
    "before the engine",
    "waited",
    "first token",
    "decode",
    "total",
    "tokens",
    "end",
)


def table_lines(run: Run, requests: Sequence[Request], everything: bool) -> list[str]:
    """One line for each request; without `everything`, only for the last ones."""
    if not requests:
        return ["no request for text"]
    shown = requests if everything else requests[-MOST_REQUESTS:]
    lines = [f"{counted(len(requests), 'request')}, times in ms, `at` since the start of the server"]
    if len(shown) < len(requests):
        lines.append(f"the last {len(shown)}; --all shows all")
    return lines + _table([_HEAD, *(_cells(run, request) for request in shown)])


def _cells(run: Run, request: Request) -> tuple[str, ...]:
    engines = sorted({str(sequence.sent.engine) for sequence in request.sequences})
    name = visible(request.id)
    return (
        name if len(name) <= LONGEST else name[: LONGEST - 1] + "…",
        request.api.role,
        f"engine-{','.join(engines)}" if engines else "–",
        f"{(request.begun_at - run.begun_at) * 1000:.0f}",
        *map(_cell, _parts(request)),
        str(request.tokens),
        visible(request.end),
    )


def _parts(request: Request) -> Iterator[float | None]:
    """Seconds until it was sent, and in the queues; to the first token; of the decode; in all."""
    sequence, begun = request.last, request.begun_at
    yield sequence.sent.at - begun if sequence else None
    yield sequence.steps[0].step.at - sequence.sent.at if sequence and sequence.steps else None
    written = [each.written_at for each in sequence.streamed] if sequence else []
    yield written[0] - begun if written else None
    yield written[-1] - written[0] if written else None
    yield request.seconds


def _cell(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.1f}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = {0, 1, 2, len(widths) - 1}
    return [
        "  ".join(
            f"{cell:{width}}" if index in left else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


# ---- one request -----------------------------------------------------------------------------------------------------


def request_text(request: Request, everything: bool = False) -> str:
    """Its events in order, and the stages that its time consists of."""
    return "\n".join([*_head(request), *_event_lines(request, everything), "", *stage_lines(request)]) + "\n"


def _head(request: Request) -> list[str]:
    lines = [visible(f"request {request.id}: {request.received.path}, {request.end}")]
    if request.received.trace_id:
        lines.append(f"its client's trace: {request.received.trace_id}, parent {request.received.parent_id}")
    return [*lines, "times in ms since its head was complete"]


def _event_lines(request: Request, everything: bool) -> list[str]:
    rows = sorted(_events(request), key=lambda row: row[0])
    if everything or len(request.sequences) != 1 or len(request.sequences[0].streamed) <= FEW:
        return _rows(rows, request.begun_at)
    first, last = request.sequences[0].streamed[1], request.sequences[0].streamed[-2]
    before = [row for row in rows if row[0] < first.written_at]
    after = [row for row in rows if row[0] > last.at]
    left_out = f"… {len(rows) - len(before) - len(after)} more events of {request.tokens} tokens; --all shows them"
    return [*_rows(before, request.begun_at), f"{'':12}  {left_out}", *_rows(after, request.begun_at)]


def _events(request: Request) -> Iterator[Row]:
    api, received = request.api.role, request.received
    if received.accepted_at:
        yield received.accepted_at, api, "connection accepted"
    yield received.at, api, "head complete"
    if request.parsed:
        yield request.parsed.at, api, "body read and checked"
    if request.tokenised:
        yield request.tokenised.at, api, f"prompt tokenised: {counted(request.tokenised.prompt_tokens, 'token')}"
    for number, sequence in enumerate(request.sequences):
        mark = f"sequence {number}: " if len(request.sequences) > 1 else ""
        yield from ((at, role, mark + what) for at, role, what in _events_of_sequence(sequence, api))
    if request.closed:
        yield request.closed.at, api, f"answer ended: {request.end}"


def _events_of_sequence(sequence: TracedSequence, api: str) -> Iterator[Row]:
    engine = f"engine-{sequence.sent.engine}"
    yield sequence.sent.at, api, f"sent to {engine}"
    for at, what in (
        (sequence.arrived_at, "arrived"),
        (sequence.queued_at, "with the scheduler"),
        (sequence.abandoned_at, "aborted"),
    ):
        if at is not None:
            yield at, engine, what
    yield from _steps(sequence, engine)
    yield from _tokens(sequence, api)
    if sequence.finished:
        yield sequence.finished.at, api, f"sequence ended: {sequence.finished.reason}"


def _steps(sequence: TracedSequence, engine: str) -> Iterator[Row]:
    for share in sequence.steps:
        step = share.step
        own = f"{counted(share.tokens, 'token')} of its prompt" if share.tokens else "decode"
        others = len(step.decodes) // 2 + len(step.prefills) // 3
        yield step.at, engine, f"step: {own}, {counted(others, 'sequence')} in it, ran {_ms(step.ran_at - step.at)}"


def _tokens(sequence: TracedSequence, api: str) -> Iterator[Row]:
    for each in sequence.streamed:
        took = f"text {_ms(each.decoded_at - each.at)}, written {_ms(each.written_at - each.decoded_at)}"
        yield each.at, api, f"{counted(each.tokens, 'token')} received: {took}"


def stage_lines(request: Request) -> list[str]:
    """The stages with their shares; their sum is the time from the head to the end."""
    made = stages(request)
    total = sum(stage.seconds for stage in made)
    rows = [_stage_cells(stage, total) for stage in made]
    gaps = _gaps(request)
    between = f"; from token to token {median(gaps) * 1000:.3f} (median)" if gaps else ""
    return [f"stages, together {_ms(total)} ms{between}", *_table([("stage", "in", "", "ms", "share"), *rows])]


def _stage_cells(stage: Stage, total: float) -> tuple[str, ...]:
    share = f"{stage.seconds / total:.1%}" if total else "–"
    return stage.name, stage.role, "", _ms(stage.seconds), share


def _gaps(request: Request) -> list[float]:
    """Seconds between the writings of consecutive tokens."""
    written = [each.written_at for each in request.last.streamed] if request.last else []
    return [later - earlier for earlier, later in pairwise(written)]

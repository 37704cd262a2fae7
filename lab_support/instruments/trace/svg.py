"""A picture with one lane for each process, and time from left to right: the start of a server, or one request."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from math import floor, log10

from lab_support.instruments.foreign_text import visible
from lab_support.instruments.trace.read import ProcessTrace, Run
from lab_support.instruments.trace.requests import Request, stages
from lab_support.tracing.events import Milestone

WIDTH, LABEL, MARGIN, LANE, BAR, LETTER = 1100, 96, 16, 62, 22, 6.3
# Okabe and Ito's colours, which the colour-blind can tell apart, light enough for black text.
COLOURS = ("#9ad0f5", "#f7c873", "#8fd6bd", "#f4a582", "#d9b8d8", "#f3ec9b", "#b5c7d8")
WAITING = "#e4e4e4"


@dataclass(frozen=True, slots=True)
class Bar:
    """A process's work between two times. waiting: drawn in grey."""

    name: str
    begun_at: float
    ended_at: float
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """A process, with its bars, and marks: short lines at times, each with its name (or "")."""

    name: str
    bars: list[Bar]
    marks: list[tuple[float, str]] = field(default_factory=list)


# ---- the start -------------------------------------------------------------------------------------------------------


def start_svg(run: Run) -> str:
    """The start of a server, up to its first token, or until it is ready."""
    end = _end_of_start(run)
    started = [process for process in run.processes if process.begun_at < end]
    lanes = [_port_lane(run, end), *(_start_lane(run, process, end) for process in started)]
    return _drawn(f"The start of run {run.id}", [lane for lane in lanes if lane.bars], run.begun_at)


def _end_of_start(run: Run) -> float:
    """A little after the first token; without one, after the last process is ready."""
    found = [(each.stage, each.at) for each in _milestones(run)]
    for stage in ("first token", "ready", "READY"):
        times = [at for name, at in found if name == stage]
        if times:
            return min(times) if stage != "READY" else max(times)
    return max((at for _, at in found), default=run.begun_at)


def _port_lane(run: Run, end: float) -> Lane:
    """The listening socket, with the first client in its accept queue."""
    found = _milestones(run)
    opened = next((each for each in found if each.stage == "port open"), None)
    accepted = next((each for each in found if each.stage == "first connection accepted"), None)
    if opened is None:
        return Lane("port", [])
    if accepted is None or accepted.at > end:
        return Lane("port", [Bar("open: clients wait in the accept queue", opened.at, end)])
    waited = accepted.at - _seconds_waited(accepted.detail)
    bars = [Bar("open, nobody there", opened.at, max(opened.at, waited), waiting=True)]
    bars.append(Bar("first client in the accept queue", max(opened.at, waited), accepted.at))
    return Lane("port", bars, [(accepted.at, "accepted")])


def _seconds_waited(detail: str) -> float:
    number = detail.split(" ", 1)[0]
    return int(number) / 1000 if number.isdecimal() else 0.0


def _start_lane(run: Run, process: ProcessTrace, end: float) -> Lane:
    found = sorted((each for each in process.milestones if each.at <= end), key=lambda each: each.at)
    bars = [
        Bar(f"→ {visible(after.stage)} {visible(after.about)}".strip(), before.at, after.at)
        for before, after in pairwise(found)
    ]
    begun = [each.at for each in _milestones(run) if each.about == process.role and each.stage.endswith("begin")]
    before = [at for at in begun if at <= process.begun_at]
    if before:
        bars.insert(0, Bar("process and interpreter start", max(before), process.begun_at, waiting=True))
    return Lane(process.role, bars, [(each.at, "") for each in found])


def _milestones(run: Run) -> list[Milestone]:
    """Of all processes, in order."""
    return sorted((each for process in run.processes for each in process.milestones), key=lambda each: each.at)


# ---- one request -----------------------------------------------------------------------------------------------------


def request_svg(request: Request) -> str:
    """The stages of a request in the processes that it passes; each token is a mark."""
    engines = sorted({f"engine-{sequence.sent.engine}" for sequence in request.sequences})
    lanes = {name: Lane(name, []) for name in (request.api.role, *engines)}
    for stage in stages(request):
        role = stage.role.split(" → ")[-1].split(", ")[0]
        waiting = "waited" in stage.name or "sent" in stage.name
        lanes[role].bars.append(Bar(stage.name, stage.begun_at, stage.ended_at, waiting))
    for sequence in request.sequences:
        lanes[request.api.role].marks.extend((each.written_at, "") for each in sequence.streamed)
        lanes[f"engine-{sequence.sent.engine}"].marks.extend((share.step.ran_at, "") for share in sequence.steps)
    title = visible(f"Request {request.id}: {request.end}")
    return _drawn(title, list(lanes.values()), request.begun_at)


# ---- drawing ---------------------------------------------------------------------------------------------------------


def _drawn(title: str, lanes: Sequence[Lane], zero: float) -> str:
    end = max((each.ended_at for lane in lanes for each in lane.bars), default=zero)
    scale = (WIDTH - LABEL - 2 * MARGIN) / max(end - zero, 1e-6)
    height = 56 + LANE * len(lanes) + 30
    words = " ".join(_in_words(lane, zero) for lane in lanes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'role="img" aria-labelledby="trace-title trace-words" style="max-width:100%;height:auto" '
        'font-family="DejaVu Sans, Verdana, Arial, sans-serif">',
        f'<title id="trace-title">{escape(title)}</title>',
        f'<desc id="trace-words">{escape(words)}</desc>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(MARGIN, 26, title, 15, bold=True),
        *_axis(end - zero, scale, height),
        *(part for index, lane in enumerate(lanes) for part in _lane(lane, 44 + LANE * index, zero, scale)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _in_words(lane: Lane, zero: float) -> str:
    told = [f"{bar.name} from {_time(bar.begun_at - zero)} to {_time(bar.ended_at - zero)}" for bar in lane.bars]
    return f"{lane.name}: {'; '.join(told)}."


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _axis(seconds: float, scale: float, height: float) -> Iterator[str]:
    """A line at each round time, at most ten."""
    least = max(seconds, 1e-6) / 10
    power = 10.0 ** floor(log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
    for count in range(int(seconds / step) + 1):
        x = MARGIN + LABEL + count * step * scale
        yield f'<line x1="{x:.1f}" y1="38" x2="{x:.1f}" y2="{height - 24}" stroke="#cccccc"/>'
        yield _text(x + 3, height - 10, _time(count * step) if count else "0", 11)


def _lane(lane: Lane, top: float, zero: float, scale: float) -> Iterator[str]:
    yield _text(MARGIN, top + 16, lane.name, 13, bold=True)
    free = {0: 0.0, 1: 0.0}  # the x from which each of two lines of names is free
    for index, bar in enumerate(lane.bars):
        x = MARGIN + LABEL + (bar.begun_at - zero) * scale
        width = max((bar.ended_at - bar.begun_at) * scale, 0.5)
        colour = WAITING if bar.waiting else COLOURS[index % len(COLOURS)]
        told = escape(f"{bar.name}: {_time(bar.ended_at - bar.begun_at)}")
        yield (
            f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}" stroke="#555555" '
            f'stroke-width="0.5"><title>{told}</title></rect>'
        )
        yield from _name(bar, x, width, top, free)
    for at, name in lane.marks:
        x = MARGIN + LABEL + (at - zero) * scale
        yield f'<line x1="{x:.1f}" y1="{top + BAR}" x2="{x:.1f}" y2="{top + BAR + 5}" stroke="#0072b2"/>'
        if name:
            yield _text(x + 3, top + BAR + 14, name, 10)


def _name(bar: Bar, x: float, width: float, top: float, free: dict[int, float]) -> Iterator[str]:
    """Its name in the bar, or on one of two lines below it; none if there is no room (it has a tooltip)."""
    needed = len(bar.name) * LETTER
    if needed <= width:
        yield _text(x + 3, top + 15, bar.name, 11)
        return
    line = next((line for line in free if free[line] <= x and x + needed <= WIDTH), None)
    if line is not None and width >= 2:
        free[line] = x + needed
        yield _text(x, top + BAR + 15 + 12 * line, bar.name, 10)


def _text(x: float, y: float, text: str, size: int, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="#1b1b1b"{weight}>{escape(text)}</text>'

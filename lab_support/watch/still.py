"""The figures of one look as an SVG picture, for places without a page: a notebook's cell.

Written by hand, in the colours and sizes of the X-ray that stands below it. Pure functions; no library.
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape

from lab_support.instruments.xray.svg import GREY, INK, PAGE_WIDTH, PALE
from lab_support.plural import counted
from lab_support.watch.engine_figures import Engine, EngineFigures
from lab_support.watch.events import Event
from lab_support.watch.looks import Look
from lab_support.watch.members import Member

STATES = {"R": "running", "S": "sleeping", "D": "in the kernel", "T": "stopped", "t": "traced", "Z": "ended"}
_ALARM, _BAR = "#a13b00", "#a9cdf0"
_MARGIN, _LINE, _MOST_EVENTS, _MOST_ROWS = 14, 21, 6, 24
_BAR_LEFT, _BAR_WIDTH = 330, 84
_HEADS = (
    *((_MARGIN, "process", ""), (215, "pid", "end"), (232, "state", ""), (_BAR_LEFT + _BAR_WIDTH, "CPU, %", "end")),
    *((486, "MB", "end"), (590, "switches/s", "end"), (690, "descriptors", "end")),
    (PAGE_WIDTH - 28, "connections", "end"),
)  # fmt: skip


def finding(look: Look, name: str) -> str:
    """The figures in a sentence."""
    if not look.running:
        return f"{name} has ended"
    clients = sum(map(len, look.clients.values()))
    parts = [counted(len(look.running), "process"), counted(clients, "open connection")]
    if look.queues:
        waiting = sum(queue.waiting for queue in look.queues)
        parts.append(f"{waiting} in the accept queue")
    return f"{name}: {', '.join(parts)}"


def still(
    look: Look,
    engines: EngineFigures,
    events: Sequence[tuple[str, Event]],
    name: str,
    label: Callable[[int], str] = str,
) -> str:
    """The picture. events: the last ones, each with its time in words. label: stands for a pid."""
    members = look.members[:_MOST_ROWS]
    lines = [*_engine_lines(engines), *_event_lines(events[-_MOST_EVENTS:])]
    top = 62
    height = top + _LINE * (len(members) + len(lines)) + 16
    words = finding(look, name)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{PAGE_WIDTH}" height="{height}" '
        f'viewBox="0 0 {PAGE_WIDTH} {height}" role="img" aria-label="{escape(words)}" '
        'style="max-width:100%;height:auto" font-family="DejaVu Sans, Verdana, Arial, sans-serif">',
        f'<rect width="{PAGE_WIDTH}" height="{height}" fill="white"/>',
        _text(_MARGIN, 25, words, 15, INK, weight="bold"),
        *(_text(x, 50, head, 11, GREY, anchor) for x, head, anchor in _HEADS),
        f'<line x1="{_MARGIN}" y1="56" x2="{PAGE_WIDTH - _MARGIN}" y2="56" stroke="{PALE}"/>',
    ]
    depths = look.depths()
    for index, member in enumerate(members):
        parts += _row(look, member, depths[member.pid], top + _LINE * index + 13, label)
    for index, (line, colour) in enumerate(lines):
        parts.append(_text(_MARGIN, top + _LINE * (len(members) + index) + 19, line, 12, colour))
    return "\n".join([*parts, "</svg>"])


def _row(look: Look, member: Member, depth: int, y: float, label: Callable[[int], str]) -> Iterator[str]:
    rates = look.rates.get(member.pid)
    state = STATES.get(member.stat.state, member.stat.state) + (", orphan" if look.orphan(member) else "")
    colour = _ALARM if member.stat.state in "TtZ" or look.orphan(member) else INK
    name = member.name if len(member.name) < 22 else member.name[:21] + "…"
    yield _text(_MARGIN + 12 * depth, y, name, 12, INK, weight="bold")
    yield _text(215, y, label(member.pid), 12, INK, "end")
    yield _text(232, y, state, 12, colour)
    if rates is not None:
        width = _BAR_WIDTH * min(1.0, max(0.0, rates.cpu))
        yield f'<rect x="{_BAR_LEFT}" y="{y - 12}" width="{width:.1f}" height="15" rx="2" fill="{_BAR}"/>'
    held, clients = member.held.count, len(look.clients.get(member.pid, ()))
    figures = [
        f"{100 * max(0.0, rates.cpu):.0f}" if rates else "–",
        f"{member.stat.resident / 1e6:.0f}",
        f"{rates.voluntary:,.0f}" if rates else "–",
        "–" if held is None else str(held),
        str(clients),
    ]
    for (x, _, anchor), figure in zip(_HEADS[3:], figures, strict=True):
        yield _text(x, y, figure, 12, INK, anchor)


def _engine_lines(told: EngineFigures) -> Iterator[tuple[str, str]]:
    for engine in told.engines:
        yield _engine_words(engine), INK
    if told.reason:
        yield f"Engine cores: no {'new ' if told.engines else ''}figures: {told.reason}.", GREY
    if told.stand_in:
        yield f"By a {told.stand_in}.", GREY


def _engine_words(engine: Engine) -> str:
    """Only figures that are known."""
    figures = {
        "running": engine.running,
        "waiting": engine.waiting,
        "% of the blocks": None if engine.used is None else 100 * engine.used,
        "steps/s": engine.steps,
        "ms a step": engine.step_ms,
        "tokens/s": engine.tokens,
    }
    known = [
        f"{value:,.{1 if unit in ('% of the blocks', 'ms a step') else 0}f} {unit}"
        for unit, value in figures.items()
        if value is not None
    ]
    return f"engine-{engine.index}: {', '.join(known) or 'no figures yet'}"


def _event_lines(events: Sequence[tuple[str, Event]]) -> Iterator[tuple[str, str]]:
    for at, event in events:
        yield f"{at}  {event.words}", INK


def above(upper: str, lower: str) -> str:
    """Two pictures as one, `upper` above `lower`; each states its size in pixels, as those of this module do."""
    (width, height), (lower_width, lower_height) = _size(upper), _size(lower)
    whole = height + lower_height
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(width, lower_width):g}" height="{whole:g}" '
            f'viewBox="0 0 {max(width, lower_width):g} {whole:g}" role="img" style="max-width:100%;height:auto">',
            upper,
            lower.replace("<svg ", f'<svg y="{height:g}" ', 1),
            "</svg>",
        ]
    )


def _size(svg: str) -> tuple[float, float]:
    head = svg[: svg.index(">")]
    width, height = (float(head.partition(f'{name}="')[2].partition('"')[0]) for name in (" width", " height"))
    return width, height


def _text(x: float, y: float, words: str, size: int, colour: str, anchor: str = "", weight: str = "") -> str:
    more = (f' text-anchor="{anchor}"' if anchor else "") + (f' font-weight="{weight}"' if weight else "")
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}"{more}>{escape(words)}</text>'

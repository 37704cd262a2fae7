"""A load's picture while it runs: tokens per second, and how long tokens take. One SVG, replaced in place.

The SVG is written by hand, because a frame then takes 2 ms; matplotlib's 50 ms would disturb the measurement on two
cores. The last frame stays in the saved notebook. It takes `Progress`, measures nothing, and runs in the kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from lab_support.instruments.load.progress import Progress

INK, GREY, PALE = "#222222", "#767676", "#dddddd"
_WIDTH, _HEIGHT = 720, 250
_LEFT, _GAP, _TOP, _PANEL_WIDTH, _PANEL_HEIGHT = 56, 64, 58, 286, 140
_MARK = 3.5


@dataclass(frozen=True, slots=True)
class _Line:
    """One curve. points: (seconds, value); mark: "circle" or "square", so that readers need no colour."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    mark: str
    dashes: str = ""


@dataclass(slots=True)
class LiveLoad:
    """The frames of one load. `add` progress, then show this object: it draws all progress so far.

    stand_in: words for what stands in for the server's GPU; "" if nothing does.
    """

    description: str
    stand_in: str = ""
    seen: list[Progress] = field(default_factory=list)

    def add(self, progress: Progress) -> None:
        self.seen.append(progress)

    @property
    def finding(self) -> str:
        """The picture's finding in a sentence."""
        if not self.seen:
            return f"{self.description}: nothing has come yet"
        last = self.seen[-1]
        most = max(each.tokens_per_second for each in self.seen)
        errors = f", {last.errors} of them errors" if last.errors else ""
        how_far = f"{last.requests} of {last.asked} requests ended{errors}"
        return f"{how_far}; at most {most:,.0f} tokens/s"  # the averages are the report's, which counts to the end

    @property
    def alt(self) -> str:
        """The picture in words."""
        rates = [each.tokens_per_second for each in self.seen]
        between = f" Tokens per second went from {min(rates):,.0f} to {max(rates):,.0f}." if rates else ""
        by = f" {self._by}." if self.stand_in else ""
        return f"Load over time, {self.description}.{by} {self.finding}.{between}"

    @property
    def _by(self) -> str:
        return f"By a {self.stand_in}"

    def svg(self) -> str:
        """The frame as it is now."""
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
            f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(self.alt)}" '
            'style="max-width:100%;height:auto" font-family="DejaVu Sans, Verdana, Arial, sans-serif">',
            f"<title>{escape(self.alt)}</title>",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            _text(14, 22, self.finding, 14, INK, weight="bold"),
            *([_text(14, 38, self._by, 11, GREY)] if self.stand_in else []),
            *_panel(_LEFT, "tokens per second", [self._rates()], self._seconds),
            *_panel(_LEFT + _PANEL_WIDTH + _GAP, "milliseconds, median of each moment", self._times(), self._seconds),
            "</svg>",
        ]
        return "\n".join(parts)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return {"image/svg+xml": self.svg(), "text/plain": self.alt}, {"image/svg+xml": {"alt": self.alt}}

    @property
    def _seconds(self) -> float:
        return max(1.0, self.seen[-1].at if self.seen else 1.0)

    def _rates(self) -> _Line:
        return _Line("all answers together", [(each.at, each.tokens_per_second) for each in self.seen], INK, "circle")

    def _times(self) -> list[_Line]:
        first = [(each.at, each.first_token * 1000) for each in self.seen if each.first_token is not None]
        between = [(each.at, each.inter_token * 1000) for each in self.seen if each.inter_token is not None]
        return [
            _Line("time to first token", first, "#d55e00", "circle"),
            _Line("inter-token latency", between, "#0072b2", "square", "6 3"),
        ]


def _panel(left: float, unit: str, lines: Sequence[_Line], seconds: float) -> list[str]:
    """Axes from 0, and the lines. left: the left edge of its plotting area. The bottom axis is time."""
    highest = _round_up(max((value for line in lines for _, value in line.points), default=1.0))
    bottom = _TOP + _PANEL_HEIGHT
    parts = [_text(left, _TOP - 10, unit, 11, INK)]
    for step in range(3):
        y, value = bottom - _PANEL_HEIGHT * step / 2, highest * step / 2
        parts.append(f'<line x1="{left}" y1="{y}" x2="{left + _PANEL_WIDTH}" y2="{y}" stroke="{PALE}"/>')
        parts.append(_text(left - 6, y + 4, f"{value:,.4g}" if value < 1000 else f"{value:,.0f}", 10, INK, "end"))
    parts += [
        _text(left, bottom + 15, "0", 10, INK, "middle"),
        _text(left + _PANEL_WIDTH, bottom + 15, f"{seconds:.1f} s", 10, INK, "middle"),
    ]
    x = left
    for line in lines:
        places = [
            (left + _PANEL_WIDTH * at / seconds, bottom - _PANEL_HEIGHT * value / highest) for at, value in line.points
        ]
        parts += [*_curve(line, places), *_key(line, x, bottom + 36)]
        x += 150
    return parts


def _curve(line: _Line, places: Sequence[tuple[float, float]]) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dashes = f' stroke-dasharray="{line.dashes}"' if line.dashes else ""
    drawn = f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="1.8"{dashes}/>'
    return [drawn, *(_mark(line, x, y) for x, y in places[:: max(1, len(places) // 12)])]


def _key(line: _Line, x: float, y: float) -> list[str]:
    dashes = f' stroke-dasharray="{line.dashes}"' if line.dashes else ""
    stroke = f'<line x1="{x}" y1="{y}" x2="{x + 22}" y2="{y}" stroke="{line.colour}" stroke-width="1.8"{dashes}/>'
    return [stroke, _mark(line, x + 11, y), _text(x + 28, y + 4, line.name, 10, INK)]


def _mark(line: _Line, x: float, y: float) -> str:
    if line.mark == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_MARK}" fill="{line.colour}"/>'
    corner = f'x="{x - _MARK:.1f}" y="{y - _MARK:.1f}"'
    return f'<rect {corner} width="{2 * _MARK}" height="{2 * _MARK}" fill="{line.colour}"/>'


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten: half of each is a short number too."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    while power > value > 0:
        power /= 10
    return next(power * step for step in (1, 2, 4, 6, 8, 10) if power * step >= value)


def _text(x: float, y: float, words: str, size: int, colour: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(words)}</text>'
    )

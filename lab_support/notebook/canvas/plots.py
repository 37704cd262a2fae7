"""The figures, in one style: they take dataclasses, return pictures with alt text, and never measure.

Colours are Okabe and Ito's, safe for colour-blind readers, and each comes with its own hatch or
marker. Each title states the figure's finding. matplotlib's global settings and pyplot are left alone.
"""

import base64
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lab_support.instruments.load.latency import Distribution
from lab_support.instruments.load.report import Report
from lab_support.notebook.page.gate import takes_prediction
from lab_support.notebook.page.role_view import RoleView

DPI = 110
INK, FAINT = "#222222", "#8a8a8a"
_ABOVE_A_NOTE = 0.2  # inches
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo")
"""Hatches for things that are distinguished by number; `cell_words.colour_of` has the colours."""


@dataclass(frozen=True, slots=True)
class Look:
    """The look of one kind of thing, such as an API server, in a figure or in all of them."""

    colour: str
    hatch: str = ""
    marker: str = ""


LOOKS = {
    "launcher": Look("#b8b8b8", "", "D"),
    "api": Look("#56b4e9", "///", "o"),
    "engine": Look("#e69f00", "...", "s"),
    "coordinator": Look("#009e73", "xxx", "^"),
}


def look_of(role: str) -> Look:
    """The look of `api-0`, `engine-1`, …"""
    return LOOKS.get(role.rpartition("-")[0] or role, LOOKS["launcher"])


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure and its content in words, for readers who can't see it and for plain text.

    figure: matplotlib's. alt: the words.
    """

    figure: Figure
    alt: str

    def png(self) -> bytes:
        """The figure as a PNG file."""
        space = io.BytesIO()
        self.figure.savefig(space, format="png", dpi=DPI, bbox_inches="tight", facecolor="white", metadata={})
        return space.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        picture = base64.b64encode(self.png()).decode("ascii")
        return {"image/png": picture, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}

    def with_note(self, words: str) -> "Picture":
        """The same figure with a line below it."""
        lines = textwrap.fill(words, int(self.figure.get_figwidth() * 12.5))
        look = {"boxstyle": "round,pad=0.5", "facecolor": "#f4f4f4", "edgecolor": FAINT}
        self.figure.draw_without_rendering()  # only this computes the layout, and labels may hang below the figure
        lowest = (self.figure.get_tightbbox().y0 - _ABOVE_A_NOTE) / self.figure.get_figheight()
        self.figure.text(0.02, lowest, lines, fontsize=10, color=INK, ha="left", va="top", bbox=look)
        return Picture(self.figure, f"{self.alt} {words}")


def title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11, color=INK, wrap=True)


def quiet(axes: Axes) -> None:
    """Leave only the two axes of the frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)


# ---- the process tree ------------------------------------------------------------------------------------------------

_BOX_WIDTH, _BOX_HEIGHT, _GAP = 2.5, 1.15, 0.35


@takes_prediction
def process_tree(views: Sequence[RoleView]) -> Picture:
    """The processes as a tree, and the one listening socket with a line to each of its holders."""
    launcher = views[0]
    children = [view for view in views if view.parent == launcher.role]
    width = max(2, len(children)) * (_BOX_WIDTH + _GAP) - _GAP
    places = {launcher.role: (width / 2, 3.6)}
    places |= {view.role: (_BOX_WIDTH / 2 + index * (_BOX_WIDTH + _GAP), 1.55) for index, view in enumerate(children)}
    holders = [view for view in views if view.socket_numbers and view.role in places]
    figure = Figure(figsize=(max(7.0, width * 0.9), 4.6))
    axes = figure.add_axes((0, 0, 1, 0.88))
    for view in children:
        _parent_line(axes, places[launcher.role], places[view.role])
    _socket(axes, width, places, holders)
    for view in (launcher, *children):
        _process_box(axes, places[view.role], view)
    axes.set_xlim(-0.75, width + 0.2)
    axes.set_ylim(-1.15, 4.4)
    axes.set_axis_off()
    finding = _tree_finding(views, holders)
    figure.suptitle(finding, x=0.02, ha="left", fontsize=12, color=INK)
    return Picture(figure, f"Process tree. {finding}. " + " ".join(_in_words(view) for view in views))


def _tree_finding(views: Sequence[RoleView], holders: Sequence[RoleView]) -> str:
    objects = len({view.socket_inode for view in holders})
    with_torch = [view.role for view in views if view.maps_torch]
    torch = f"only {', '.join(with_torch)} maps libtorch" if len(with_torch) == 1 else f"{len(with_torch)} map libtorch"
    return f"{len(views)} processes, {objects} listening socket held by {len(holders)} of them; {torch}"


def _in_words(view: RoleView) -> str:
    parent = f"child of {view.parent}, " if view.parent else ""
    socket = (
        f"listening socket as descriptor {view.socket_numbers[0]}" if view.socket_numbers else "no listening socket"
    )
    torch = "libtorch" if view.maps_torch else "no libtorch"
    return f"{view.role}: {parent}{view.proportional_mb:.0f} MB, {socket}, {torch}."


def _process_box(axes: Axes, place: tuple[float, float], view: RoleView) -> None:
    x, y = place
    look = look_of(view.role)
    corner = (x - _BOX_WIDTH / 2, y - _BOX_HEIGHT / 2)
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(
        FancyBboxPatch(corner, _BOX_WIDTH, _BOX_HEIGHT, boxstyle=style, facecolor="white", edgecolor=INK, zorder=3)
    )
    axes.add_patch(
        FancyBboxPatch(
            corner, 0.34, _BOX_HEIGHT, boxstyle=style, facecolor=look.colour, hatch=look.hatch, edgecolor=INK, zorder=4
        )
    )
    libraries = "libtorch mapped" if view.maps_torch else "no libtorch"
    axes.text(
        x + 0.17,
        y + 0.27,
        view.role,
        ha="center",
        va="center",
        fontsize=12 if len(view.role) < 13 else 10,
        weight="bold",
        color=INK,
        zorder=5,
    )
    axes.text(
        x + 0.17, y - 0.04, f"{view.proportional_mb:.0f} MB", ha="center", va="center", fontsize=10, color=INK, zorder=5
    )
    axes.text(x + 0.17, y - 0.33, libraries, ha="center", va="center", fontsize=9, color=INK, zorder=5)


def _parent_line(axes: Axes, parent: tuple[float, float], child: tuple[float, float]) -> None:
    middle = (parent[1] + child[1]) / 2
    axes.plot(
        [parent[0], parent[0], child[0], child[0]],
        [parent[1], middle, middle, child[1]],
        color=FAINT, linewidth=1.2, zorder=1,
    )  # fmt: skip


def _socket(axes: Axes, width: float, places: dict[str, tuple[float, float]], holders: Sequence[RoleView]) -> None:
    """The kernel object below all processes, and dashed lines from its holders, each with its descriptor number."""
    if not holders:
        return
    top, height = -0.2, 0.62
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(
        FancyBboxPatch((0, top - height), width, height, boxstyle=style, facecolor="#f0e442", edgecolor=INK, zorder=3)
    )
    words = f"listening socket: one kernel object, inode {holders[0].socket_inode}"
    axes.text(width / 2, top - height / 2, words, ha="center", va="center", fontsize=11, color=INK, zorder=6)
    for view in holders:
        x, y = places[view.role]
        number = f"descriptor {view.socket_numbers[0]}"
        if view.parent:
            axes.plot([x, x], [y, top], "--", color=INK, linewidth=1.3, zorder=2)
            axes.text(x + 0.1, (y - _BOX_HEIGHT / 2 + top) / 2, number, fontsize=9, color=INK, va="center")
        else:
            # The launcher's line goes around the left side of its children.
            corner, middle = -0.4, top - height / 2
            axes.plot([x, corner, corner, 0], [y, y, middle, middle], "--", color=INK, linewidth=1.3, zorder=2)
            axes.text(x - _BOX_WIDTH / 2 - 0.15, y + 0.16, number, fontsize=9, color=INK, ha="right")


# ---- memory ----------------------------------------------------------------------------------------------------------


@takes_prediction
def memory(views: Sequence[RoleView]) -> Picture:
    """Proportional memory of each process, one bar each."""
    figure = Figure(figsize=(7.0, 0.5 + 0.5 * len(views)))
    axes = figure.add_subplot()
    for index, view in enumerate(views):
        look = look_of(view.role)
        axes.barh(index, view.proportional_mb, color=look.colour, hatch=look.hatch, edgecolor=INK, height=0.6)
        axes.text(view.proportional_mb, index, f"  {view.proportional_mb:.0f}", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(views)), [view.role for view in views])
    axes.invert_yaxis()
    axes.set_xlabel("proportional memory (PSS), MB", fontsize=9)
    quiet(axes)
    most = max(views, key=lambda view: view.proportional_mb)
    share = most.proportional_mb / sum(view.proportional_mb for view in views)
    finding = f"{most.role} has {share:.0%} of the server's memory"
    title(axes, finding)
    figures = "; ".join(f"{view.role} {view.proportional_mb:.0f} MB" for view in views)
    return Picture(figure, f"Bar chart. {finding}. {figures}.")


# ---- a load ----------------------------------------------------------------------------------------------------------


@takes_prediction
def latency(report: Report, api_servers: Sequence[str] = ()) -> Picture:
    """A load in two panels: the times of first and further tokens, and the number of answers by API server.

    api_servers: all of them, so that one without answers is shown too; by default those that answered.
    """
    requests = dict.fromkeys(api_servers, 0) | {name: share.requests for name, share in report.by_server.items()}
    figure = Figure(figsize=(9.5, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _latency_curves(left, report)
    _shares(right, requests)
    if report.stand_in:
        figure.suptitle(f"A {report.stand_in}", x=0.02, ha="left", fontsize=9, color=INK)
    finding = _latency_finding(report)
    served = ", ".join(f"{name} {count}" for name, count in requests.items())
    by = f", answered by a {report.stand_in}" if report.stand_in else ""
    return Picture(figure, f"Load, {report.description}{by}: {finding}. Requests answered: {served}.")


_LEAST_SHOWN = 0.1  # milliseconds


def _latency_finding(report: Report) -> str:
    if not report.first_token.n:
        return f"half of the answers, each in one piece, came within {_milliseconds(report.end_to_end.p50)}"
    return (
        f"half of the first tokens came within {_milliseconds(report.first_token.p50)}, "
        f"and half of the further ones {_milliseconds(report.inter_token.p50)} after the one before"
        f"{_without_text(report)}"
    )


def _latency_curves(axes: Axes, report: Report) -> None:
    streamed = (
        ("time to first token", report.first_token, "#d55e00", "-", "o"),
        ("inter-token latency", report.inter_token, "#0072b2", "--", "s"),
    )
    whole = (("end to end", report.end_to_end, "#009e73", "-.", "^"),)
    lines = [line for line in (streamed if report.first_token.n else whole) if line[1].n]
    for name, values, colour, style, marker in lines:
        without = _without_text(report) if values is report.first_token else ""
        _curve(axes, f"{name} (n = {values.n}{without})", values, colour, style, marker)
    _milliseconds_axis(axes, [values for _, values, *_ in lines])
    axes.set_ylabel("% that took at most this long", fontsize=9)
    if lines:
        axes.legend(fontsize=9, frameon=False, loc="upper left", bbox_to_anchor=(-0.02, -0.2), ncols=2)
    quiet(axes)
    title(axes, _curves_title(report))


def _without_text(report: Report) -> str:
    """The answers that ended at once, with no token before their end, so that `n` is less than all."""
    missing = report.completed - report.first_token.n
    if report.completed < report.asked or missing <= 0:
        return ""
    return f", {missing} answer{'s' * (missing > 1)} without text"


def _curves_title(report: Report) -> str:
    if not report.first_token.n:
        return f"Half of the answers took at most {_milliseconds(report.end_to_end.p50)}"
    ratio = report.first_token.p50 / report.inter_token.p50 if report.inter_token.p50 else 0
    if ratio > 1.1:
        return f"Here, the median first token took {ratio:.1f} times as long as the next"
    return f"Half of the first tokens came within {_milliseconds(report.first_token.p50)}"


def _milliseconds_axis(axes: Axes, shown: Sequence[Distribution]) -> None:
    """A logarithmic axis. It begins where most values are, because pieces that came in one read are 0 ms apart."""
    axes.set_xscale("log")
    least = max(_LEAST_SHOWN, min((values.quantiles[10] for values in shown), default=0.001) * 700)
    axes.set_xlim(left=least)
    wide = max((values.max for values in shown), default=1.0) * 1000 / least > 3000
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_milliseconds_tick))
    axes.set_xlabel("milliseconds (logarithmic); markers: median and 99 %", fontsize=9)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)


def _milliseconds_tick(value: float, _: int) -> str:
    return f"≤ {value:g}" if value <= _LEAST_SHOWN * 1.001 else f"{value:g}"


def _curve(axes: Axes, name: str, values: Distribution, colour: str, style: str, marker: str) -> None:
    points = [max(value * 1000, _LEAST_SHOWN) for value in values.quantiles]
    axes.plot(points, range(len(points)), style, color=colour, linewidth=1.8, label=name)
    axes.plot([points[50], points[99]], [50, 99], linestyle="", marker=marker, color=colour, markersize=6)


def _shares(axes: Axes, requests: dict[str, int]) -> None:
    for index, (name, count) in enumerate(requests.items()):
        look = look_of(name)
        axes.bar(index, count, color=look.colour, hatch=look.hatch, edgecolor=INK, width=0.6)
        axes.text(index, count, str(count), ha="center", va="bottom", fontsize=10, color=INK)
    axes.set_xticks(range(len(requests)), list(requests))
    axes.set_ylabel("requests answered", fontsize=9)
    axes.set_xlim(-0.7, len(requests) - 0.3)
    axes.margins(y=0.15)
    quiet(axes)
    most = max(requests, key=lambda name: requests[name])
    title(axes, f"{most} answered {requests[most]} of {sum(requests.values())}")


def _milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"

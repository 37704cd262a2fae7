"""Processes as lanes, time from left to right: the start of a server, and one request. It measures nothing.

Taught in: 07_how_do_strangers_find_each_other
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lab_support.notebook.canvas.plots import FAINT, INK, Look, Picture, quiet, title
from lab_support.notebook.page.gate import takes_prediction

_BAR, _LETTERS_IN_A_ROW = 0.5, 70


@dataclass(frozen=True, slots=True)
class Block:
    """Something that lasts: a kind of the figure's legend, and two times in the figure's unit."""

    kind: str
    begun: float
    ended: float


@dataclass(frozen=True, slots=True)
class Lane:
    """One process. marks: moments, each with a letter or short words above the bar. note: words at its right end."""

    name: str
    blocks: Sequence[Block]
    marks: Sequence[tuple[float, str]] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """A message from one lane to another, by name."""

    sender: str
    sent: float
    receiver: str
    received: float


@dataclass(frozen=True, slots=True)
class _Chart:
    lanes: Sequence[Lane]
    looks: Mapping[str, Look]
    arrows: Sequence[Arrow] = field(default=())

    def draw(self, axes: Axes, begin: float, end: float) -> None:
        rows = {lane.name: row for row, lane in enumerate(self.lanes)}
        for row, lane in enumerate(self.lanes):
            self._draw_lane(axes, row, lane, begin, end)
        for each in self.arrows:
            if begin <= each.sent and each.received <= end:
                _draw_arrow(axes, rows[each.sender], each.sent, rows[each.receiver], each.received)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.75)
        axes.set_xlim(begin, end)
        quiet(axes)

    def _draw_lane(self, axes: Axes, row: int, lane: Lane, begin: float, end: float) -> None:
        axes.plot([begin, end], [row, row], color=FAINT, linewidth=0.7, linestyle=":", zorder=1)
        for block in lane.blocks:
            if block.ended >= begin and block.begun <= end:
                look = self.looks[block.kind]
                axes.barh(row, block.ended - block.begun, left=block.begun, height=_BAR, color=look.colour,
                          hatch=look.hatch, edgecolor=INK, linewidth=0.5, zorder=2)  # fmt: skip
        for at, words in _joined(lane.marks, (end - begin) / _LETTERS_IN_A_ROW):
            axes.plot([at, at], [row - 0.32, row + 0.25], color=INK, linewidth=1, zorder=4)
            side = _side((at - begin) / (end - begin))
            axes.text(at, row - 0.34, words, fontsize=8, color=INK, ha=side, va="bottom", zorder=5)
        if lane.note:
            axes.annotate(lane.note, (1.0, row), (6, 0), xycoords=("axes fraction", "data"), fontsize=9, color=INK,
                          textcoords="offset points", va="center", annotation_clip=False)  # fmt: skip

    def legend(self, axes: Axes, below: float) -> None:
        used = {block.kind for lane in self.lanes for block in lane.blocks}
        keys = [
            Patch(facecolor=look.colour, hatch=look.hatch, edgecolor=INK, linewidth=0.5, label=kind)
            for kind, look in self.looks.items()
            if kind in used
        ]
        axes.legend(handles=keys, fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -below), ncols=4)


def _side(place: float) -> str:
    """The alignment of words at a place from 0 to 1, so that they stay within the frame."""
    return "left" if place < 0.05 else "right" if place > 0.95 else "center"


def _joined(marks: Sequence[tuple[float, str]], closest: float) -> list[tuple[float, str]]:
    """Marks whose words would overlap become one."""
    found: list[tuple[float, str]] = []
    for at, words in marks:
        if found and at - found[-1][0] < closest:
            found[-1] = (found[-1][0], f"{found[-1][1]} {words}".strip())
        else:
            found.append((at, words))
    return found


def _draw_arrow(axes: Axes, sender: int, sent: float, receiver: int, received: float) -> None:
    down = 1 if receiver > sender else -1
    edge = _BAR / 2 * down
    style = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (received, receiver - edge), (sent, sender + edge), zorder=3, arrowprops=style)


def _lane_in_words(lane: Lane, unit: str) -> str:
    told = [f"{each.kind} from {each.begun:.3g} to {each.ended:.3g} {unit}" for each in lane.blocks[:6]]
    if left := len(lane.blocks) - 6:
        told += [f"{left} more blocks"] if left > 0 else []
    marks = [f"{words} at {at:.3g} {unit}" for at, words in lane.marks if len(words) > 1]
    return f"{lane.name}: {'; '.join([*told, *marks, *([lane.note] if lane.note else [])]) or 'nothing'}."


# ---- the start of a server -------------------------------------------------------------------------------------------

WAITS = "waits for others"
START_LOOKS = {
    "in the accept queue": Look("#f0e442", "///"),
    "a new Python begins": Look("#ffffff"),
    "imports": Look("#56b4e9", "..."),
    "loads the model": Look("#e69f00", "xxx"),
    "makes its application": Look("#cc79a7", "\\\\\\"),
    WAITS: Look("#e4e4e4"),
    "serves": Look("#009e73"),
}
_ENDS_A = {
    "imports done": "imports",
    "model loaded": "loads the model",
    "application made": "makes its application",
    "addresses": WAITS,
    "READY": WAITS,
}
"""The kind of block that a milestone of a child ends."""
_LETTERS = {"HELLO": "H", "addresses": "A", "READY": "R"}


@takes_prediction
def start_lanes(client: Mapping[str, Any], milestones: Sequence[Mapping[str, Any]], *, finding: str) -> Picture:
    """The start of a server by its trace's milestones, and the client that connected when the port was open."""
    zero, end = milestones[0]["at"], 1.03 * (client["answered"] - milestones[0]["at"])
    children = list(dict.fromkeys(each["about"] for each in milestones if each["stage"].endswith(": begin")))
    lanes = [_client_lane(client, milestones, zero), _launcher_lane(milestones, zero)]
    lanes += [_child_lane(child, milestones, zero, end) for child in children]
    chart = _Chart(lanes, START_LOOKS)
    figure = Figure(figsize=(9.5, 1.9 + 0.55 * len(lanes)), layout="constrained")
    axes = figure.subplots()
    chart.draw(axes, 0, end)
    axes.set_xlabel(
        "seconds since the launcher's first line   "
        "(H: says HELLO, a child's first message   A: has the addresses   R: says READY)"
    )
    axes.xaxis.label.set_fontsize(9)
    title(axes, finding)
    chart.legend(axes, 0.7 / len(lanes))
    return Picture(figure, f"Lanes. {finding}. " + " ".join(_lane_in_words(lane, "s") for lane in lanes))


def accepted_at(milestones: Sequence[Mapping[str, Any]]) -> float:
    """When the first connection of all was accepted."""
    return min(float(each["at"]) for each in milestones if each["stage"] == "first connection accepted")


def _client_lane(client: Mapping[str, Any], milestones: Sequence[Mapping[str, Any]], zero: float) -> Lane:
    connected, answered = client["connected"] - zero, client["answered"] - zero
    waits = Block("in the accept queue", connected, accepted_at(milestones) - zero)
    return Lane("client", [waits], [(connected, "connected"), (answered, "answered")])


def _launcher_lane(milestones: Sequence[Mapping[str, Any]], zero: float) -> Lane:
    own = {each["stage"]: each["at"] - zero for each in milestones if each["role"] == "launcher"}
    begun = max(each["at"] - zero for each in milestones if each["stage"].endswith(": done"))
    return Lane(
        "launcher", [Block(WAITS, begun, own["ready"])], [(own["port open"], "port open"), (own["ready"], "ready")]
    )


def _child_lane(child: str, milestones: Sequence[Mapping[str, Any]], zero: float, end: float) -> Lane:
    own = [(each["stage"], each["at"] - zero) for each in milestones if each["role"] == child]
    made = next(e["at"] - zero for e in milestones if e["about"] == child and e["stage"].endswith(": begin"))
    blocks = [Block("a new Python begins", made, own[0][1])]
    for (_, before), (stage, at) in pairwise(own):
        if stage in _ENDS_A:
            blocks.append(Block(_ENDS_A[stage], before, at))
        if stage == "READY":
            blocks.append(Block("serves", at, end))
    return Lane(child, blocks, [(at, _LETTERS[stage]) for stage, at in own if stage in _LETTERS])


# ---- one request -----------------------------------------------------------------------------------------------------

REQUEST_LOOKS = {
    "HTTP read, checked, tokenised": Look("#56b4e9", "///"),
    "on its way, or waiting": Look("#e4e4e4"),
    "the prompt's step": Look("#cc79a7", "\\\\\\"),
    "a step": Look("#e69f00", "..."),
    "text made, event written": Look("#009e73", "xxx"),
}
_READ, _WAY, _PROMPT, _STEP, _WRITTEN = REQUEST_LOOKS
_SHOWN = 3
"""Tokens in the enlarged part."""


@takes_prediction
def request_lanes(told: Mapping[str, Any], woken: Mapping[str, int], *, finding: str) -> Picture:
    """A request by `times_of`, among all processes of its server; woken: how often each of them was, in its time.

    Above the whole of it, below its beginning, until the third token is written.
    """
    lanes = [_request_lane(role, told, count) for role, count in woken.items()]
    chart = _Chart(lanes, REQUEST_LOOKS, list(_arrows(told)))
    figure = Figure(figsize=(9.5, 2.0 + 0.9 * len(lanes)), layout="constrained")
    whole, enlarged = figure.subplots(2, 1)
    _Chart(lanes, REQUEST_LOOKS).draw(whole, 0, 1000 * told["total"])
    chart.draw(enlarged, 0, 1.02 * 1000 * told["written"][min(_SHOWN, len(told["written"])) - 1][1])
    enlarged.set_xlabel("milliseconds since the head of the request was complete; below, its beginning enlarged")
    enlarged.xaxis.label.set_fontsize(9)
    title(whole, finding)
    chart.legend(enlarged, 0.8 / len(lanes))
    words = " ".join(_lane_in_words(lane, "ms") for lane in lanes)
    return Picture(figure, f"Lanes. {finding}. {words}")


def _request_lane(role: str, told: Mapping[str, Any], woken: int) -> Lane:
    blocks: Iterable[tuple[str, float, float]] = ()
    ends = {name: (begun, ended) for name, _, begun, ended in told["stages"]}
    if role == told["api"]:
        blocks = [(_READ, 0.0, ends["engine core chosen"][1]), *((_WRITTEN, *each) for each in told["written"])]
    elif role == told["engine"]:
        begun = ends["sent to the engine core"][1]
        first, *others = (each[:2] for each in told["steps"])
        blocks = [(_WAY, begun, first[0]), (_PROMPT, *first), *((_STEP, *each) for each in others)]
    note = f"woken {woken} ×" if woken else "asleep"
    return Lane(role, [Block(kind, 1000 * begun, 1000 * ended) for kind, begun, ended in blocks], note=note)


def _arrows(told: Mapping[str, Any]) -> Iterable[Arrow]:
    """There, and back with each of the first tokens."""
    api, engine = told["api"], told["engine"]
    sent = next(each for each in told["stages"] if each[0] == "sent to the engine core")
    yield Arrow(api, 1000 * sent[2], engine, 1000 * sent[3])
    for step, written in zip(told["steps"][:_SHOWN], told["written"][:_SHOWN], strict=False):
        yield Arrow(engine, 1000 * step[1], api, 1000 * max(step[1], written[0]))

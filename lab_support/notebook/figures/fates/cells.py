"""Cells of the matrix of fates: all repeats of one blow to a server, and the words for what they have in common.

It takes the dicts that `fate` of lab_support/experiments/fates/fate.py returns: from a cell's events, or from the
samples `fate` of the recording `fate_matrix`. It measures nothing.

Taught in: 09_who_notices_a_death
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.plural import counted

Fate = Mapping[str, Any]
Live = ProcessResult | Sequence[Fate]
KILL, STOP = "SIGKILL", "SIGSTOP"
NOBODY, LAUNCHER, ITSELF = "nobody", "the launcher", "each child by itself"
NEVER, MILLISECONDS, TENTHS, SECONDS = "never", "in milliseconds", "in tenths of a second", "in seconds"
ENDED, GOES_ON = "ended", "goes on"
CLIENT_WORDS = {
    "done": "answered",
    "error event": "told by an error event",
    "cut off": "cut off",
    "refused": "refused",
    "still waiting": "still without an answer",
}


@dataclass(frozen=True, slots=True)
class FateCell:
    """One blow, n times. deadline: seconds of --liveness-timeout, or 0. origin: where it was measured, in words."""

    fates: tuple[Fate, ...]
    live: bool
    origin: str
    deadline: float = 0.0

    @property
    def role(self) -> str:
        return str(self.fates[0]["role"])

    @property
    def state(self) -> str:
        return str(self.fates[0]["state"])

    @property
    def name(self) -> str:
        """The row of a table that asks for it, such as "api-0 killed while idle"."""
        done = "killed" if self.fates[0]["signal"] == KILL else "stopped"
        return f"{self.role} {done} while {self.state}"

    # ---- who, by what, when

    @property
    def who(self) -> str:
        """`NOBODY`, `LAUNCHER`, or `ITSELF` if children ended without being told."""
        names = {name for fate in self.fates for name in fate["noticed"]}
        return ITSELF if names - {"launcher"} else LAUNCHER if names else NOBODY

    @property
    def means(self) -> list[str]:
        """The means by which it was noticed, the most frequent first."""
        found = Counter(means for fate in self.fates for means, _ in fate["noticed"].values())
        return [means for means, _ in found.most_common()]

    @property
    def ms(self) -> list[float]:
        """For each repeat in which it was noticed, after how many ms the last one had."""
        return [max(ms for _, ms in fate["noticed"].values()) for fate in self.fates if fate["noticed"]]

    @property
    def when(self) -> str:
        """The order of magnitude of the median of `ms`."""
        if not self.ms:
            return NEVER
        typical = median(self.ms)
        return MILLISECONDS if typical < 100 else TENTHS if typical < 1000 else SECONDS

    @property
    def when_in_words(self) -> str:
        if not self.ms:
            return self._repeats
        part = f"{len(self.ms)} of " if len(self.ms) < len(self.fates) else ""
        return f"after {spread(self.ms)} ({part}{self._repeats})"

    @property
    def _repeats(self) -> str:
        return f"n = {len(self.fates)}"

    # ---- what it did

    @property
    def outcomes(self) -> set[str]:
        """All ends of clients' answers, in the words of `CLIENT_WORDS`, or "status 503" and the like."""
        return {CLIENT_WORDS.get(each, each) for fate in self.fates for each in fate["clients"]}

    @property
    def clients(self) -> str:
        """What the clients got, with counts of one repeat; their range if repeats differ."""
        total = sum(self.fates[0]["clients"].values())
        names = dict.fromkeys(sorted((name for fate in self.fates for name in fate["clients"]), key="done".__eq__))
        parts = [f"{self._count(name)} of {total} {CLIENT_WORDS.get(name, name)}" for name in names]
        first, *others = parts
        rest = [part.replace(f" of {total}", "") for part in others]
        return ", ".join([first.replace(f" of {total}", f" of {counted(total, 'client')}"), *rest])

    def _count(self, name: str) -> str:
        counts = [fate["clients"].get(name, 0) for fate in self.fates]
        return f"{min(counts)}–{max(counts)}" if len(set(counts)) > 1 else str(counts[0])

    @property
    def lost_ms(self) -> list[float]:
        """For each client that was there and lost its answer, the ms after which it knew."""
        return [ms for fate in self.fates for ms in fate["lost_ms"]]

    @property
    def again(self) -> str:
        """What those got who lost their answer and asked again at once; "" if nobody did."""
        found = Counter[str]()
        for fate in self.fates:
            found.update(fate["again"])
        return ", ".join(name.replace("done by", "answered by") for name, _ in found.most_common())

    @property
    def server(self) -> str:
        """`GOES_ON`, or `ENDED` if it ended in any repeat."""
        return GOES_ON if {fate["server"] for fate in self.fates} == {GOES_ON} else ENDED

    @property
    def replaced_ms(self) -> list[float]:
        return [fate["replaced_ms"] for fate in self.fates if fate["replaced_ms"] is not None]

    @property
    def in_words(self) -> str:
        by = f", by {' or '.join(self.means)}" if self.means else ""
        lost = f"; answers lost after {spread(self.lost_ms)}" if self.lost_ms else ""
        again = f"; asked again: {self.again}" if self.again else ""
        new = f"; a new one is ready after {spread(self.replaced_ms)}" if self.replaced_ms else ""
        return (
            f"{self.name}: noticed by {self.who}{by}, {self.when_in_words}; {self.clients}{lost}{again}; "
            f"server {self.server}{new}; {self.origin}."
        )


def spread(values: Sequence[float]) -> str:
    """The median of milliseconds, and the range if there are several: "4.4 ms (3.9–8.4)"."""
    middle, unit = median(values), "ms"
    if middle >= 1000:
        values, middle, unit = [value / 1000 for value in values], middle / 1000, "s"
    low, high = _short(min(values), unit), _short(max(values), unit)
    return f"{_short(middle, unit)} {unit}" + ("" if low == high else f", {low} to {high}")


def _short(value: float, unit: str) -> str:
    return f"{value:.1f}" if value < 10 or unit == "s" else f"{value:.0f}"


# ---- reading ---------------------------------------------------------------------------------------------------------


def killed(live: Live, recorded: Recording) -> dict[tuple[str, str], FateCell]:
    """The cells of kills, by role and state: those measured here, and the recorded ones for the others."""
    cells = {
        place: FateCell(tuple(fates), False, origin_of(recorded))
        for place, fates in _by_place(recorded.of("fate", signal=KILL)).items()
    }
    here = [fate for fate in fates_of(live) if fate["signal"] == KILL]
    return cells | {place: FateCell(tuple(fates), True, "measured here") for place, fates in _by_place(here).items()}


def stopped(live: Live, recorded: Recording) -> dict[tuple[str, float], FateCell]:
    """The cells of stops, by role and deadline, 0 for none. Those measured here are without one."""
    samples = [each for each in recorded.of("fate", signal=STOP) if not each["accept"]]
    deadlines = sorted({each["deadline"] for each in samples})
    cells = {
        (role, deadline): FateCell(tuple(fates), False, origin_of(recorded), deadline)
        for deadline in deadlines
        for (role, _), fates in _by_place([each for each in samples if each["deadline"] == deadline]).items()
    }
    here = [fate for fate in fates_of(live) if fate["signal"] == STOP]
    places = _by_place(here).items()
    return cells | {(role, 0.0): FateCell(tuple(fates), True, "measured here") for (role, _), fates in places}


def fates_of(live: Live) -> list[Fate]:
    """Those in a cell's result, or in a list."""
    if isinstance(live, ProcessResult):
        return [event.fields for event in live.events if "noticed" in event.fields]
    return list(live)


def origin_of(recorded: Recording) -> str:
    return f"recorded on {recorded.date[:10]}"


def _by_place(fates: Sequence[Fate]) -> dict[tuple[str, str], list[Fate]]:
    found: dict[tuple[str, str], list[Fate]] = {}
    for fate in fates:
        found.setdefault((fate["role"], fate["state"]), []).append(fate)
    return found

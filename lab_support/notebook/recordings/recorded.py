"""`lab.recorded("cuda_ipc", draw)`: an experiment's result. A machine that can run it shows a run of its own, and the
recording for comparison; others show the recording, with machine and date above it; without either, a sentence says
what is missing.

Runs in the kernel; the experiment runs in fresh processes, as `lab record` runs it.
"""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from lab_support import doctor
from lab_support.instruments.record import recorder, recordings
from lab_support.instruments.record.provenance import Machine
from lab_support.instruments.record.recorder import Experiment
from lab_support.instruments.record.recordings import Recording
from lab_support.notebook.canvas.plots import Picture
from lab_support.notebook.page.fill_in import filled_in
from lab_support.notebook.page.gate import Gated, bundle_of, with_note

Draw = Callable[[Recording], Any]
Find = Callable[[Recording], Any]
"""Finds something in a recording. Raises `LookupError` if the run ended before it saw that."""

_TOO_SHORT = "It ended before it saw what this figure needs."
_LACKING = "It lacks what this figure needs."


@dataclass(frozen=True, slots=True)
class Recorded:
    """A result with its source. A notebook displays it.

    name: of the experiment. draw: makes the picture or table of a run. run: the run shown, or None. live: whether it
    ran here, just now. missing: why there is nothing to see. recording: for comparison with a live run, or None. note:
    a line below it.
    """

    name: str
    run: Recording | None
    live: bool
    missing: str
    draw: Draw
    recording: Recording | None = None
    note: str = ""

    @property
    def title(self) -> str:
        """Its source, in one line."""
        if self.run is None:
            return f"NOT SHOWN: {self.missing}."
        return _title(self.name, self.run, live=self.live)

    @property
    def origin(self) -> str:
        """Its source in few words, such as "recorded on NVIDIA H200, 2026-11-26"; "" if there is no run."""
        return "" if self.run is None else _origin(self.run, live=self.live)

    def with_note(self, words: str) -> "Recorded":
        """The same result with a line below it."""
        return replace(self, note=words)

    def shown_as(self, draw: Draw) -> "Recorded":
        """The same run in another table or picture. Nothing runs again."""
        return replace(self, draw=draw)

    # ---- in a lesson's predictions and claims

    def found(self, find: Find) -> Any:
        """The result of `find` for the run; "" if there is no run, or it ended too early."""
        return "" if self.run is None else _try(find, self.run, "")

    def tested(self, holds: Find) -> dict[str, Any]:
        """Arguments for `lab.claim(words, **…)`: whether it holds, and in which run; or why it can't be tested."""
        if self.run is None:
            return {"untestable": self.missing}
        outcome = _try(holds, self.run, None)
        if outcome is None:
            return {"untestable": f"the run of {self.name} ended before it saw this"}
        there = self._of_recording(holds)
        same = (
            "" if there is None else "; the recording says the same" if there == outcome else "; unlike the recording"
        )
        return {"condition": outcome, "got": f"{_origin(self.run, live=self.live)}{same}"}

    def filled_in(self, number: str, options: Find, seen: Find) -> "Gated | Recorded":
        """The table that the reader filled in, with the run's results, under the line that names their source.

        options, seen: find for each row the option that the run supports, and the words that it was judged by.
        """
        measured: Mapping[str, str] | str = self.found(options)
        if not isinstance(measured, Mapping):
            return self
        return filled_in(number, measured, self.found(seen), frame=self.frame(options))

    def frame(self, options: Find) -> Callable[[Any], "Recorded"]:
        """Puts a table that the reader filled in under the line that names this run.

        options: finds for each row the option that a run supports, so that a live run is compared with the recording.
        """
        measured = self.found(options)
        note = self._agreement(measured, options) if measured else ""
        frame = replace(self, recording=None, note=note)
        return lambda table: replace(frame, draw=lambda _: table)

    def _agreement(self, measured: Mapping[str, str], options: Find) -> str:
        """For a live run's table: the rows in which the recording differs."""
        if self.recording is None:
            return ""
        there = self._of_recording(options) or {}
        other = [row for row, option in measured.items() if there.get(row) != option]
        says = f"differs in these rows: {', '.join(other)}" if other else "says the same in every row"
        return f"The recording {says} ({_title(self.name, self.recording, live=False)})."

    def _of_recording(self, find: Find) -> Any:
        """The result of `find` for a live run's recording; None if there is no recording, or it lacks the samples.

        An older recording may lack samples of today's experiment, and that must not make a reader's run fail.
        """
        try:
            return None if self.recording is None else find(self.recording)
        except LookupError:
            return None

    # ---- how it shows itself

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = bundle_of(self._shown()) if self.run is not None else ({}, {})
        data["text/plain"] = f"{self.title}\n{data.get('text/plain', '')}".rstrip()
        if "image/png" in data:  # a front end that also gets HTML would leave the picture out
            return data, metadata
        data["text/html"] = _line(self.title) + data.get("text/html", "")
        if beside := self._beside():
            data["text/plain"] += f"\n\n{beside['text/plain']}"
            data["text/html"] += beside["text/html"]
        return data, metadata

    def _shown(self) -> Any:
        assert self.run is not None, "called only if there is a run"
        shown = _drawn(self.draw, self.run)
        if isinstance(shown, Picture):
            # A front end shows only the picture, so the words have to be in it.
            return shown.with_note(" ".join(filter(None, [f"{self.title}.", self._compared(shown), self.note])))
        return with_note(shown, self.note)

    def _compared(self, picture: Picture) -> str:
        """For a live picture: the words of the recording's picture."""
        if self.recording is None:
            return ""
        there = self._of_recording(self.draw) or _LACKING
        told = there.alt if isinstance(there, Picture) else there
        same = "The recording says the same" if told == picture.alt else f"The recording says: {told}"
        return f"{same} ({_title(self.name, self.recording, live=False)})."

    def _beside(self) -> dict[str, str] | None:
        """The recording's table, for below a live one."""
        if self.recording is None or self.run is None or isinstance(_drawn(self.draw, self.run), Picture):
            return None
        title = _title(self.name, self.recording, live=False)
        data, _ = bundle_of(self._of_recording(self.draw) or _LACKING)
        return {
            "text/plain": f"Beside it, {title}\n{data['text/plain']}",
            "text/html": _line(f"Beside it, {title}") + data.get("text/html", html.escape(data["text/plain"])),
        }

    def __repr__(self) -> str:
        return self._repr_mimebundle_()[0]["text/plain"]


def titles(*shown: Recorded) -> str:
    """The sources of several results that one picture combines, in one line."""
    by_label: dict[str, list[str]] = {}
    for each in shown:
        by_label.setdefault(each.title.removeprefix(f"{each.name}, "), []).append(each.name)
    return "; ".join(f"{', '.join(names)}: {label}" for label, names in by_label.items())


def _title(name: str, run: Recording, *, live: bool) -> str:
    label = run.label.removeprefix("recorded on ")
    return f"{name}, {'MEASURED HERE, just now, on' if live else 'RECORDED on'} {label}"


def _origin(run: Recording, *, live: bool) -> str:
    where = run.machine.gpu or run.machine.machine
    return f"measured here, on {where}" if live else f"recorded on {where}, {run.date[:10]}"


def _line(words: str) -> str:
    style = "border-left:4px solid #8a8a8a;padding:.1em .8em"
    return f'<div style="{style}">{html.escape(words)}</div>'


def _try(find: Find, run: Recording, otherwise: Any) -> Any:
    """The result of `find`; `otherwise` if the run ended before it saw that."""
    try:
        return find(run)
    except LookupError:
        if run.complete:
            raise
        return otherwise


def _drawn(draw: Draw, run: Recording) -> Any:
    shown = _try(draw, run, None)
    return _TOO_SHORT if shown is None else shown


def recorded(name: str, draw: Draw) -> Recorded:
    """Show `draw(recording)` of the experiment `name` (`lab record --list`), a table or a picture.

    If this machine has everything that the experiment needs, usually a GPU, it runs here, within its own deadline, and
    the recording is shown for comparison.
    Raises `LookupError` for an unknown experiment.
    """
    experiment = _experiment(name)
    recording = _load(name)
    if run := _here(experiment):
        return Recorded(name, run, True, "", draw, recording)
    if recording:
        return Recorded(name, recording, False, "", draw)
    missing = f"{name} needs a GPU, and there is no recording of it (on a GPU machine: lab record --only {name})"
    return Recorded(name, None, False, missing, draw)


def _load(name: str) -> Recording | None:
    try:
        return recordings.load(name, recordings.FOLDER)
    except recordings.NoRecording:
        return None


def _experiment(name: str) -> Experiment:
    every = recorder.EXPERIMENTS + recorder.ON_ANY_MACHINE
    for experiment in every:
        if experiment.name == name:
            return experiment
    raise LookupError(f"got experiment {name!r}, expected one of {', '.join(each.name for each in every)}")


def _here(experiment: Experiment) -> Recording | None:
    """A run made now; None if this machine can't run it. A machine without a GPU is not even tried."""
    if not experiment.with_driver or not doctor.examine().gpus:
        return None
    machine = _machine()
    if recorder.refusal(experiment, machine):
        return None
    print(f"{experiment.name} runs here, on {machine.gpu}, for at most {experiment.seconds:.0f} s …")
    return recorder.run_experiment(experiment, machine, experiment.seconds)


@cache
def _machine() -> Machine:
    """The machine, examined once because it takes seconds."""
    return recorder.look_at_this_machine()

"""`lab.recorded("cuda_ipc", draw)`: what an experiment saw. On a machine that can run it, here and now; elsewhere its
recording, with machine and date above it; where there is neither, the sentence that says what is missing.

Runs in the kernel; the experiment runs in fresh processes, as `lab record` runs it.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from lab_support import doctor
from lab_support.instruments import recorder, recordings
from lab_support.instruments.provenance import Machine
from lab_support.instruments.recorder import Experiment
from lab_support.instruments.recordings import Recording
from lab_support.notebook.gate import bundle_of
from lab_support.notebook.plots import Picture

Draw = Callable[[Recording], Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A result with where it comes from. In a notebook it shows itself.

    run: what was seen, or None. live: whether it was seen here, just now. missing: why there is nothing to see.
    """

    name: str
    run: Recording | None
    live: bool
    missing: str
    draw: Draw

    @property
    def title(self) -> str:
        """Where it comes from, in one line."""
        if self.run is None:
            return f"NOT SHOWN: {self.missing}."
        label = self.run.label.removeprefix("recorded on ")
        return f"{self.name}, {'MEASURED HERE, just now, on' if self.live else 'RECORDED on'} {label}"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = bundle_of(self._shown()) if self.run is not None else ({}, {})
        text = f"{self.title}\n{data.get('text/plain', '')}".rstrip()
        style = "border-left:4px solid #8a8a8a;padding:.1em .8em"
        head = f'<div style="{style}">{html.escape(self.title)}</div>'
        return {**data, "text/plain": text, "text/html": head + data.get("text/html", "")}, metadata

    def _shown(self) -> Any:
        assert self.run is not None, "asked for only where there is one"
        try:
            shown = self.draw(self.run)
        except LookupError:
            if self.run.complete:
                raise
            return "It ended before it saw what this figure needs."
        # A picture is all that a front end shows of it: the words have to be in it.
        return shown.with_note(self.title) if isinstance(shown, Picture) else shown

    def __repr__(self) -> str:
        return self._repr_mimebundle_()[0]["text/plain"]


def recorded(name: str, draw: Draw) -> Recorded:
    """Show `draw(recording)` of the experiment `name` (`lab record --list`), a table or a picture.

    It runs here, within the experiment's own deadline, where this machine has what it needs: a GPU, mostly.
    Raises `LookupError` for an experiment that there is not.
    """
    experiment = _experiment(name)
    if run := _here(experiment):
        return Recorded(name, run, True, "", draw)
    try:
        return Recorded(name, recordings.load(name), False, "", draw)
    except recordings.NoRecording:
        missing = (
            f"{name} needs a GPU, and there is no recording of it yet (on a GPU machine: lab record --only {name})"
        )
        return Recorded(name, None, False, missing, draw)


def _experiment(name: str) -> Experiment:
    every = recorder.EXPERIMENTS + recorder.ON_ANY_MACHINE
    for experiment in every:
        if experiment.name == name:
            return experiment
    raise LookupError(f"got experiment {name!r}, expected one of {', '.join(each.name for each in every)}")


def _here(experiment: Experiment) -> Recording | None:
    """A run of just now, or None where this machine can't. One without a GPU is not even asked."""
    if not experiment.with_driver or not doctor.examine().gpus:
        return None
    machine = _machine()
    if recorder.refusal(experiment, machine):
        return None
    print(f"{experiment.name} runs here, on {machine.gpu}, for at most {experiment.seconds:.0f} s …")
    return recorder.run_experiment(experiment, machine, experiment.seconds)


@cache
def _machine() -> Machine:
    """Asked once: it takes seconds."""
    return recorder.look_at_this_machine()

"""Runs the experiments for `lab record`: which, in what order, for how long, and which this machine can't run.

Each runs as `python -m lab_support.experiments.NAME` in a session of its own with a deadline (trial.py). If one
fails, hangs or crashes, that is recorded and the others run. The experiments are not imported here.
"""

import ast
import dataclasses
import importlib.util
import json
import os
import re
import shlex
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lab_support.instruments.record import provenance, recordings
from lab_support.instruments.record.fingerprint import fingerprint
from lab_support.instruments.record.provenance import ROOT, Machine
from lab_support.instruments.record.recordings import Recording
from lab_support.instruments.record.trial import Ended, run_trial
from lab_support.server_packages import SERVER_PACKAGES

BUDGET_SECONDS = 480.0
RESERVE_SECONDS = 12.0
"""Seconds for killing hanging processes and for writing."""
FACTS_SECONDS = 90.0
SERVED = (*SERVER_PACKAGES, "tqdm")
"""Packages of an experiment that starts a server and asks it by `lab load`, which draws with tqdm."""
WAITS = "what a hanging process waits for"
DESCRIPTORS = "which descriptors and mappings a process holds"
ENDS = "when a process is gone, and what is left of it"
MEMORY = "how much host memory a process has"


@dataclass(frozen=True, slots=True)
class Experiment:
    """One program. seconds: its deadline; least: it is not started with fewer seconds left.

    claims: its statements about processes, which a sandboxed kernel can't support. with_…: its needs; with_server
    also records the server's commit.
    """

    number: int
    name: str
    question: str
    seconds: float
    least: float
    claims: tuple[str, ...] = ()
    with_driver: bool = True
    with_torch: bool = True
    with_server: bool = False
    package: str = "lab_support.experiments"

    @property
    def module(self) -> str:
        return f"{self.package}.{self.name}"

    @property
    def file(self) -> Path:
        return _file_of(self.module)


EXPERIMENTS = (
    Experiment(1, "fork_after_cuda", "What happens when a forked child touches CUDA, too?", 70, 15),
    Experiment(4, "driver_after_fork", "What do NVIDIA's own libraries answer in a forked child?", 50, 15, (WAITS,),
               with_torch=False),
    Experiment(5, "guard_bypassed", "Without torch's guard: an error, a hang or a crash?", 90, 30, (WAITS,)),
    Experiment(2, "what_trips_the_guard", "What must a parent touch so that its child may not?", 70, 25),
    Experiment(14, "what_a_touch_leaves", "What does a process hold once it has touched CUDA?", 45, 15, (DESCRIPTORS,)),
    Experiment(8, "memory_as_descriptor", "Can GPU memory be passed on as a descriptor?", 45, 15, (DESCRIPTORS,),
               with_torch=False),
    Experiment(11, "server_step_times", "How long is a step, and when is one front end too few?", 170, 40, (MEMORY,),
               with_server=True),
    Experiment(10, "memory_after_kill", "After kill -9, when is the GPU's memory free?", 100, 40, (ENDS,),
               with_server=True),
    Experiment(13, "server_processes", "Which of the server's processes hold the GPU?", 50, 20, (DESCRIPTORS, MEMORY),
               with_server=True),
    Experiment(9, "context_cost", "What does a CUDA context per process cost?", 75, 30, (MEMORY,)),
    Experiment(7, "cuda_ipc", "What travels when a CUDA tensor goes through a queue?", 75, 25, (ENDS,)),
    Experiment(6, "idle_forked_child", "Whom does a forked child harm that never touches CUDA?", 60, 20,
               (DESCRIPTORS, ENDS)),
    Experiment(3, "fork_before_cuda", "Fork first, CUDA afterwards: does it work?", 60, 15),
)  # fmt: skip
"""In the order of running, the most valuable first."""

ON_ANY_MACHINE = (
    Experiment(12, "start_methods", "What does a child cost, by start method?", 470, 150,
               with_driver=False, with_torch=False),
    Experiment(15, "lost_starts", "How often is a probed port gone when it is bound?", 120, 30,
               with_driver=False, with_torch=False),
    Experiment(16, "fate_matrix", "Who notices the death of a process, and what do clients get?", 640, 60, (ENDS,),
               with_driver=False, with_torch=False, with_server=True),
)  # fmt: skip
"""Need no GPU. They run only if --only names them, because time on a GPU machine is for the GPU."""


# ---- the whole set ---------------------------------------------------------------------------------------------------


def record(only: list[str], out: Path, budget: float, commit: str, experiments: tuple[Experiment, ...] = ()) -> int:
    """Run the experiments that can run here and write them to `out`; prints a line each. The command's exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # end like Ctrl-C, which kills everything that was started
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    every = experiments or (EXPERIMENTS + (ON_ANY_MACHINE if only else ()))
    chosen = [one for one in every if not only or one.name in only or str(one.number) in only]
    machine = look_at_this_machine()
    print(describe(machine), flush=True)
    with Output(out) as output:
        ends = [_one(experiment, machine, output, budget - (time.monotonic() - began), commit) for experiment in chosen]
        output.say(_summary(chosen, ends, time.monotonic() - began))
    refused = "refused" in ends and bool(only)
    return int(refused or "failed" in ends)


def _one(experiment: Experiment, machine: Machine, output: "Output", left: float, commit: str) -> str:
    """Run one experiment: "recorded", "failed" (recorded, too), "refused", or "not run"."""
    head = f"{experiment.number:>3}  {experiment.name:24}"
    if reason := refusal(experiment, machine):
        output.say(f"{head}can't run here: {reason}")
        return "refused"
    if left - RESERVE_SECONDS < experiment.least:
        output.say(f"{head}not run: {max(0.0, left):.0f} s left, it needs {experiment.least + RESERVE_SECONDS:.0f}")
        return "not run"
    output.say(f"{head}… ({experiment.question})")
    recording = run_experiment(experiment, machine, min(experiment.seconds, left - RESERVE_SECONDS), commit)
    output.write(recording)
    left_behind = f", {len(recording.left)} processes left behind and killed" if recording.left else ""
    output.say(f"{head}{recording.outcome} in {recording.seconds:.1f} s, {len(recording.samples)} samples{left_behind}")
    if not recording.complete:
        output.say("\n".join(f"       {line}" for line in recording.errors.splitlines()[-12:]))
    return "recorded" if recording.complete else "failed"


def _summary(chosen: list[Experiment], ends: list[str], seconds: float) -> str:
    lines = [f"{ends.count('recorded')} of {len(chosen)} recorded in {seconds:.0f} s."]
    for end in ("failed", "not run", "refused"):
        names = [experiment.name for experiment, found in zip(chosen, ends, strict=True) if found == end]
        lines += [f"{end}: {', '.join(names)}"] if names else []
    not_run = [str(experiment.number) for experiment, end in zip(chosen, ends, strict=True) if end == "not run"]
    return "\n".join([*lines, *([f"for the rest: lab record --only {' --only '.join(not_run)}"] if not_run else [])])


def refusal(experiment: Experiment, machine: Machine) -> str:
    """Why this machine can't run it; "" if it can."""
    missing = [name for name in SERVED if experiment.with_server and importlib.util.find_spec(name) is None]
    reasons = [machine.torch_problem] if experiment.with_torch and machine.torch_problem else []
    reasons += [f"the driver: {machine.driver_problem}"] if experiment.with_driver and machine.driver_problem else []
    reasons += [f"not installed: {', '.join(missing)}: pip install -r requirements.txt"] if missing else []
    return "; ".join(reasons)


def look_at_this_machine() -> Machine:
    """Ask torch and the driver, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="rec-") as folder:
        command = [sys.executable, "-m", "lab_support.experiments.gpu_facts"]
        run_trial(command, deadline=FACTS_SECONDS, environment=environment(Path(folder)), folder=Path(folder))
        return provenance.machine(read_samples(Path(folder)))


def describe(machine: Machine) -> str:
    gpu = f"{machine.gpus} × {machine.gpu}, driver {machine.driver}" if machine.gpu else "no GPU"
    lines = [f"{machine.machine}; {gpu}; torch {machine.torch or 'none'}; Python {machine.python}; {machine.kernel}"]
    if machine.sandbox:
        lines.append(f"The kernel is a sandbox, {machine.sandbox}: claims on processes are refused.")
    return "\n".join(lines)


# ---- one experiment --------------------------------------------------------------------------------------------------


def run_experiment(
    experiment: Experiment, machine: Machine, seconds: float, commit: str = "", words: Sequence[str] = ()
) -> Recording:
    """Run it with a deadline of `seconds`. It is told to end 3 s sooner. words: further ones of its command line."""
    words = ["-m", experiment.module, "--seconds", f"{seconds - 3:.0f}", *words]
    date = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="rec-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        ended = run_trial([sys.executable, *words], deadline=seconds, environment=environment(folder), folder=folder)
        samples = read_samples(folder)
    recording = _recording(experiment, machine, ended, samples, date, "python " + shlex.join(words), commit)
    return recordings.from_json(without_paths(recordings.to_json(recording), name))


def _recording(
    experiment: Experiment, machine: Machine, ended: Ended, samples: list[dict], date: str, command: str, commit: str
) -> Recording:
    sources = sources_of(experiment.file)
    with_server = experiment.with_server
    return Recording(
        name=experiment.name,
        number=experiment.number,
        question=experiment.question,
        machine=machine,
        command=command,
        date=date,
        seconds=ended.seconds,
        exit_code=ended.exit_code,
        signal=ended.signal,
        timed_out=ended.timed_out,
        sha256=sources[str(experiment.file.relative_to(ROOT))],
        sources=sources,
        server_commit=(commit or provenance.server_commit()) if with_server else "",
        server_sha256=provenance.server_hash() if with_server else "",
        refused=experiment.claims if machine.sandbox else (),
        output=ended.output,
        errors=ended.errors,
        hung=tuple(dataclasses.asdict(one) for one in ended.hung),
        left=tuple(dataclasses.asdict(one) for one in ended.left),
        samples=tuple(samples),
    )


def environment(folder: Path) -> dict[str, str]:
    """An experiment's environment: this repository importable, one GPU visible, torch's own variables unset."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTORCH_", "LAB_"))}
    temporary = folder / "t"
    temporary.mkdir()
    return kept | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")])),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(temporary),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": kept.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0],
        "LAB_SAMPLES": str(folder / "samples"),
    }


def read_samples(folder: Path) -> list[dict]:
    """The samples written before the end, even by a kill; a line that was cut off is left out."""
    file = folder / "samples"
    lines = file.read_text(errors="replace").splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def without_paths(text: str, folder: str) -> str:
    """`text` without this machine's own folders. A prefix such as /usr is not private and stays."""
    prefixes = [path for path in (sys.prefix, sys.base_prefix) if path.count("/") > 2]
    home = str(Path.home())
    places = {str(ROOT): ".", folder: "$TMP", **dict.fromkeys(prefixes, "$PYTHON")}
    places |= {home: "~"} if len(home) > 1 else {}
    for place in sorted(places, key=len, reverse=True):
        text = re.sub(re.escape(place) + r"(?![\w-])", places[place].replace("\\", ""), text)
    return text


# ---- what an experiment is made of -----------------------------------------------------------------------------------


def sources_of(file: Path) -> dict[str, str]:
    """The fingerprints of `file` and of all our files that it imports, directly or not, by path in the repository."""
    found: dict[Path, str] = {}
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = fingerprint(path)
            waiting += _imported_files(path)
    return {str(path.relative_to(ROOT)): found[path] for path in sorted(found)}


def _imported_files(path: Path) -> list[Path]:
    modules = [node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    files = [_file_of(module) for module in modules if module.startswith(("lab_support.", "tests."))]
    return [file for file in files if file.is_file()]


def _file_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


# ---- where it goes ---------------------------------------------------------------------------------------------------


class Output:
    """A folder, or FILE.tar: one archive with every recording and the log. A context manager.

    The archive is complete after each recording, so that a kill loses only the running experiment.
    """

    def __init__(self, out: Path) -> None:
        self._archive = out if out.suffix == ".tar" else None
        self._folder = Path(tempfile.mkdtemp(prefix="recs-")) if self._archive else out
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lines: list[str] = []

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._archive:
            self._pack()
            for file in self._folder.iterdir():
                file.unlink()
            self._folder.rmdir()

    def say(self, line: str) -> None:
        print(line, flush=True)
        self._lines.append(line)

    def write(self, recording: Recording) -> None:
        file = self._folder / f"{recording.name}.json"
        file.with_suffix(".part").write_text(recordings.to_json(recording))
        file.with_suffix(".part").replace(file)
        if self._archive:
            self._pack()

    def _pack(self) -> None:
        assert self._archive is not None
        (self._folder / "log.txt").write_text("\n".join(self._lines) + "\n")
        part = self._archive.with_name(self._archive.name + ".part")
        with tarfile.open(part, "w") as archive:
            for file in sorted(self._folder.iterdir()):
                archive.add(file, arcname=file.name)
        part.replace(self._archive)

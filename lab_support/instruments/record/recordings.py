"""Measured runs and their origin: `load("fork_after_cuda")` for a notebook; `lab record` makes and lists them.

A recording is one JSON file in data/recordings, written by a run of its experiment and by nothing else. It knows
whether its experiment has changed since (stale) and whether its server is an older one. recorder.py runs the
experiments. Nothing heavy is imported here.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_support.instruments.record import provenance
from lab_support.instruments.record.fingerprint import file_now, fingerprint
from lab_support.instruments.record.provenance import ROOT, Machine

FOLDER = ROOT / "data" / "recordings"
FORMAT = 1


class NoRecording(LookupError):
    """There is no recording of that name. The text lists those that exist and says how to make one."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One experiment's run.

    machine: where it ran. command, date (UTC, ISO 8601), seconds, exit_code, signal, timed_out: how it ran. sha256: the
    fingerprint of the experiment's own file; sources: of each file of ours in it, by its path at that time.
    server_commit, server_sha256: of the server if one took part, else "". samples: as the experiment wrote them. hung,
    left: processes at its deadline, and left behind. refused: claims that this machine's kernel can't support.
    """

    name: str
    number: int
    question: str
    machine: Machine
    command: str
    date: str
    seconds: float
    exit_code: int | None
    signal: str
    timed_out: bool
    sha256: str
    sources: dict[str, str]
    server_commit: str
    server_sha256: str
    refused: tuple[str, ...]
    output: str
    errors: str
    hung: tuple[dict[str, Any], ...]
    left: tuple[dict[str, Any], ...]
    samples: tuple[dict[str, Any], ...]

    @property
    def complete(self) -> bool:
        """Whether the experiment ran to its own end."""
        return self.exit_code == 0 and not self.timed_out

    @property
    def outcome(self) -> str:
        if self.timed_out:
            return "timed out"
        return "complete" if self.complete else f"failed ({self.signal or f'exit code {self.exit_code}'})"

    @property
    def is_stale(self) -> bool:
        """Whether the code of one of the experiment's files has changed since. Comments and file names don't count."""
        return any(_hash_now(path) != sha256 for path, sha256 in self.sources.items())

    @property
    def is_of_older_server(self) -> bool:
        """Whether its server differs from the present one. That is not stale: it reports that server's run."""
        return bool(self.server_sha256) and self.server_sha256 != provenance.server_hash()

    @property
    def label(self) -> str:
        """One sentence for the title of a figure."""
        where = self.machine
        cuda = [f"driver {where.driver}", f"CUDA {where.cuda or where.torch_cuda}"] if where.gpu else []
        python = [] if where.gpu else [f"Python {where.python}"]
        parts = [*cuda, f"torch {where.torch}", *python, where.kernel]
        server = f", server at {self.server_commit[:10]}" if self.server_commit else ""
        notes = [] if self.complete else [self.outcome]
        notes += ["the experiment has changed since"] if self.is_stale else []
        notes += ["older server"] if self.is_of_older_server else []
        notes += [f"on a sandboxed kernel, {where.sandbox}: says nothing of processes"] if where.sandbox else []
        text = f"recorded on {where.gpu or where.machine} with {', '.join(parts)}{server}, {self.date[:10]}"
        return "; ".join([text, *notes])

    def of(self, what: str, **fields: Any) -> list[dict[str, Any]]:
        """The samples called `what` whose fields have these values, in the order of writing."""
        wanted = {"what": what, **fields}
        return [sample for sample in self.samples if all(sample.get(key) == value for key, value in wanted.items())]


def _hash_now(path: str) -> str:
    file = ROOT / file_now(path)
    return fingerprint(file) if file.is_file() else ""


# ---- reading and writing ---------------------------------------------------------------------------------------------


def load(name: str, folder: Path = FOLDER) -> Recording:
    """The recording of the experiment `name`. Raises `NoRecording`."""
    file = folder / f"{name}.json"
    if not file.is_file():
        there = ", ".join(sorted(path.stem for path in folder.glob("*.json"))) or "none"
        raise NoRecording(
            f"got no recording of {name!r}; there are: {there}. On a machine that can run it: lab record --only {name}"
        )
    return from_json(file.read_text())


def load_all(folder: Path = FOLDER) -> list[Recording]:
    """Every recording in `folder`, by number."""
    found = [from_json(file.read_text()) for file in folder.glob("*.json")]
    return sorted(found, key=lambda recording: recording.number)


def to_json(recording: Recording) -> str:
    """Readable JSON with one line for each sample, so that a diff shows changes."""
    fields = {"format": FORMAT, **dataclasses.asdict(recording)}
    samples = ",\n".join("  " + json.dumps(sample, ensure_ascii=False) for sample in fields.pop("samples"))
    head = json.dumps(fields, indent=1, ensure_ascii=False)
    return f'{head.removesuffix("}").rstrip()},\n "samples": [\n{samples}\n ]\n}}\n'


def from_json(text: str) -> Recording:
    """Raises ValueError for any format but the one that this version writes."""
    fields = json.loads(text)
    if fields.pop("format", None) != FORMAT:
        raise ValueError(f"got a recording of another format, expected {FORMAT}; record it again")
    for name in ("refused", "hung", "left", "samples"):
        fields[name] = tuple(fields[name])
    return Recording(**fields | {"machine": Machine(**fields["machine"])})

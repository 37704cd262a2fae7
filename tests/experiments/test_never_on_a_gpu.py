"""data/recordings/README.md says which functions need a GPU and have never had one: this keeps its list in step."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from lab_support.instruments import recordings
from lab_support.instruments.provenance import ROOT
from lab_support.instruments.recorder import EXPERIMENTS

README = ROOT / "data" / "recordings" / "README.md"
HOUSES = ("lab_support/engine", "lab_support/experiments", "lab_support/processes")
# What only a GPU can answer: torch's CUDA, branches for it, memory pinned for it, and NVIDIA's libraries.
NEEDS_ONE = re.compile(r"torch\.cuda\.|[!=]= 'cuda'|\bpin_memory\(|\b(Nvml|NvidiaSmi|Driver|Runtime)\(\)|_share_cuda_")
WHOLE_CLASSES = {"Driver", "Runtime", "Nvml", "NvidiaSmi"}


def functions(path: Path) -> Iterator[str]:
    """Functions, methods and classes of `path` with such a line."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name in WHOLE_CLASSES:
            yield node.name
        elif isinstance(node, ast.ClassDef):
            methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
            yield from (f"{node.name}.{one.name}" for one in methods if NEEDS_ONE.search(ast.unparse(one)))
        elif isinstance(node, ast.FunctionDef) and NEEDS_ONE.search(ast.unparse(node)):
            yield node.name


def test_the_readme_lists_every_function_that_has_lines_for_a_gpu():
    found = {
        str(path.relative_to(ROOT)): names
        for house in HOUSES
        for path in sorted((ROOT / house).glob("*.py"))
        if (names := set(functions(path)))
    }
    rows = re.findall(r"^\| `(lab_support/\S+\.py)` \| (.+?) \|", README.read_text(), re.MULTILINE)
    listed = {path: set(re.findall(r"`([\w.]+)`", names)) for path, names in rows}
    assert listed == found


def test_the_readme_says_what_each_recording_is_and_that_there_is_none_while_there_is_none():
    text = README.read_text()
    for experiment in EXPERIMENTS:
        assert f"| {experiment.number} | `{experiment.name}` |" in text
    made = {recording.name for recording in recordings.load_all()}
    assert ("There is none yet" in text) == (not made)

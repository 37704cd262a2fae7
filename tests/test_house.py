"""The plan of the house, as code: what may import what, and which library lives in which room."""

import ast
import re
import sys
from pathlib import Path

import pytest

import lab_support
from lab_support.server_packages import SERVER_PACKAGES

HOUSE = Path(lab_support.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))

# The rooms from which each room may import. All may import the top of the house (config, generation, …).
MAY_IMPORT = {
    "processes": {"processes", "frontend", "engine", "supervision", "boundary", "tracing"},
    "frontend": {"frontend", "boundary", "tracing"},
    "supervision": {"supervision", "boundary", "tracing"},
    "boundary": {"boundary", "tracing"},
    "engine": {"engine"},
    "tracing": {"tracing"},  # below all of them, and the format that `lab trace` reads: it imports nothing of ours
    "instruments": {"instruments", "tracing"},
    "watch": {"watch", "instruments"},
    "notebook": {"notebook", "watch", "instruments"},
    "experiments": {"experiments", "instruments"},  # a third tower: nobody imports it, it starts the server as users do
}
# The neighbours from which each room within a room may import. The files of notebook/ and of frontend/ are above these
# rooms; those of the rooms in BELOW are below.
BELOW = {"boundary", "engine", "instruments"}
NEIGHBOURS = {
    "boundary/vllm": set(),
    "engine/paced": set(),
    "experiments/cuda": set(),
    "experiments/fates": set(),
    "experiments/ports": set(),
    "engine/blocks": set(),
    "frontend/trace": set(),
    "frontend/http": {"trace"},
    "frontend/text": set(),
    "frontend/request": {"text", "http"},
    "frontend/routing": set(),
    "frontend/metrics": {"request"},
    "frontend/answer": {"routing", "metrics", "request", "text", "http", "trace"},
    "instruments/load": set(),
    "instruments/record": set(),
    "instruments/trace": set(),
    "instruments/xray": set(),
    "notebook/page": set(),
    "notebook/cells": {"page"},
    "notebook/stages": set(),
    "notebook/servers": {"cells", "page", "stages"},
    "notebook/canvas": {"page"},
    "notebook/figures": {"canvas", "servers", "cells", "page"},
    "notebook/live": {"figures", "servers", "page"},
    "notebook/recordings": {"canvas", "figures", "page"},
    "notebook/moves": {"canvas", "figures", "cells", "page"},
    "notebook/publishing": {"moves", "page"},
}
LIVES_IN = {
    "torch": {"engine", "experiments"},
    "triton": {"engine"},
    "zmq": {"boundary"},
    "uvicorn": {"frontend"},
    "uvloop": {"processes"},
    "starlette": {"frontend"},
    "tokenizers": {"frontend"},
    "jinja2": {"frontend"},
    "prometheus_client": {"frontend"},
    "IPython": {"notebook"},
    "ipywidgets": {"notebook"},
    "matplotlib": {"notebook"},
}


def room_of(path: Path) -> str:
    relative = path.relative_to(HOUSE)
    return relative.parts[0] if len(relative.parts) > 1 else ""


def imported(path: Path) -> set[str]:
    """Every module that the file imports, anywhere in it; names for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; name the module in full"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_point_down(path: Path) -> None:
    allowed = MAY_IMPORT.get(room_of(path))
    if allowed is None:
        return  # the top: `__main__` may start anything
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("lab_support.")}
    assert rooms & set(MAY_IMPORT) <= allowed


@pytest.mark.parametrize("room", NEIGHBOURS)
def test_rooms_within_a_room_have_an_order(room: str) -> None:
    within = f"lab_support.{room.split('/')[0]}."
    own = room.split("/")[1]
    imports = {name for path in (HOUSE / room).rglob("*.py") for name in imported(path) if name.startswith(within)}
    neighbours = {name.removeprefix(within).split(".")[0] for name in imports} - {own}
    rooms = {each.name for each in (HOUSE / room).parent.iterdir() if (each / "__init__.py").exists()}
    assert neighbours & rooms <= NEIGHBOURS[room]
    assert room.split("/")[0] in BELOW or neighbours <= rooms


def test_every_room_within_a_room_is_named_here() -> None:
    rooms = {str(path.parent.relative_to(HOUSE)) for path in HOUSE.glob("*/*/__init__.py")}
    assert {room for room in rooms if not room.startswith("old_paths/")} == set(NEIGHBOURS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    libraries = {name.split(".")[0] for name in imported(path)} & set(LIVES_IN)
    strangers = {library for library in libraries if room_of(path) not in LIVES_IN[library]}
    assert not strangers


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_every_file_says_what_it_is(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text or not path.read_text().strip()


@pytest.mark.parametrize("path", sorted((HOUSE / "processes").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_every_process_has_its_card(path: Path) -> None:
    card = ast.get_docstring(ast.parse(path.read_text())) or ""
    for line in ("Runs as:", "Started by:", "Receives:", "Sends:", "Holds:", "Dies when:"):
        assert f"\n{line}" in card


def test_nothing_starts_a_process_but_start_method() -> None:
    """For the server's files only, not for the notebooks' own processes."""
    for path in FILES:
        if (
            room_of(path) in {"processes", "frontend", "supervision", "boundary", "engine"}
            and path.name != "start_method.py"
        ):
            makers = {"subprocess", "multiprocessing.Process", "multiprocessing.get_context", "os.fork"}
            assert not makers & imported(path), path


def test_signals_are_named_by_the_one_function_that_knows_them_all() -> None:
    """But in experiments, which import nothing that their recordings don't name, and end children by known signals."""
    for path in FILES:
        if room_of(path) != "experiments" and path.name != "signal_names.py":
            assert "signal.Signals(" not in path.read_text(), path


def test_the_map_names_every_room_and_only_files_that_exist() -> None:
    text = lab_support.__doc__ or ""
    rooms = {path.name for path in HOUSE.iterdir() if (path / "__init__.py").exists()}
    assert rooms == {line.split("/")[0].strip() for line in text.splitlines() if line.startswith("    ")}
    for name in re.findall(r"[a-z_/]+/[a-z_]+\.py", text):
        assert (HOUSE / name).exists(), name


def test_the_packages_that_the_server_needs_are_listed_once_and_all() -> None:
    rooms = {"processes", "frontend", "boundary", "supervision", "engine", "model_folder", "pace", "tracing"}
    files = [path for path in FILES if room_of(path) in rooms]
    named = {name.split(".")[0] for path in files for name in imported(path)}
    foreign = named - set(sys.stdlib_module_names) - {"lab_support", ""}
    # uvicorn imports uvloop and httptools by itself. Triton comes with torch, where torch has CUDA.
    assert foreign - {"triton"} | {"uvloop", "httptools"} == set(SERVER_PACKAGES)

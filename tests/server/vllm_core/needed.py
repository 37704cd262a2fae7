"""vLLM's engine core, which these tests need: the Python of its environment in VLLM_PYTHON; and a stand-in for it."""

import os
import sys
from pathlib import Path

import pytest

VLLM_PYTHON = os.environ.get("VLLM_PYTHON", "")
WITH_VLLM = [
    pytest.mark.slow,
    pytest.mark.skipif(not VLLM_PYTHON, reason="VLLM_PYTHON names no Python of an environment that has vllm"),
]
ROOT = Path(__file__).parents[3]


def make_fake_vllm(folder: Path, version: str = "0.32.0") -> Path:
    """An environment with `fake_vllm.py` in the place of vllm. The path of its Python."""
    package = folder / "site" / "vllm" / "entrypoints" / "cli"
    package.mkdir(parents=True)
    for each in (package, *package.parents[:2]):
        (each / "__init__.py").touch()
    (package / "main.py").write_text(
        "from tests.server.vllm_core.fake_vllm import main\nif __name__ == '__main__':\n    main()\n"
    )
    (folder / "site" / f"vllm-{version}.dist-info").mkdir()
    (folder / "site" / f"vllm-{version}.dist-info" / "METADATA").write_text(f"Name: vllm\nVersion: {version}\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder / "site"}:{ROOT} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python

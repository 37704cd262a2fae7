"""The environments of the peers: which are there, and the versions in them."""

import os
import sys
from pathlib import Path

from tests.benchmarks.peers.kinds import OURS, Peer

ENVIRONMENTS = "PEERS_ENVIRONMENTS"
"""The variable that names their folder, because a recording keeps command lines, and no folders of a machine."""
INSTALLED = "installed"
"""A file that is written at the end of an installation."""


def environments() -> Path | None:
    folder = os.environ.get(ENVIRONMENTS)
    return Path(folder) if folder else None


def python_of(peer: Peer) -> Path | None:
    """The Python that has the peer; None if it isn't installed, or only half."""
    if peer.name == OURS:
        return Path(sys.executable)
    folder = environments()
    home = folder / peer.home if folder else None
    return home / "bin" / "python" if home and (home / INSTALLED).exists() else None


def versions_of(peer: Peer, python: Path) -> dict[str, str]:
    """The versions of the packages that its row names, by the folders that pip has made for them."""
    found = {}
    for package in (*peer.versions, "torch"):
        for folder in python.parent.parent.glob(f"lib/python3*/site-packages/{package.replace('-', '_')}-*.dist-info"):
            found[package] = folder.name.removesuffix(".dist-info").partition("-")[2]
    return found

"""The mount of a path, in a mount namespace with odd names, asked in a process of its own."""

import os
import subprocess
import sys

import pytest

from lab_support.mounts import mount_of, read_mounts
from tests.instruments.as_nobody import needs_root

ASK = "import os, sys; from lab_support.mounts import mount_of; print(*(mount_of(path).kind for path in sys.argv[1:]))"


def test_the_root_is_mounted():
    assert mount_of("/") and read_mounts()


@needs_root
def test_places_of_any_name_are_told_apart(tmp_path):
    """A space, a byte that is not UTF-8, a link that leads there, and a mount that covers another."""
    names = [b"a b", b"a\xe9", b"a\n\\040"]
    places = [os.fsdecode(os.fsencode(tmp_path) + b"/" + name) for name in names]
    for place in places:
        os.mkdir(place)
    os.symlink(places[0], tmp_path / "link")
    script = 'for place in "${@:2}"; do mount -t tmpfs none "$place" || exit 77; done; '
    script += 'mount -t ramfs none "$3" || exit 77; exec "$0" -c "$1" "${@:2}" "$TMP" "$LINK"'
    command = ["unshare", "--mount", "bash", "-c", script]
    done = subprocess.run(
        [*command, sys.executable, ASK, *places],
        env=os.environ | {"TMP": str(tmp_path), "LINK": str(tmp_path / "link")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"mounts can't be made here: {done.stderr}")
    here = mount_of(str(tmp_path))
    assert done.stdout.split() == ["tmpfs", "ramfs", "tmpfs", here.kind, "tmpfs"], done.stderr

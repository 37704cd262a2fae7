"""The sockets under the channels: each has a new name, and if one fails none stays open."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from lab_support.boundary.inheritance import LOADS, ChannelSockets


def sockets_in(folder: Path, count: int = 2, with_coordinator: bool = False) -> ChannelSockets:
    return ChannelSockets(lambda name: str(folder / f"{name}.sock"), count, with_coordinator)


def test_at_first_there_is_one_pair_for_each_api_server(tmp_path: Path) -> None:
    with sockets_in(tmp_path, with_coordinator=True) as sockets:
        assert sockets.bind_for(1) == (sockets.inputs[1], sockets.outputs[1])
        assert {path.stem for path in tmp_path.iterdir()} == {
            *("api-0-in", "api-0-out", "api-1-in", "api-1-out"),
            *("stats", LOADS),
        }
        assert len(sockets.addresses.inputs) == len(sockets.addresses.outputs) == 2


def test_a_successor_in_the_same_slot_has_names_of_its_own(tmp_path: Path) -> None:
    """An engine core that is still on its way to the predecessor must not arrive at the successor."""
    with sockets_in(tmp_path, count=1) as sockets:
        names = {sockets.inputs[0].getsockname(), sockets.outputs[0].getsockname()}
    for _ in range(3):
        made = sockets.bind_for(0)
        with made[0], made[1]:
            assert not {each.getsockname() for each in made} & names
            names |= {each.getsockname() for each in made}
            for path in names - {each.getsockname() for each in made}:
                with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
                    late.connect(path)
    assert {str(path) for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("which", ["in", "out"])
def test_where_one_cannot_be_made_none_stays_open(tmp_path: Path, which: str) -> None:
    """The folder is gone, or the disk has no room for a name: the launcher tries again later."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with sockets_in(folder) as sockets:
        pass
    if which == "in":
        shutil.rmtree(folder)
    else:
        (folder / "api-0.2-out.sock").touch()
    before = os.listdir("/dev/fd")
    with pytest.raises(OSError, match=r"No such file|Address already in use"):
        sockets.bind_for(0)
    assert os.listdir("/dev/fd") == before


def test_where_the_first_ones_cannot_be_made_none_stays_open(tmp_path: Path) -> None:
    (tmp_path / "stats.sock").touch()
    before = os.listdir("/dev/fd")
    with pytest.raises(OSError, match="Address already in use"):
        sockets_in(tmp_path, with_coordinator=True)
    assert os.listdir("/dev/fd") == before

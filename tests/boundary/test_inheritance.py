"""The sockets under the channels: each has a name that nobody had before, and where one fails none stays open."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from lab_support.boundary.inheritance import LOADS, ChannelListeners


def listeners_in(folder: Path, count: int = 2, with_coordinator: bool = False) -> ChannelListeners:
    return ChannelListeners(lambda name: str(folder / f"{name}.sock"), count, with_coordinator)


def test_at_first_there_is_one_pair_for_each_api_server(tmp_path: Path) -> None:
    with listeners_in(tmp_path, with_coordinator=True) as listeners:
        assert listeners.of(1) == (listeners.inputs[1], listeners.outputs[1])
        assert {path.stem for path in tmp_path.iterdir()} == {
            *("api-0-in", "api-0-out", "api-1-in", "api-1-out"),
            *("stats", LOADS),
        }
        assert len(listeners.addresses.inputs) == len(listeners.addresses.outputs) == 2


def test_a_successor_in_the_same_slot_has_names_of_its_own(tmp_path: Path) -> None:
    """An engine core that is still on its way to the predecessor must not arrive at the successor."""
    with listeners_in(tmp_path, count=1) as listeners:
        names = {listeners.inputs[0].getsockname(), listeners.outputs[0].getsockname()}
    for _ in range(3):
        made = listeners.of(0)
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
    with listeners_in(folder) as listeners:
        pass
    if which == "in":
        shutil.rmtree(folder)
    else:
        (folder / "api-0.2-out.sock").touch()
    before = os.listdir("/dev/fd")
    with pytest.raises(OSError, match=r"No such file|Address already in use"):
        listeners.of(0)
    assert os.listdir("/dev/fd") == before


def test_where_the_first_ones_cannot_be_made_none_stays_open(tmp_path: Path) -> None:
    (tmp_path / "stats.sock").touch()
    before = os.listdir("/dev/fd")
    with pytest.raises(OSError, match="Address already in use"):
        listeners_in(tmp_path, with_coordinator=True)
    assert os.listdir("/dev/fd") == before

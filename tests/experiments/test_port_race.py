"""Launchers that race for ports: real processes, whose losses are known in advance, because too few ports are there."""

import json
import os
import subprocess
import sys

import pytest

from lab_support.experiments.ports.early_client import ANSWERED, CONNECTED, MISSING, NO_ADDRESS, REFUSED
from lab_support.experiments.ports.port_range import PortRange, address_of
from lab_support.instruments import proc
from lab_support.instruments.record.provenance import ROOT

_RACES = """
import faulthandler, json, os, socket
faulthandler.enable()
from lab_support.experiments.ports.race import race
from lab_support.experiments.ports.port_range import PortRange, address_of

ports = PortRange.of(12)

def probe():
    with ports.bind() as sock:
        return sock.getsockname()

def bind(host, port):
    return socket.create_server((host, port))

def passed():
    sock = ports.bind()
    sock.listen()
    return address_of(sock), sock

def greet(address, sock):
    sock.accept()[0].send(b"!")
    return sock

print(json.dumps({
    "narrow": ports.narrow,
    "alone": race(1, probe, bind, starts=20),
    "crowd": race(16, probe, bind, starts=40),
    "passed": race(8, passed, greet, starts=24, clients=True),
    "bound only": race(1, lambda: (address_of(sock := ports.bind()), sock), lambda *_: 1, starts=1, clients=True),
    "no path": race(1, lambda: ["ipc:///no/such/folder/name"], lambda _: 1, starts=1, clients=True),
    "no address": race(1, lambda: ["tcp://127.0.0.1:*"], lambda _: 1, starts=1, clients=True),
    "raises": race(2, probe, lambda *_: 1 // 0, starts=6),
    "aborts": race(2, probe, lambda *_: os.abort(), starts=6),
    "ends": race(2, probe, lambda *_: os._exit(3), starts=6),
    "no launch": race(2, lambda: 1 // 0, bind, starts=6),
}))
"""


@pytest.fixture(scope="module")
def races() -> dict:
    """In a program of its own: this one has threads, and would be forked with all that pytest has."""
    done = subprocess.run([sys.executable, "-c", _RACES], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "the stacks of a crowd that aborts would hide what the race found"
    found = json.loads(done.stdout)
    if not found["narrow"]:
        pytest.skip("this kernel can't narrow the range of one socket")
    return found


def test_one_launcher_alone_loses_no_start(races):
    assert (races["alone"]["lost"], races["alone"]["came"]) == (0, {"bound": 20})


def test_where_launchers_outnumber_ports_those_without_one_of_their_own_are_lost(races):
    crowd = races["crowd"]
    assert crowd["starts"] == 40 and len(crowd["addresses"]) <= 12
    assert crowd["lost"] >= 2 * (16 - 12), "by counting: two full rounds of 16 launchers, and 12 ports"
    assert crowd["came"] == {"bound": 40 - crowd["lost"], "lost": crowd["lost"]}


def test_no_start_is_lost_with_a_socket_that_is_passed_on_and_its_early_client_is_answered(races):
    passed = races["passed"]
    assert (passed["starts"], passed["lost"], passed["came"]) == (24, 0, {"bound": 24})
    assert (passed["clients"], passed["answers"]) == ({CONNECTED: 24}, {ANSWERED: 24})


def test_an_early_client_is_refused_where_nobody_listens_and_has_no_address_where_none_is_known(races):
    assert races["bound only"]["clients"] == {REFUSED: 1}
    assert races["no path"]["clients"] == {MISSING: 1}
    assert races["no address"]["clients"] == {NO_ADDRESS: 1}


@pytest.mark.parametrize(
    ("race", "came"),
    [
        ("raises", "ZeroDivisionError: integer division or modulo by zero"),
        ("no launch", "ZeroDivisionError: integer division or modulo by zero"),
        ("ends", "ended with exit code 3"),
        ("aborts", "ended by SIGABRT"),
    ],
)
def test_another_end_of_a_start_is_told_and_stops_the_race_after_its_round(races, race, came):
    assert (races[race]["starts"], races[race]["came"]) == (2, {came: 2})


def test_no_process_is_left_of_a_race(races):
    assert not [one for one in proc.all_processes() if _RACES in one.title and not one.ended]


def test_where_the_range_cant_be_narrowed_the_machine_s_own_is_taken():
    wide = PortRange("127.0.0.1", 1, 2, narrow=False)
    with wide.bind() as sock:
        assert sock.getsockname()[1] > 2 and address_of(sock).startswith("tcp://127.0.0.1:")


@pytest.mark.slow
def test_the_recorded_program_measures_each_number_of_launchers():
    command = [sys.executable, "-m", "lab_support.experiments.lost_starts", "--repeats", "1"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAB_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=kept)
    assert done.returncode == 0, done.stderr
    *races, ports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["what"], one["launchers"], one["starts"]) for one in races] == [
        ("race", launchers, 200) for launchers in (1, 2, 4, 8, 16)
    ]
    assert races[0]["lost"] == 0
    assert ports["what"] == "ports" and (not ports["narrow"] or ports["drawn"] <= ports["range"] == 200)

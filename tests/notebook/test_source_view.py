"""The server's own code, shown from its file."""

import inspect
import sys
import textwrap

import pytest

import lab_support.notebook as lab


def test_a_method_is_shown_whole_with_its_place():
    from lab_support.instruments.proc import Process

    view = lab.source("lab_support.instruments.proc", "Process.ended")
    place, _, text = view.text.partition("\n")
    assert text.strip() == textwrap.dedent(inspect.getsource(Process.ended.fget)).strip()
    first = inspect.getsourcelines(Process.ended.fget)[1]
    assert place == f"# lab_support/instruments/proc.py, lines {first} to {first + 3}: Process.ended"


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        ("lab_support.boundary.channels", "ApiServerChannels", "class ApiServerChannels:"),
        ("lab_support.processes.api_server", "main", "def main("),
        ("lab_support.boundary.channels", "COORDINATOR", "COORDINATOR = -1"),
        ("multiprocessing.popen_spawn_posix", "Popen._launch", "def _launch(self, process_obj):"),
        ("multiprocessing.reduction", "_reduce_socket", "df = DupFd(s.fileno())"),
    ],
)
def test_functions_classes_and_values_are_found(module, name, words):
    view = lab.source(module, name)
    assert words in view.text
    assert "span" in view.html


def test_without_a_name_a_kind_of_process_shows_its_card():
    assert "Started by:" in lab.source("lab_support.processes.api_server").text


@pytest.mark.parametrize(
    ("module", "name", "told"),
    [
        ("lab_support.boundary.chanels", "x", "got no module 'chanels' in lab_support.boundary, .* channels, children"),
        ("lab_support.boundary.channels", "wait", "got no 'wait' .* ApiServerChannels, EngineCoreChannels"),
        ("lab_support.boundary.channels", "ApiServerChannels.wait", "got no 'wait' .* __enter__, .*watch"),
        ("os.nothing", "x", "it is a file, not a package"),
        ("nothing", "x", "a module in full"),
        ("math", "sin", "which has no Python source"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(module, name, told):
    with pytest.raises(LookupError, match=told):
        lab.source(module, name)


def test_it_imports_nothing():
    before = set(sys.modules)
    lab.source("lab_support.experiments.gpu_facts", "main")
    assert not {name for name in set(sys.modules) - before if "experiments" in name}

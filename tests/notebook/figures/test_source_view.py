"""The server's own code, shown from its file."""

import inspect
import sys
import textwrap

import pytest

import lab_support.notebook as lab
from tests.in_jupyterlab import empty_page, needs_chromium

_JUPYTERLAB = "<style>pre { white-space: pre-wrap; word-break: break-all; overflow-wrap: break-word }</style>"
_BROKEN_WORDS = """() => {
    const texts = document.createTreeWalker(document.querySelector("pre"), NodeFilter.SHOW_TEXT), broken = []
    for (let text = texts.nextNode(); text; text = texts.nextNode())
        for (const word of text.data.matchAll(/[\\w]+/g)) {
            const range = document.createRange()
            range.setStart(text, word.index)
            range.setEnd(text, word.index + word[0].length)
            if (range.getClientRects().length > 1) broken.push(word[0])
        }
    return broken
}"""


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


@pytest.mark.slow
@needs_chromium
def test_what_a_file_says_of_itself_breaks_between_words_however_narrow_the_page():
    shown = lab.source("lab_support.boundary.listen_socket").html
    assert "listen(2)\nat once" not in shown, "a paragraph flows: the file's line ends mean nothing"
    for width in (500, 777, 848):
        with empty_page(width) as page:
            page.set_content(_JUPYTERLAB + shown)
            assert page.evaluate(_BROKEN_WORDS) == []


def test_a_card_and_its_columns_stand_as_in_the_file():
    card = lab.source("lab_support.processes.api_server")
    assert "\nStarted by:  launcher" in card.html and "\n             Addresses, Retire" in card.html
    assert "listen(2)\nat once" in lab.source("lab_support.boundary.listen_socket").text


@pytest.mark.parametrize(
    ("module", "name", "told"),
    [
        ("lab_support.boundary.chanels", "x", "got no module 'chanels' in lab_support.boundary, .* channels, counters"),
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

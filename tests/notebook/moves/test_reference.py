"""The list of all that cells may call is the generated one, has every name that a cell uses, and can be asked."""

import ast
import inspect
import re

import nbformat
import pytest

import lab_support.notebook as lab
from lab_support.notebook.moves.reference import as_markdown, groups, names, reference
from lab_support.notebook.moves.reference_contents import EXAMPLES
from lab_support.notebook.page import gate
from lab_support.notebook.page.definitions import define, first_sentence, public_names
from lab_support.notebook.publishing import build
from lab_support.notebook.publishing.reference import PAGE

NOTEBOOKS = pytest.mark.parametrize("path", build.find([]), ids=lambda path: path.stem)
ENTRIES = [each for group in groups() for each in group.entries]


def test_the_committed_page_is_the_generated_one():
    advice = "write it again: python -m lab_support.notebook.publishing.reference"
    assert PAGE.read_text() == as_markdown(), advice


WHOLE_MODULES = ("lab_support.instruments", "lab_support.notebook.stages")
"""From these, cells import modules, whose names stand in the rows."""


def trees_of(path, *, kernel: bool) -> list[ast.Module]:
    """The cells that run in the kernel, or those that are programs of their own."""
    sources = [cell.source for cell in build.code_cells(nbformat.read(path, as_version=4))]
    chosen = [source for source in sources if source.startswith("%%") != kernel]
    plain = [re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE).replace("____", "blank") for source in chosen]
    return [ast.parse(source) for source in plain]


def results_of(path) -> set[str]:
    """The variables that hold the result of a cell, by `--into`."""
    sources = [cell.source for cell in build.code_cells(nbformat.read(path, as_version=4))]
    return {name for source in sources for name in re.findall(r"^%%python_process.*--into (\w+)", source)}


def used(path) -> set[str]:
    """Names that cells import from `lab_support`, attributes of what they import from it, of `lab` and of results."""
    in_kernel = _used(trees_of(path, kernel=True), results_of(path))
    return in_kernel | _used(trees_of(path, kernel=False), set())


def _used(trees: list[ast.Module], ours: set[str]) -> set[str]:
    found = set[str]()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lab_support"):
            ours |= {alias.asname or alias.name for alias in node.names}
            found |= {alias.name for alias in node.names if node.module not in WHOLE_MODULES}
        elif isinstance(node, ast.Import):
            ours |= {alias.asname or "" for alias in node.names if alias.name.startswith("lab_support")}
    attributes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return found | {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id in ours}


@NOTEBOOKS
def test_every_name_that_a_notebook_uses_is_there(path):
    modules = {each.call for each in ENTRIES} | {"lab"}
    missing = used(path) - names() - modules
    assert not missing, "name its module, or the class that has it, in moves/reference_contents.py"


@NOTEBOOKS
def test_every_option_that_a_notebook_uses_is_there(path):
    sources = [cell.source for cell in build.code_cells(nbformat.read(path, as_version=4))]
    lines = [source.partition("\n")[0] for source in sources if source.startswith("%%python_process")]
    options = {option for line in lines for option in re.findall(r"(?<=\s--)[\w-]+", line)}
    assert options <= names()


def test_all_of_lab_is_there_and_every_line_has_its_words_once():
    calls = [each.call for each in ENTRIES]
    assert set(lab.__all__) <= names()
    assert [call for call in calls if calls.count(call) > 1] == []
    assert [each.call for each in ENTRIES if not each.words] == []


def test_examples_are_python_and_belong_to_a_line():
    assert {each.example for each in ENTRIES if each.example} == set(EXAMPLES.values())
    for example in EXAMPLES.values():
        ast.parse(example + (" pass" if example.endswith(":") else ""))


def test_calls_are_those_of_python_itself():
    from lab_support.notebook import script

    for function in (script.emit, script.in_child, gate.after_prediction):
        node = ast.parse(f"def {define(function.__module__, function.__name__).call}: pass").body[0]
        read = [each.arg for each in ast.walk(node) if isinstance(each, ast.arg)]
        assert sorted(read) == sorted(inspect.signature(function).parameters)
    drawn = inspect.signature(gate.takes_prediction(lambda measured: None), follow_wrapped=False).parameters
    added = [f"{each.name}={each.default!r}" for each in drawn.values() if each.kind is each.KEYWORD_ONLY]
    assert define("lab_support.notebook.page.tables", "table").call == f"table(views, *columns, {', '.join(added)})"


def test_a_word_finds_its_lines_and_an_unknown_one_the_nearest():
    found = str(reference("emit"))
    assert "emit(fields=None, **more)" in found and "read_memory" not in found
    assert "did you mean emit" in str(reference("emti"))
    assert "`lab.reference()` shows all" in str(reference("zzzzzz"))
    whole = str(reference())
    assert all(each.call in whole for each in ENTRIES)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One.\n\nTwo.", "One."),
        ("A thing such as 3.5 of\nthem. a, b: words.", "A thing such as 3.5 of them."),
        ('From "a", … Then more.', 'From "a", …'),
        (None, ""),
    ],
)
def test_a_first_sentence_ends_where_the_next_begins(text, first):
    assert first_sentence(text) == first


def test_a_name_that_is_not_there_is_told():
    with pytest.raises(LookupError, match="got 'nothing', expected a name"):
        define("lab_support.notebook.script", "nothing")
    with pytest.raises(LookupError, match=r"expected a file lab_support/no/such.py"):
        public_names("lab_support.no.such")

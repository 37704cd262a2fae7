"""What README.md, CONTRIBUTING.md, CHANGELOG.md and lab_support/README.md name exists."""

import ast
import re
from pathlib import Path

import pytest

from tests.house_map.code import ROOT
from tests.test_house import HOUSE

CODE = HOUSE / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
CHANGELOG = ROOT / "CHANGELOG.md"
DOCUMENTS = (ROOT / "README.md", CONTRIBUTING, CHANGELOG, CODE)
FILE = re.compile(r"`(\w[\w./]*\.(?:pyi?|md|json|toml|txt|ipynb|sh|svg))`")
NAMED = re.compile(r"`([\w/]+\.py)`, `([\w.]+)`")


def found(name: str) -> bool:
    """A path from the root, or within `lab_support`."""
    return (ROOT / name).exists() or (HOUSE / name).exists()


def defined(path: Path) -> set[str]:
    """The classes and functions of a file, methods as `Class.method`."""
    names = set()
    for node in ast.parse(path.read_text()).body if path.exists() else []:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
            names |= {f"{node.name}.{inner.name}" for inner in node.body if hasattr(inner, "name")}
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_link_of_a_document_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    files = {name for name in FILE.findall(text) if "NN" not in name and "NAME" not in name}
    assert {name for name in files if not found(name)} == set()
    links = {link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    assert {link for link in links if not (document.parent / link).exists()} == set()


@pytest.mark.parametrize("document", (CODE, CONTRIBUTING), ids=lambda path: path.name)
def test_every_function_stands_in_the_file_that_is_named_with_it(document: Path) -> None:
    pairs = NAMED.findall(document.read_text(encoding="utf-8"))
    assert len(pairs) > 5
    missing = [f"{file}: {name}" for file, name in pairs if name not in defined(HOUSE / file)]
    assert not missing


def test_a_request_s_life_is_ten_sentences_each_with_its_file_and_function() -> None:
    lines = re.findall(r"^(\d+)\. (.*)$", CODE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in lines] == list(range(1, 11))
    for _, sentence in lines:
        assert NAMED.search(sentence) and sentence.endswith(")."), sentence
        assert not re.search(r"[.?!] [A-Z]", sentence), f"more than one sentence: {sentence}"


def test_the_commands_of_contributing_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, document


def test_readme_leads_to_the_others() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("CONTRIBUTING.md", "CHANGELOG.md", "lab_support/README.md"):
        assert f"]({name})" in text

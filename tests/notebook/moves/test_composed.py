"""Cells become one file: newer functions replace older ones, and nothing is there that `main` does not need."""

import ast

import pytest

from lab_support.notebook.moves.composed import Part, compose
from lab_support.notebook.moves.exercises import as_program
from lab_support.notebook.moves.steps import reference_program
from lab_support.notebook.page import own_server
from tests.notebook.publishing.test_lint_of_cells import complaints

FIRST = """%%python_process --blank 07.s1
import os, zlib
from lab_support.notebook.script import announce, emit
SIZE = 3

def helper():
    return SIZE  # a comment stays

def main():
    emit(os.getpid(), helper())
"""
SECOND = '''import multiprocessing, multiprocessing.connection
import zmq
from lab_support.notebook.script import xray

def helper():
    """Another one."""
    return multiprocessing.connection, zmq, xray

def unused():
    return 1
'''


def composed(*sources: str) -> str:
    return compose([Part(f"step {number}", as_program(source)) for number, source in enumerate(sources, 1)])


def test_one_part_is_a_whole_program_with_the_imports_that_it_needs():
    text = composed(FIRST)
    assert "import os\n" in text and "zlib" not in text and "announce" not in text
    assert "return SIZE  # a comment stays" in text and "# ---- step 1 ---" in text
    assert text.endswith('\n\n\nif __name__ == "__main__":\n    main()\n')


def test_a_newer_function_replaces_the_older_one_and_what_only_that_needed():
    text = composed(FIRST, SECOND)
    assert text.count("def helper") == 1 and "Another one." in text and "SIZE" not in text and "unused" not in text
    assert text.index("# ---- step 1") < text.index("def main") < text.index("# ---- step 2") < text.index("def helper")
    head = text[: text.index("# ---- step 1")]
    assert head.index("import os") < head.index("import zmq") < head.index("from lab_support.notebook.script")
    assert "import multiprocessing.connection\n" in head and "import multiprocessing\n" not in head


def test_a_part_without_a_needed_function_has_no_section():
    assert "# ---- step 2" not in composed(FIRST, "def unused():\n    return 1\n")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def main(:\n", "invalid syntax"),
        ("def main():\n    pass\nprint(1)\n", "line 3: got a statement outside of functions"),
        ("x = '\0'\n", "null bytes"),
    ],
)
def test_a_part_that_is_no_part_of_a_program_is_refused(source, words):
    with pytest.raises(SyntaxError, match=words):
        composed(source)


def test_a_docstring_and_the_last_lines_of_a_program_may_stand_in_a_part():
    composed('"""Words."""\ndef main():\n    pass\nif __name__ == "__main__":\n    main()\n')


@pytest.mark.parametrize("last", range(1, own_server.STEPS + 1))
def test_the_reference_is_a_clean_program_after_each_step(last):
    text = reference_program(last)
    assert complaints(f"\n{text}") == []
    names = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    assert len(names) == len(set(names)) and "main" in names
    assert len(text.splitlines()) < 150


def test_the_finished_reference_is_the_committed_one():
    advice = "write it again: python -m lab_support.notebook.moves.steps"
    assert own_server.REFERENCE.read_text() == reference_program(), advice

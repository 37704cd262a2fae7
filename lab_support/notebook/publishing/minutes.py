"""Writes the minutes of each section, and the marks for slides, by rule: into the notebook's cells, into its header,
into the tables for instructors and into README.md.

`python -m lab_support.notebook.publishing.minutes [NN …]`; with `--check` it writes nothing and says what differs.
estimate.py has the rule for minutes, slide_marks.py the one for slides.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from lab_support.notebook.moves.asked import number_of
from lab_support.notebook.page.committed import find
from lab_support.notebook.publishing import estimate, guides
from lab_support.notebook.publishing.estimate import Minutes, of_sections, together
from lab_support.notebook.publishing.slide_marks import slide_type

_SENTENCE = re.compile(r"About \d+ minutes alone, \d+ in class, \d+ as a demo( \(an estimate\))?")


def marked(notebook: NotebookNode) -> NotebookNode:
    """A copy with the minutes and the marks for slides. Raises `LookupError` if its header names no minutes."""
    notebook = deepcopy(notebook)
    for index, cell in enumerate(notebook.cells):
        cell.metadata.pop("minutes", None)
        cell.metadata["slideshow"] = {"slide_type": slide_type(cell, is_first=index == 0)}
    found = of_sections(notebook)
    for section, minutes in found:
        section.cells[0].metadata["minutes"] = minutes.as_metadata
    _name_in_header(notebook.cells[0], together([minutes for _, minutes in found]))
    return notebook


def _name_in_header(cell: NotebookNode, whole: Minutes) -> None:
    words = f"About {whole.alone} minutes alone, {whole.in_class} in class, {whole.demo} as a demo (an estimate)"
    if not _SENTENCE.search(cell.source):
        raise LookupError("got a header without the minutes, expected “About 0 minutes alone, 0 in class, 0 as a demo”")
    cell.source = _SENTENCE.sub(words, cell.source)


# ---- the files -------------------------------------------------------------------------------------------------------


def planned(path: Path) -> Iterator[tuple[Path, str]]:
    """The notebook at `path`, its page for instructors and README.md, each with the text that the rule gives it.

    Raises `LookupError` if one of them has no place for the minutes.
    """
    before = nbformat.read(path, as_version=4)
    after = marked(before)
    yield path, path.read_text(encoding="utf-8") if after == before else nbformat.writes(after) + "\n"
    rows = [(section.heading, minutes) for section, minutes in of_sections(after)]
    whole, number = together([minutes for _, minutes in rows]), number_of(path)
    guide, readme = path.parent / "instructor" / f"{number[:2]}.md", path.parent.parent / "README.md"
    yield guide, guides.with_minutes(guide.read_text(encoding="utf-8"), rows, whole, table=len(number) - 2)
    yield readme, guides.with_minutes_of(readme.read_text(encoding="utf-8"), path.name, whole.alone)


def problems(path: Path) -> list[str]:
    """The files in which minutes or marks are not those of the rule, as sentences."""
    try:
        different = [file for file, text in planned(path) if text != file.read_text(encoding="utf-8")]
    except LookupError as error:
        return [f"{path.name}: {error}"]
    return [f"{path.name}: the {_marks(file)} in {file.name} are not those of the rule" for file in different]


def _marks(file: Path) -> str:
    return "minutes or slides" if file.suffix == ".ipynb" else "minutes"


def write(path: Path) -> list[str]:
    """Write them; return the sentence of what could not be written."""
    try:
        for file, text in list(planned(path)):
            file.write_text(text, encoding="utf-8")
    except LookupError as error:
        return [f"{path.name}: {error}"]
    return []


# ---- the command -----------------------------------------------------------------------------------------------------


def main(words: list[str]) -> int:
    """0 if all is well, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m lab_support.notebook.publishing.minutes",
        description=f"{__doc__}\n{estimate.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("numbers", nargs="*", help="notebooks by number, 04 with 04a, 04_ without; all by default")
    parser.add_argument("--check", action="store_true", help="write nothing, and say what differs")
    arguments = parser.parse_args(words)
    paths = find(arguments.numbers)
    if not paths:
        print(f"got {arguments.numbers}, expected numbers of notebooks, such as 04", file=sys.stderr)
        return 1
    found = [sentence for path in paths for sentence in (problems if arguments.check else write)(path)]
    print("\n".join([*map(_in_words, paths), *found]))
    return 1 if found else 0


def _in_words(path: Path) -> str:
    whole = together([minutes for _, minutes in of_sections(nbformat.read(path, as_version=4))])
    return f"{number_of(path):3} {whole.alone} minutes alone, {whole.in_class} in class, {whole.demo} as a demo"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

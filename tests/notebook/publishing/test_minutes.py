"""Minutes and slides follow their rule, in the cells, the header, the pages for instructors and README.md."""

import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lab_support.notebook.page import committed
from lab_support.notebook.publishing import minutes, run_times
from lab_support.notebook.publishing.slide_marks import slide_type

HEADER = "# Where?\n\nAbout 75 minutes alone, 45 in class, 15 as a demo."
GUIDE = """# 77

| section | alone | class | demo |
| --- | --- | --- | --- |
| header, `lab.start` | 9 | 9 | 9 |
| A heading of old | 9 | 9 | 9 |
| **together** | **18** | **18** | **18** |

Text.

| section of 77a | alone |
| --- | --- |
| header | 9 |

More text.
"""
README = """| [76](notebooks/76_when.ipynb) | When? | 75 |
| [77](notebooks/77_where.ipynb) | Where? | 75 |
| [77a](notebooks/77a_also.ipynb) | *appendix:* Where else? | 9 |
"""


def tagged(cell, *tags):
    cell.metadata["tags"] = list(tags)
    return cell


def text(words: str, count: int = 0, *tags):
    return tagged(new_markdown_cell(words + " word" * count), *tags)


def predict(*tags):
    return tagged(new_code_cell('lab.predict("77.1", "where", options={"a": "here"})'), *tags)


def blank(*tags):
    return tagged(new_code_cell("%%python_process --blank 77.b1 --into one\nprint(____)"), *tags)


def exercise(*tags):
    return tagged(new_code_cell("%%python_process --into two\n" + "word " * 900), "exercise", *tags)


def of(cells, **seconds) -> list[dict]:
    """The minutes of each section, as they are written into the cells."""
    notebook = new_notebook(cells=cells, metadata={"course": {"seconds": seconds}})
    marked = minutes.marked(notebook)
    return [cell.metadata["minutes"] for cell in marked.cells if "minutes" in cell.metadata]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([text(HEADER, 588)], (3, 2, 0)),
        ([text(HEADER, 188), predict(), blank(), exercise()], (17, 1, 0)),
        ([text(HEADER, 188), predict("class"), blank("class"), exercise("class")], (17, 21, 0)),
        ([text(HEADER, 188), tagged(new_code_cell('lab.again("77.1")'), "class")], (2, 6, 0)),
        ([text(HEADER, 188), text("", 400, "demo"), predict("demo"), blank()], (7, 2, 3)),
        ([text(HEADER, 188), new_code_cell("word " * 400)], (3, 2, 0)),
        ([text(HEADER, 188), new_code_cell("word " * 400, metadata={"jupyter": {"source_hidden": True}})], (1, 1, 0)),
        ([text(HEADER)], (1, 0, 0)),
    ],
)
def test_a_section_s_minutes_are_those_of_the_rule(cells, expected):
    assert of(cells) == [dict(zip(("alone", "class", "demo"), expected, strict=True))]


def test_each_section_has_its_own_and_the_header_their_sum():
    cells = [
        text(HEADER, 188),
        text("Before.\n\n## A place\n\n", 396),
        predict("demo"),
        text("## Another\n\n```\n## no\n```"),
    ]
    assert [each["alone"] for each in of(cells)] == [1, 3, 1]
    marked = minutes.marked(new_notebook(cells=cells))
    assert "About 5 minutes alone, 2 in class, 1 as a demo (an estimate)." in marked.cells[0].source
    assert minutes.marked(marked) == marked


def test_a_cell_that_begins_no_section_any_more_has_no_minutes():
    old = new_code_cell("1", metadata={"minutes": {"alone": 9, "class": 9, "demo": 9}})
    assert of([text(HEADER), old]) == [{"alone": 1, "class": 0, "demo": 0}]


def test_run_time_counts_for_a_demo_only_where_a_cell_of_it_runs():
    cells = [text(HEADER), text("## Shown"), predict("demo"), text("## Said", 0, "demo"), new_code_cell("1")]
    assert [each["demo"] for each in of(cells, Shown=120, Said=120)] == [0, 3, 0]
    assert [each["class"] for each in of(cells, Shown=120, Said=120)] == [0, 2, 2]


def test_run_times_are_tens_of_seconds_that_stay_as_they_are_in_the_next_run():
    first = run_times.kept({}, {"": 2.1, "A place": 14.0, "Another": 26.0})
    assert first == {"A place": 10, "Another": 30}
    assert run_times.kept(first, {"": 9.0, "A place": 3.0, "Another": 38.0}) == first
    assert run_times.kept(first, {"A place": 21.0}) == {"A place": 20}


BUILD = """
import sys
from pathlib import Path
from lab_support.notebook.publishing import build, run_times
run_times.STEP = 0.25
build.build(Path(sys.argv[1]))
"""


def test_a_build_keeps_the_run_time_of_a_section_and_no_moment(tmp_path):
    path = tmp_path / "77_where.ipynb"
    cells = [text(HEADER), new_code_cell("1"), text("## Slow"), new_code_cell("import time; time.sleep(0.6)")]
    nbformat.write(new_notebook(cells=cells), path)
    subprocess.run([sys.executable, "-c", BUILD, str(path)], check=True, timeout=120, capture_output=True)
    built = nbformat.read(path, as_version=4)
    assert built.metadata["course"]["seconds"]["Slow"] >= 0.5
    assert [cell.metadata for cell in built.cells if "execution" in cell.metadata] == []


# ---- slides ----------------------------------------------------------------------------------------------------------

HIDDEN = {"jupyter": {"source_hidden": True}}
SLIDES = [
    (text("## A place"), "slide"),
    (text("Its text."), "subslide"),
    (text("<details><summary>What happened</summary>\n\nIt.\n\n</details>"), "fragment"),
    (predict(), "subslide"),
    (blank(), "subslide"),
    (exercise(), "subslide"),
    (new_code_cell('lab.verdict("77.1", one)'), "subslide"),
    (new_code_cell("lab.claim('it is', True)"), "fragment"),
    (new_code_cell("import os"), "-"),
    (new_code_cell("import os", metadata=HIDDEN), "skip"),
    (new_code_cell("draw()", metadata=HIDDEN, outputs=[new_output("stream", text="drawn")]), "-"),
]


@pytest.mark.parametrize(("cell", "expected"), SLIDES, ids=[cell.source[:20] for cell, _ in SLIDES])
def test_each_cell_has_its_place_in_the_slides(cell, expected):
    assert slide_type(cell, is_first=False) == expected
    marked = minutes.marked(new_notebook(cells=[text(HEADER), cell]))
    assert [each.metadata["slideshow"]["slide_type"] for each in marked.cells] == ["slide", expected]


# ---- the files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with notebook 77 and its appendix."""
    folder = tmp_path / "notebooks"
    (folder / "instructor").mkdir(parents=True)
    (folder / "instructor" / "77.md").write_text(GUIDE)
    (tmp_path / "README.md").write_text(README)
    output = new_output("stream", text="drawn")
    nbformat.write(
        new_notebook(
            cells=[text(HEADER, 588), text("## A place"), predict("class"), new_code_cell("1", outputs=[output])]
        ),
        folder / "77_where.ipynb",
    )
    nbformat.write(new_notebook(cells=[text(HEADER), text("## Its appendix\n\n", 600)]), folder / "77a_also.ipynb")
    monkeypatch.setattr(committed, "NOTEBOOKS", folder)
    return tmp_path


def test_the_command_writes_all_that_the_check_misses(repository, capsys):
    assert minutes.main(["--check"]) == 1
    said = capsys.readouterr().out
    assert [name in said for name in ("77.md", "README.md", "77_where.ipynb", "77a_also.ipynb")] == [True] * 4
    before = {path: path.read_bytes() for path in repository.rglob("*.*")}
    assert minutes.main(["--check"]) == 1
    assert {path: path.read_bytes() for path in repository.rglob("*.*")} == before, "a check writes nothing"
    assert minutes.main([]) == 0
    assert minutes.main(["--check"]) == 0
    assert "77  4 minutes alone, 7 in class, 0 as a demo" in capsys.readouterr().out


def test_the_tables_have_the_sections_of_the_notebooks_in_the_columns_that_they_had(repository):
    minutes.main([])
    guide = (repository / "notebooks" / "instructor" / "77.md").read_text()
    assert guide == (
        GUIDE.replace("| header, `lab.start` | 9 | 9 | 9 |", "| header, `lab.start` | 3 | 2 | 0 |")
        .replace("| A heading of old | 9 | 9 | 9 |", "| A place | 1 | 5 | 0 |")
        .replace("| **18** | **18** | **18** |", "| **4** | **7** | **0** |")
        .replace("| header | 9 |", "| header, `lab.start` | 1 |\n| Its appendix | 3 |\n| **together** | **4** |")
    )
    assert "| [76](notebooks/76_when.ipynb) | When? | 75 |" in (repository / "README.md").read_text()
    assert "| [77](notebooks/77_where.ipynb) | Where? | 4 |" in (repository / "README.md").read_text()


def test_outputs_and_code_stay_as_they_are(repository):
    path = repository / "notebooks" / "77_where.ipynb"
    before = nbformat.read(path, as_version=4)
    minutes.main(["77_"])
    after = nbformat.read(path, as_version=4)
    assert after.cells[-1].outputs == before.cells[-1].outputs
    assert [cell.source for cell in after.cells[1:]] == [cell.source for cell in before.cells[1:]]


@pytest.mark.parametrize(
    ("file", "old", "sentence"),
    [
        ("README.md", "77_where", "got 0 rows of 77_where.ipynb, expected one"),
        ("notebooks/instructor/77.md", "| section ", "got 0 tables that begin with “| section”, expected at least 1"),
        ("notebooks/77_where.ipynb", "minutes alone", "got a header without the minutes, expected “About"),
    ],
)
def test_a_place_that_is_missing_is_named_and_nothing_is_written(repository, file, old, sentence, capsys):
    path = repository / file
    path.write_text(path.read_text().replace(old, "x"))
    before = {path: path.read_bytes() for path in repository.rglob("*.*")}
    for words in (["77_"], ["77_", "--check"]):
        assert minutes.main(words) == 1
        assert sentence in capsys.readouterr().out
    assert {path: path.read_bytes() for path in repository.rglob("*.*")} == before


def test_a_number_without_a_notebook_is_refused(capsys):
    assert minutes.main(["99"]) == 1
    assert "99" in capsys.readouterr().err

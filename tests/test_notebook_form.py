"""Notebooks in the new form keep its bounds, and `python -m tests.notebook_form` counts right."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lab_support.notebook.page import committed
from lab_support.notebook.publishing import build, minutes
from tests.notebook_form.__main__ import main
from tests.notebook_form.bounds import broken, broken_together
from tests.notebook_form.form import Form

FORMS = [Form(path) for path in build.find([])]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.number)
def test_every_notebook_keeps_its_bounds(form):
    assert broken(form) == []


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.number)
def test_its_minutes_and_slides_are_those_of_the_rule(form):
    assert minutes.problems(form.path) == []


def test_the_right_letters_of_all_of_them_tell_nothing():
    assert broken_together(FORMS) == []


# ---- a notebook that keeps all bounds, and each way to break one -----------------------------------------------------

VERDICTS = """
from lab_support.notebook.moves.verdicts import Claim, Found, Judge

def the_place(result):
    return Found(result, claims=(Claim("it moves", True), *of_both(result)))

def of_both(result):
    return (Claim("both move", True),)

JUDGES = (
    Judge("77.1", find=the_place),
    Judge("77.2", find=lambda result: Found(claims=(Claim("it stays", True),))),
    Judge("77.3", the_place),
    Judge("77.4", find=lambda result: Found(rows={}), expected={"a row": "kept"}, row_words="{row} is {option}"),
)
"""
OPTIONS = '{"a": "it moves", "b": "both of them move on", "c": "none"}'


def text(words: str, count: int = 0):
    return new_markdown_cell(words + " word" * count)


def folded(words: str, count: int = 60):
    return text(f"<details><summary>What happened</summary>\n\n{words}{' word' * count}\n\n</details>")


def predict(number: str, more: str = ""):
    return new_code_cell(f'lab.predict("{number}", "where it is", options={OPTIONS}{more})')


def verdict(number: str, right: str):
    said = f"place  4\nThe measurement supports {right} (…)."
    shown = new_output("display_data", data={"text/plain": said})
    return new_code_cell(f'lab.verdict("{number}", result)', outputs=[shown])


def loop(heading: str, first: str, second: str, right: str):
    return [
        text(f"## {heading}\n\n", 150),
        predict(first),
        new_code_cell(f"%%python_process --after {first} --name one --into result\nprint(1)"),
        verdict(first, right),
        folded("It is **b**."),
        text("**Your turn.** ", 100),
        predict(second),
        new_code_cell(f"%%python_process --blank {first[:3]}b1 --after {second} --into result\nprint(____)"),
        verdict(second, "c"),
        folded("It is **c**."),
        new_code_cell(f'lab.again("{second}")'),
    ]


def exercise(name: str):
    program = new_code_cell("%%python_process --into mine\nprint(1)", metadata={"tags": ["exercise"]})
    return [text(f"**{name}.** ", 50), program, new_code_cell(f'lab.check("{name}", mine)')]


@pytest.fixture
def good(tmp_path):
    """The cells of a notebook that keeps all bounds."""
    (tmp_path / "77_verdicts.py").write_text(VERDICTS)
    return [
        text("# Where is it?\n\n", 200),
        new_code_cell('import lab_support.notebook as lab\n\nlab.start("77")'),
        *loop("A place", "77.1", "77.2", "a"),
        *loop("Another place", "77.3", "77.4", "b"),
        text("## Your turn\n\n", 50),
        *exercise("77.1"),
        *exercise("77.2"),
        text("## What to take with you\n\n", 150),
        new_code_cell("lab.ledger()"),
        new_code_cell("lab.claim('Nothing is left', True)"),
        new_code_cell("lab.quiz('77')"),
    ]


def form_of(cells, tmp_path: Path, name: str = "77_where.ipynb") -> Form:
    nbformat.write(new_notebook(cells=cells), tmp_path / name)
    return Form(tmp_path / name, tmp_path)


def test_a_good_one_is_counted_and_breaks_nothing(good, tmp_path):
    form = form_of(good, tmp_path)
    assert broken(form) == []
    assert [(loop.heading, loop.predictions, loop.claims, loop.blanks) for loop in form.loops] == [
        ("A place", 2, 3, 1),
        ("Another place", 2, 3, 1),
    ]
    assert (form.cells, form.variants, form.largest) == (35, 2, 3)
    assert [(each.number, each.right) for each in form.asked] == [
        ("77.1", "a"),
        ("77.2", "c"),
        ("77.3", "b"),
        ("77.4", "c"),
    ]


def test_minutes_between_what_the_reader_writes_are_those_of_the_rule(tmp_path):
    cells = [
        text("# Where?", 399),
        predict("77.1"),
        new_code_cell("%%python_process --blank 77.b1 --after 77.1 --into one\n____"),
        text("", 200),
        *exercise("77.1")[1:],
        text("", 100),
    ]
    assert form_of(cells, tmp_path).gaps == pytest.approx([400 / 200 + 1, 1, 0.5], abs=0.02)


def test_words_are_those_that_are_read(tmp_path):
    cell = text(
        "# One two?\n\n`three()` <b>four</b> — five\n\n| six | 7 |\n| --- | --- |\n\n```python\nnot = 'read'\n```"
    )
    assert form_of([cell], tmp_path).words == 7


def replaced(old: str, new: str):
    def change(cells):
        place = next(index for index, cell in enumerate(cells) if old in cell.source)
        cells[place].source = cells[place].source.replace(old, new)

    return change


def added(*cells, below: str):
    def change(others):
        place = next(index for index, cell in enumerate(others) if below in cell.source) + 1
        others[place:place] = cells

    return change


def without(words: str):
    def change(cells):
        del cells[next(index for index, cell in enumerate(cells) if words in cell.source)]

    return change


START, FIRST = "lab.start", 'predict("77.1"'
BREAKS = [
    (added(*(new_code_cell("1") for _ in range(16)), below=START), "51 cells, expected 35 to 50"),
    (without(START), "34 cells, expected 35 to 50"),
    (added(text("", 900), below="lab.ledger"), "words, expected 1,200 to 1,800"),
    (added(new_code_cell("1\n" * 25 + "2"), below=START), "the largest code cell has 26 lines, expected at most 25"),
    (added(predict("77.9"), below="lab.ledger"), None),
    (added(*[predict(f"77.{i}") for i in (5, 6, 7, 8)], below="lab.quiz"), "8 predictions, expected at most 7"),
    (added(predict("77.5"), below=FIRST), "“A place” has 3 predictions, expected at most 2"),
    (without('again("77.2")'), "1 variants (lab.again), expected at least 2"),
    (added(text("", 1700), below="lab.start"), "minutes without code that the reader writes, expected at most 12"),
    (added(*[predict(f"77.{i}") for i in range(10, 20)], below="lab.start"), "minutes without code"),
    (replaced("--blank 77.b1 ", ""), "“A place” has no cell with blanks"),
    (
        added(new_code_cell("lab.claim('it is', True, prediction='77.1')"), below='verdict("77.1"'),
        "“A place” has 4 claims, expected at most 3",
    ),
    (added(new_code_cell("lab.claim('it is', True)"), below=FIRST), "cell 4: lab.claim does not wait for 77.1"),
    (added(new_code_cell("print(result)"), below=FIRST), "cell 4: print does not wait for 77.1"),
    (added(new_code_cell("lab.timeline(result)"), below=FIRST), "cell 4: lab.timeline does not wait for 77.1"),
    (added(new_code_cell("lab.timeline(result, prediction='77.1')"), below=FIRST), None),
    (replaced("--after 77.1 ", "--quiet "), None),
    (replaced("--after 77.1 ", ""), "cell 4: its program does not wait for 77.1 (--after)"),
    (added(text("It is **b**."), below=FIRST), "cell 4: says **b** below 77.1, outside <details>"),
    (added(text("It is **d**, which nobody could choose."), below=FIRST), None),
    (added(text("```\n**b**\n```"), below=FIRST), None),
]


@pytest.mark.parametrize(("change", "sentence"), BREAKS, ids=[str(sentence) for _, sentence in BREAKS])
def test_each_bound_that_is_broken_is_named(good, tmp_path, change, sentence):
    change(good)
    found = broken(form_of(good, tmp_path))
    assert any(sentence in each for each in found) if sentence else found == [], found


def test_an_appendix_has_the_bounds_on_lines_and_claims_alone(good, tmp_path):
    small = [text("# Which?"), *good[2:6], new_code_cell("lab.claim('one', True)\n" * 26)]
    found = broken(form_of(small, tmp_path, "77a_which.ipynb"))
    assert found == [
        "the largest code cell has 27 lines, expected at most 25",
        "“A place” has 26 claims, expected at most 3",
    ]


def asking(tmp_path, right: list[str], options: str = OPTIONS) -> Form:
    numbers = [f"77.{index}" for index in range(len(right))]
    asked = [new_code_cell(f'options = {options}\nlab.predict("{number}", "?", options=options)') for number in numbers]
    return form_of([*asked, *map(verdict, numbers, right)], tmp_path)


@pytest.mark.parametrize(
    ("right", "options", "sentences"),
    [
        ("a" * 7 + "b" * 6 + "c" * 7, OPTIONS, []),
        ("a" * 10 + "b" * 5 + "c" * 5, OPTIONS, ["a is right in 10 of 20 predictions, expected at most 45%"]),
        ("a" * 5 + "b" * 8 + "c" * 7, OPTIONS, ["the longest option is right 8.0 times of 20, expected 3 to 7"]),
        ("a" * 7 + "b" * 5 + "c" * 8, OPTIONS, ["the shortest option is right 8.0 times of 20, expected 3 to 7"]),
        (
            "a" * 9 + "b" * 2 + "c" * 9,
            OPTIONS,
            ["the longest option is right 2.0 times of 20", "the shortest option is right 9.0 times of 20"],
        ),
        ("a" * 5 + "b" * 8 + "c" * 7, '{"a": "one", "b": "two", "c": "six"}', []),
        ("a" * 19, OPTIONS, []),
        ("a" * 20, '{"a": "one", "b": "two"}', []),
    ],
)
def test_the_right_letter_and_the_length_of_an_option_tell_nothing(right, options, sentences, tmp_path):
    found = broken_together([asking(tmp_path, list(right), options)])
    assert len(found) == len(sentences)
    assert all(each.startswith(sentence) for each, sentence in zip(found, sentences, strict=True)), found


def test_tables_and_sketches_have_no_right_letter(tmp_path):
    rows = new_code_cell(f'lab.predict("77.1", "?", options={OPTIONS}, rows=["one", "two"])')
    sketch = new_code_cell('lab.predict("77.2", "?", sketch=["P1", "P2"])')
    form = form_of([rows, sketch, verdict("77.1", "a"), verdict("77.2", "b")], tmp_path)
    assert [each.is_choice for each in form.asked] == [False, False]


def test_the_command_says_all_figures_and_fails_where_a_bound_is_broken(good, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(committed, "NOTEBOOKS", tmp_path)
    good = [cell for cell in good if "verdict(" not in cell.source]  # the command reads the repository's own verdicts
    form_of([*good, *(new_code_cell("1") for _ in range(4))], tmp_path)
    assert main(["77"]) == 0
    assert "77  35 cells, 1," in capsys.readouterr().out
    form_of(good, tmp_path)
    assert main([]) == 1
    assert "BROKEN 31 cells, expected 35 to 50" in capsys.readouterr().out
    assert main(["88"]) == 1
    assert "got 88, expected numbers" in capsys.readouterr().err

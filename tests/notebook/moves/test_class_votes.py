"""A class's predictions from the files of its readers: each counts once, with the first answer in time."""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass

import pytest

import lab_support.notebook as lab
from lab_support.notebook.moves import class_votes

OPTIONS = {"a": "one", "b": "all"}


def line(event: str, **fields) -> str:
    return json.dumps({"kind": "prediction", "name": "04.1", "at": 1.0, "event": event, **fields})


def answer(letter: str, late: bool = False) -> str:
    return line("answer", answer=letter, late=late, words="wake-ups", options=OPTIONS)


@pytest.fixture
def folder(tmp_path):
    readers = {
        "ann": [answer("a"), answer("b"), line("seen", supported="b")],
        "bob/.lab": [answer("b"), line("seen", supported="b")],
        "cyd": [line("seen", supported="b"), answer("b", late=True)],
        "dan": [answer("a"), '{"torn'],
        "eve": [answer("a")],
        "no record": ["this is", "not one"],
    }
    for name, lines in readers.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "record.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_first_answers_in_time_are_counted_once_each(folder):
    votes = class_votes.collect([folder], "04.1")
    assert (votes.counts, votes.readers, votes.right) == ({"a": 3, "b": 1}, 5, "b")
    assert votes.finding == "3 of 4 chose a; the measurements support b, chosen by 1"


def test_the_figure_says_it_in_words_and_names_what_was_left_out(folder, capsys):
    assert "3 of 4 chose a" in lab.class_histogram(folder, "04.1").alt
    assert "no record/record.jsonl is left out: got no line of a record" in capsys.readouterr().err


def test_the_command_prints_a_histogram_and_writes_the_figure(folder, tmp_path):
    out = tmp_path / "class.svg"
    command = [sys.executable, "-m", "lab_support", "class", str(folder), "/nowhere", "--prediction", "04.1"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "3 of 4 chose a" in done.stdout and "/nowhere is left out: No such file" in done.stdout
    assert out.read_text().startswith("<?xml")


def test_without_any_record_it_says_what_it_needs(tmp_path, capsys):
    command = [sys.executable, "-m", "lab_support", "class", str(tmp_path), "--prediction", "04.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "expected files or folders with record.jsonl" in done.stderr


def test_of_a_table_each_row_counts_those_who_had_it_right(tmp_path):
    rows = ["a variable", "a thread"]
    for name, filled in {"ann": "ab", "bob": "aa", "cyd": "bb"}.items():
        (tmp_path / name).mkdir()
        asked = {"words": "what the child gets", "options": OPTIONS, "rows": rows, "late": False}
        lines = [line("answer", answer=filled, **asked), line("seen", supported="ab")]
        (tmp_path / name / "record.jsonl").write_text("\n".join(lines) + "\n")
    votes = class_votes.collect([tmp_path], "04.1")
    assert votes.counts == {"a variable": 2, "a thread": 2}
    (tmp_path / "cyd" / "record.jsonl").write_text(line("answer", answer="ba", **asked) + "\n")
    votes = class_votes.collect([tmp_path], "04.1")
    assert votes.finding == "The row that fewest had right, 1 of 3: a thread"
    assert "a variable 2; a thread 1" in class_votes.draw(votes).alt
    assert "a thread" in str(votes)


@dataclass
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def lab_class(capsys):
    """Runs `lab class` in this process."""

    def run(*words: str) -> Ended:
        parser = argparse.ArgumentParser()
        class_votes.add_class_flags(parser)
        return Ended(class_votes.run_class_command(parser.parse_args(words)), *capsys.readouterr())

    return run


def test_without_a_number_each_prediction_gets_its_histogram(folder, lab_class):
    file = folder / "ann" / "record.jsonl"
    file.write_text(file.read_text() + answer("a").replace("04.1", "04.2") + "\n")
    done = lab_class(str(folder))
    assert done.code == 0, done.err
    assert done.out.index("04.1 wake-ups\n3 of 4 chose a") < done.out.index("04.2 wake-ups\n1 of 1 chose a")


def test_lines_that_no_kernel_wrote_do_no_harm(folder, lab_class):
    odd = [
        line("answer", late=False),
        line("answer", answer=5, late=False),
        line("answer", answer="a", options=["x"], late=False),
        line("answer", answer="b", options={"b": "\x1b[2J"}, words="\x1b]0;t\x07", late=False),
    ]
    (folder / "odd").mkdir()
    (folder / "odd" / "record.jsonl").write_text("\n".join(odd) + "\n")
    done = lab_class(str(folder))
    assert done.code == 0 and "\x1b" not in done.out, done.err
    assert class_votes.collect([folder], "04.1").counts == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "x.svg"], "got --out without --prediction"),
        (["--prediction", "04.1", "--out", "x.pdf"], "expected a name that ends in .svg or .png"),
        (["--prediction", "04.1", "--out", "/proc/x.svg"], "name a file that can be written"),
    ],
)
def test_a_figure_that_cannot_be_written_is_a_sentence(folder, words, sentence, lab_class):
    done = lab_class(str(folder), *words)
    assert done.code == 2 and sentence in done.err and "Traceback" not in done.err

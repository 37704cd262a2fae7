"""A reader's table of a pace: read as written, and refused where it makes no sense, in a sentence with the line."""

import os
from pathlib import Path

import pytest

from lab_support.config import ConfigError
from lab_support.pace.table import MOST_BYTES, read_table

TABLE = """\
# rows  context  milliseconds
1       100      5
1       300      7     # slower
8       100, 10
8       300      20
prompt_ms 0.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.txt"


def test_a_table_is_read_as_it_is_written(file: Path) -> None:
    file.write_text(TABLE)
    pace = read_table(file)
    assert [pace.step_ms(rows, context) for rows in (1, 8) for context in (100, 300)] == [5, 7, 10, 20]
    assert (pace.name, pace.least_rows, pace.most_rows, pace.shortest, pace.longest) == ("mine.txt", 1, 8, 100, 300)
    assert "mine.txt" in pace.title and pace.title.startswith("stand-in for a GPU")
    assert pace.step_ms(1, 100, prompt_tokens=4) == 7


def test_between_its_lines_a_pace_is_straight_and_outside_it_is_the_nearest(file: Path) -> None:
    file.write_text(TABLE)
    pace = read_table(file)
    assert pace.step_ms(1, 200) == 6
    assert pace.step_ms(8, 150) == 12.5
    assert pace.step_ms(2, 100) == pytest.approx(5 + 5 / 7)
    assert pace.step_ms(4.5, 200) == pytest.approx((6 + 15) / 2)
    assert (pace.step_ms(8, 1), pace.step_ms(8, 9999)) == (10, 20)
    assert [pace.outside(context) for context in (99, 100, 300, 301)] == ["shorter", None, None, "longer"]


def test_one_line_is_a_constant_pace(file: Path) -> None:
    file.write_text("1 1 3\n")
    assert {read_table(file).step_ms(rows, context) for rows in (1, 64) for context in (1, 2000)} == {3}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "got no line of a table, expected at least one of three numbers"),
        ("# only a remark\n\n", "got no line of a table"),
        ("1 512\n", "line 1: got '1 512', expected three numbers: rows, context and milliseconds, such as"),
        ("1 512 5 6\n", "line 1: got '1 512 5 6', expected three numbers"),
        ("rows context step_ms\n", "line 1: got rows 'rows', expected a whole number from 1 to"),
        ("0 512 5\n", "line 1: got rows '0', expected a whole number from 1 to"),
        ("1 -5 5\n", "line 1: got context '-5', expected a whole number from 1 to"),
        ("1 1.5 5\n", "line 1: got context '1.5', expected a whole number from 1 to"),
        ("1 99999999999999999999 5\n", "line 1: got context '99999999999999999999', expected"),
        ("1 \u0661 5\n", "line 1: got context '\u0661', expected a whole number"),
        ("\n1 512 fast\n", "line 2: got 'fast', expected milliseconds, from 0.001 to"),
        ("1 512 0\n", "line 1: got '0', expected milliseconds"),
        ("1 512 nan\n", "line 1: got 'nan', expected milliseconds"),
        ("1 512 1e9\n", "line 1: got '1e9', expected milliseconds"),
        ("1 512 5\n1 512 6\n", "line 2: got rows 1 and context 512 again, expected them once; remove a line"),
        ("8 512 5\n64 512 6\n", "got rows from 8 on, expected them from 1 on, because every batch shrinks to one row"),
        ("1 512 5\n8 600 6\n", "got contexts 600 for rows 8, expected 512, as for rows 1"),
        ("1 512 5\n1 600 5\n8 600 6\n", "got contexts 600 for rows 8, expected 512, 600, as for rows 1"),
        ("1 512 5\nprompt_ms\n", "line 2: got 'prompt_ms', expected `prompt_ms` and one number"),
        ("1 512 5\nprompt_ms -1\n", "line 2: got '-1', expected milliseconds, from 0 to"),
        ("prompt_ms 1\nprompt_ms 1\n", "line 2: got prompt_ms again, expected one such line; remove this one"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_table(file)
    assert says in str(refused.value)
    assert str(file) in str(refused.value)


def test_a_file_that_is_no_table_is_refused(file: Path, tmp_path: Path) -> None:
    for there, says in ((tmp_path, "not a plain file"), (tmp_path / "gone.txt", "No such file"), (file, "not UTF-8")):
        file.write_bytes(b"1 512 \xff\n")
        with pytest.raises(ConfigError, match=says.replace("not UTF-8", "got no UTF-8 at byte 6")):
            read_table(there)
    file.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(ConfigError, match="shorten it"):
        read_table(file)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="not a plain file"):
        read_table(tmp_path / "pipe")

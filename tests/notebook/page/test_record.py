"""The reader's record: lines that several kernels append, and that a torn one does not spoil."""

import subprocess
import sys

import pytest

from lab_support.notebook.page import record

pytestmark = pytest.mark.usefixtures("empty_record")


def test_what_was_noted_is_read_in_order(empty_record):
    record.note("check", "04.2", passed=False)
    record.note("claim", "all wake", got="3.9")
    record.note("check", "04.2", passed=True)
    assert [entry.fields for entry in record.entries("check", "04.2")] == [{"passed": False}, {"passed": True}]
    assert [entry.kind for entry in record.entries()] == ["check", "claim", "check"]
    assert record.entries(path=empty_record) == record.entries()


def test_a_torn_line_takes_no_other_with_it(empty_record):
    record.note("quiz", "one")
    with empty_record.open("a") as open_file:
        open_file.write('{"kind": "quiz", "na')
    assert [entry.name for entry in record.entries()] == ["one"]
    record.note("quiz", "two\u2028still two")
    assert [entry.name for entry in record.entries()] == ["one", "two\u2028still two"]


def test_kernels_may_write_at_once(empty_record):
    script = (
        "from lab_support.notebook.page import record\nfor i in range(200): record.note('quiz', str(i), text='x' * 500)"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    names = [int(entry.name) for entry in record.entries()]
    assert sorted(names) == sorted([*range(200)] * 4)


def test_a_batch_run_writes_nothing_and_reads_no_readers_file(empty_record, monkeypatch):
    record.note("quiz", "a reader's")
    before = empty_record.read_bytes()
    monkeypatch.setenv(record.BATCH, "1")
    record.note("quiz", "the build's")
    assert [entry.name for entry in record.entries()] == ["the build's"]
    assert empty_record.read_bytes() == before


def test_where_it_cannot_be_kept_the_reader_is_told_once(tmp_path, monkeypatch, capsys):
    (tmp_path / "in the way").write_text("")
    monkeypatch.setenv("LAB_RECORD", str(tmp_path / "in the way" / "record.jsonl"))
    record.note("quiz", "one")
    record.note("quiz", "two")
    said = capsys.readouterr().err
    assert said.count("can't be kept") == 1 and "LAB_RECORD" in said
    assert [entry.name for entry in record.entries()] == ["one", "two"]


def test_it_lies_below_the_notebooks_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("LAB_RECORD")
    monkeypatch.chdir(tmp_path)
    record.note("quiz", "one")
    assert (tmp_path / ".lab" / "record.jsonl").is_file()

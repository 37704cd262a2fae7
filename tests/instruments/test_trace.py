"""`lab trace` on traces made here: joined by causality, divided without a gap, and read whatever is wrong with them."""

import argparse
import contextlib
import io
import json
import os
import random
from itertools import pairwise
from pathlib import Path

import pytest

from lab_support.instruments.trace import command
from lab_support.instruments.trace.chrome import chrome_json
from lab_support.instruments.trace.read import read_run
from lab_support.instruments.trace.requests import requests_of, stages
from lab_support.instruments.trace.svg import request_svg, start_svg
from lab_support.instruments.trace.text import overview, request_text
from lab_support.tracing import events
from lab_support.tracing.files import TraceFiles
from lab_support.tracing.trace import FileTrace

RUN, LIMIT = "0123abcd", 1 << 26
HOSTILE = "\x1b[2J\nforged line\u202e<script>"


def write(folder: Path, role: str, made: list, *, slot: int = -1, pid: int = 0, run: str = RUN) -> Path:
    """The trace of one process, as its file."""
    trace = FileTrace(TraceFiles(str(folder), run, LIMIT), role, slot)
    trace.milestone("first code", at=made[0].at if made else 1.0)
    for event in made:
        trace.add(event)
    trace.close()
    (path,) = folder.glob(f"{run}.{role}.{os.getpid()}.0.trace")
    return path.rename(folder / f"{run}.{role}.{pid or 100 + len(list(folder.iterdir()))}.0.trace")


def asked(number: int, at: float, name: str, sequence: int) -> list:
    """The events of a request of two tokens in its API server, a tenth of a second apart."""
    return [
        events.Received(
            at, number, "/v1/completions", at - 0.05, "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
        ),
        events.Parsed(at + 0.1, number, name),
        events.Tokenised(at + 0.2, number, 5),
        events.Sent(at + 0.3, number, sequence, 0),
        events.Streamed(at + 1.0, sequence, 1, at + 1.1, at + 1.2),
        events.Streamed(at + 1.5, sequence, 1, at + 1.6, at + 1.7),
        events.Finished(at + 1.7, sequence, "length"),
        events.Closed(at + 1.8, number, 200, ""),
    ]


def computed(at: float, client: int, sequence: int) -> list:
    """The events of the same request in the engine core."""
    return [
        events.Arrived(at + 0.4, client, sequence),
        events.Queued(at + 0.5, client, sequence),
        events.Step(at + 0.6, at + 0.7, at + 0.8, at + 0.9, [], [client, sequence, 5]),
        events.Step(at + 1.2, at + 1.3, at + 1.4, at + 1.5, [client, sequence], []),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One request through two processes."""
    write(tmp_path, "api-0", asked(1, 10.0, "mine", 1), slot=0)
    write(tmp_path, "engine-0", computed(10.0, 0, 1))
    return tmp_path


def lab_trace(*words: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command."""
    parser = argparse.ArgumentParser()
    command.add_trace_flags(parser)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command.run_trace_command(parser.parse_args(words))
    return code, out.getvalue(), err.getvalue()


def test_the_stages_follow_each_other_without_a_gap(folder: Path) -> None:
    (request,), strays = requests_of(read_run(folder))
    assert strays == 0
    made = stages(request)
    assert [(stage.name, stage.role, round(stage.seconds, 6)) for stage in made] == [
        ("body read and checked", "api-0", 0.1),
        ("prompt tokenised", "api-0", 0.1),
        ("engine core chosen", "api-0", 0.1),
        ("sent to the engine core", "api-0 → engine-0", 0.1),
        ("waited for the end of a step", "engine-0", 0.1),
        ("waited for its first step", "engine-0", 0.1),
        ("prompt computed (prefill)", "engine-0", 0.2),
        ("first token sent back", "engine-0 → api-0", 0.2),
        ("first token to text", "api-0", 0.1),
        ("first token written", "api-0", 0.1),
        ("further tokens (decode)", "engine-0, api-0", 0.3),
        ("last token to text", "api-0", 0.1),
        ("last token written", "api-0", 0.1),
        ("answer ended", "api-0", 0.1),
    ]
    assert all(before.ended_at == after.begun_at for before, after in pairwise(made))
    assert sum(stage.seconds for stage in made) == pytest.approx(request.seconds)


def test_a_slot_that_was_taken_over_confuses_nothing(tmp_path: Path) -> None:
    """Both API servers had slot 0 and called their first sequence 1, one after the other."""
    write(tmp_path, "api-0", asked(1, 10.0, "first", 1)[:-3], slot=0, pid=7)  # killed before its last token
    write(tmp_path, "api-0", asked(1, 20.0, "second", 1), slot=0, pid=8)
    write(tmp_path, "engine-0", [*computed(10.0, 0, 1), *computed(20.0, 0, 1)])
    requests, strays = requests_of(read_run(tmp_path))
    assert strays == 0
    assert [(each.id, [share.step.at for share in each.sequences[0].steps], each.end) for each in requests] == [
        ("first", [10.6, 11.2], "no end in the trace"),
        ("second", [20.6, 21.2], "200 length"),
    ]


def test_an_engine_core_whose_api_server_left_no_trace(tmp_path: Path) -> None:
    write(tmp_path, "engine-0", computed(10.0, 0, 1))
    requests, strays = requests_of(read_run(tmp_path))
    assert (requests, strays) == ([], 4)
    code, out, _ = lab_trace(str(tmp_path))
    assert code == 0 and "4 events of requests whose beginning is not in the trace" in out


def test_every_view_of_it(folder: Path, tmp_path: Path) -> None:
    code, out, _ = lab_trace(str(folder))
    assert code == 0 and "mine" in out and "200 length" in out and "1 request" in out
    code, out, _ = lab_trace(
        str(folder), "cmpl-mine", "--svg", str(tmp_path / "a.svg"), "--chrome", str(tmp_path / "a.json")
    )
    assert code == 0
    assert "its client's trace: 4bf92f3577b34da6a3ce929d0e0e4736, parent 00f067aa0ba902b7" in out
    assert "stages, together 1800.000 ms" in out
    assert lab_trace(str(folder), "4bf92f3577b34da6a3ce929d0e0e4736")[1] == out
    picture = (tmp_path / "a.svg").read_text()
    assert "prompt computed (prefill) from 600 ms to 800 ms" in picture


PHASES = {"X", "i", "b", "e", "s", "f", "M"}


def test_the_file_for_trace_viewers_keeps_to_the_format(folder: Path) -> None:
    run = read_run(folder)
    document = json.loads(chrome_json(run, requests_of(run)[0]))
    made = document["traceEvents"]
    assert {event["ph"] for event in made} == PHASES
    assert all({"name", "pid", "tid", "ts"} <= event.keys() for event in made)
    assert all(event["ts"] >= 0 and event.get("dur", 0) >= 0 for event in made if event["ph"] not in "bsf")
    begun = [event for event in made if event["ph"] == "b"]
    ended = [event for event in made if event["ph"] == "e"]
    assert len(begun) == len(ended) == 1 + 14
    assert begun[0]["args"]["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert [event["id"] for event in made if event["ph"] == "s"] == [
        event["id"] for event in made if event["ph"] == "f"
    ]
    named = {event["args"]["name"] for event in made if event["name"] == "process_name"}
    assert named == {"api-0", "engine-0"}
    step = next(event for event in made if event["name"] == "step of 1")
    assert (step["ts"], step["dur"]) == (600_000, 300_000)  # µs since the first milestone
    assert slices_nest(made)


def slices_nest(made: list[dict]) -> bool:
    """Complete events of one thread contain each other or follow each other, as viewers demand."""
    rows: dict[tuple, list[tuple[float, float]]] = {}
    for event in made:
        if event["ph"] == "X":
            rows.setdefault((event["pid"], event["tid"]), []).append((event["ts"], -event["dur"]))
    for row in rows.values():
        open_until: list[float] = []
        for begun, duration in sorted(row):
            while open_until and open_until[-1] <= begun + 0.01:
                open_until.pop()
            if open_until and begun - duration > open_until[-1] + 0.01:
                return False
            open_until.append(begun - duration)
    return True


def test_a_file_cut_anywhere_is_told_and_the_rest_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path, "api-0", asked(1, 10.0, "mine", 1), slot=0)
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 7), *range(len(whole) - 20, len(whole))}:
        path.write_bytes(whole[:length])
        code, out, err = lab_trace(str(tmp_path))
        assert (code, bool(out), bool(err)) in ((0, True, False), (1, False, True))
        blocks = whole[:length].split(b"\n#")
        at_end_of_block = len(blocks[-1]) == len(b"12345678\n") and len(blocks) > 1
        assert ("its end is cut" in out + err) == (length > 0 and not at_end_of_block), whole[:length]


def test_a_flipped_byte_anywhere_is_told(folder: Path) -> None:
    path = next(folder.glob("*.api-0.*"))
    whole, chance = path.read_bytes(), random.Random(7)
    for _ in range(60):
        index = chance.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[index] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        run = read_run(folder)
        assert run.notes, bytes(damaged)
        requests, _ = requests_of(run)
        chrome_json(run, requests)
        start_svg(run)
        overview(run, requests)
        for request in requests:
            request_text(request)
            request_svg(request)


def test_a_damaged_line_costs_that_line_alone(folder: Path) -> None:
    path = next(folder.glob("*.api-0.*"))
    lines = path.read_bytes().split(b"\n")
    number = next(index for index, line in enumerate(lines) if line.startswith(b'["parsed"'))
    lines[number] = b'["parsed", "yesterday"]'
    path.write_bytes(b"\n".join(lines))
    code, out, _ = lab_trace(str(folder))
    assert code == 0
    assert f"1 line can't be read (the first is line {number + 1}); the rest is shown" in out
    assert "api-0#1" in out and "200 length" in out


def test_names_of_clients_can_not_forge_what_is_shown(tmp_path: Path) -> None:
    ended = events.Closed(11.8, 1, 200, HOSTILE)
    write(tmp_path, "api-0", [*asked(1, 10.0, HOSTILE, 1)[:-1], ended], slot=0)
    write(tmp_path, "engine-0", computed(10.0, 0, 1))
    FileTrace(TraceFiles(str(tmp_path), RUN, LIMIT), "launcher", -1).milestone("port open", detail=HOSTILE)
    run = read_run(tmp_path)
    (request,), _ = requests_of(run)
    for shown in (overview(run, [request]), request_text(request)):
        assert "\x1b" not in shown and "\nforged" not in shown and "\u202e" not in shown
    for picture in (start_svg(run), request_svg(request)):
        assert "<script>" not in picture and "\x1b" not in picture
    json.loads(chrome_json(run, [request]))


def test_huge_text_is_shortened_and_half_a_character_is_no_error() -> None:
    assert len(events.shortened("x" * 10**6)) == events.MOST_TEXT
    assert events.shortened("\ud800") == "\\ud800"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "got no file, expected traces; write some with `lab serve --trace-dir"),
        (lambda folder: (folder / "notes.txt").touch(), "got 1 other file, expected traces"),
        (lambda folder: folder.rmdir(), "No such file or directory; expected a folder"),
        (lambda folder: (folder.rmdir(), folder.touch()), "Not a directory; expected a folder"),
        (lambda folder: (folder / f"{RUN}.api-0.1.0.trace").touch(), "got no event of run"),
        (lambda folder: os.mkfifo(folder / f"{RUN}.api-0.1.0.trace"), "not a regular file"),
        (lambda folder: (folder / f"{RUN}.api-0.1.0.trace").write_bytes(b"\0\xff\n" * 9), "9 lines can't be read"),
    ],
)
def test_a_folder_with_nothing_to_show_is_one_sentence(tmp_path: Path, make, says: str) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    make(folder)
    code, out, err = lab_trace(str(folder))
    assert code == 1 and out == ""
    assert says in err and err.count("\n") == 1


def test_which_request_is_meant(folder: Path) -> None:
    write(folder, "api-1", asked(1, 30.0, "mint", 1), slot=1)
    assert lab_trace(str(folder), "min")[2].startswith("lab trace: got 'min', which is the beginning of 2 requests")
    assert "got the request 'yours', expected one of 2" in lab_trace(str(folder), "yours")[2]
    assert lab_trace(str(folder), "mint")[0] == 0


def test_which_run_is_meant(folder: Path) -> None:
    later = write(folder, "api-0", asked(1, 30.0, "later", 1), slot=0, run="ffffffff")
    os.utime(later, (2e9, 2e9))
    out = lab_trace(str(folder))[1]
    assert "later" in out and f"1 other run here: {RUN}" in out
    assert "mine" in lab_trace(str(folder), "--run", RUN)[1]
    assert "expected one of" in lab_trace(str(folder), "--run", "nope")[2]


def test_a_table_of_many_requests_shows_the_last_ones(tmp_path: Path) -> None:
    made = [event for number in range(1, 101) for event in asked(number, 10.0 * number, f"q{number}", number)]
    write(tmp_path, "api-0", made, slot=0)
    out = lab_trace(str(tmp_path))[1]
    assert "100 requests" in out and "q100" in out and "q60 " not in out
    assert "q1 " in lab_trace(str(tmp_path), "--all")[1]


def test_a_picture_that_can_not_be_written_is_one_sentence(folder: Path) -> None:
    code, _, err = lab_trace(str(folder), "--svg", str(folder / "no" / "where.svg"))
    assert code == 1 and err.count("\n") == 1 and "No such file or directory" in err

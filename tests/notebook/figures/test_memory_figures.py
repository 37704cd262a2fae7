"""Memory over time and the three roads of a tensor: the measurements decide what they show."""

import os
from dataclasses import replace

import pytest

import lab_support.notebook as lab
from lab_support.instruments.record import recordings
from lab_support.notebook.recordings.memory_over_time import drawn, measured_here, on_the_gpu
from lab_support.notebook.stages import shared_memory

POINTS = [(0.0, 300e6), (1.0, 300e6), (1.2, 20e6)]


def test_memory_is_told_at_each_mark_and_at_the_end():
    marks = {"parent: kill -9": 0.0, "child: ends": 1.0}
    picture = lab.memory_over_time(POINTS, marks=marks, before=10e6, unit="memory", finding="It stays")
    assert picture.alt == ("It stays. memory, MB: before 10; parent: kill -9: 300; child: ends: 300; at the end: 20.")
    assert picture.png().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="got no points"):
        lab.memory_over_time([], marks={}, before=0, unit="memory", finding="Nothing")


def test_shared_memory_in_use_grows_and_falls_with_a_memfd():
    before = shared_memory.in_use()
    memory = os.memfd_create("test")
    os.posix_fallocate(memory, 0, 256 << 20)
    seen = shared_memory.watch(0.1)
    os.close(memory)
    assert min(used for _, used in seen) - before > 128 << 20
    assert shared_memory.in_use() - before < 128 << 20
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)


def test_the_question_does_not_say_what_travels_and_the_answer_does():
    asked = lab.memory_roads()
    assert "a descriptor travels" not in asked.alt
    drawn = [text.get_text() for axes in asked.figure.axes for text in axes.texts]
    assert drawn.count("?") == 3
    assert "a handle: bytes" not in drawn
    seen = lab.memory_roads({"CUDA IPC": "66 bytes\nno descriptor", "a shared CPU tensor": ""})
    assert "CUDA IPC: a handle: bytes travels" in seen.alt
    assert "Seen: 66 bytes; no descriptor." in seen.alt
    assert seen.png().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="got NVLink, expected some of a shared CPU tensor, CUDA IPC"):
        lab.memory_roads({"NVLink": "fast"})


def test_a_killed_owner_s_memory_goes_with_the_last_child_that_holds_it_in_any_way():
    told = shared_memory.killed_owner(os.close, shared_memory.map_alone)
    assert [step["what"] for step in told["steps"]] == [
        "owner lives", "owner killed", "child 1 ended", "child 2 ended"
    ]  # fmt: skip
    assert [(step["descriptor"], step["mapping"]) for step in told["steps"]] == [(0, 1), (0, 1), (0, 1), (0, 0)]
    held = [step["seen"][-1][1] - told["before"] > 128 << 20 for step in told["steps"]]
    assert held == [True, True, True, False]


def test_a_child_s_error_is_told_and_the_others_go_on():
    told = shared_memory.killed_owner(lambda memory: os.close(9999), lambda memory: None)
    assert [error.partition(":")[0] for error in told["said"]] == ["OSError", ""]
    assert told["steps"][1]["descriptor"] == 2


def test_a_child_that_ends_in_its_function_is_told_and_nobody_waits_for_its_line():
    told = shared_memory.killed_owner(lambda memory: os._exit(0), lambda memory: None)
    assert told["said"] == [shared_memory.GONE, ""]
    assert [step["what"] for step in told["steps"]] == ["owner lives", "owner killed", "child 2 ended"]
    assert [step["descriptor"] for step in told["steps"]] == [1, 1, 0]


def test_the_recording_and_this_machine_stand_side_by_side_each_with_its_source_and_holders():
    run = recordings.load("idle_forked_child")
    here = measured_here({"sleeps": shared_memory.killed_owner(lambda memory: None)})
    picture = drawn("Both", replace(on_the_gpu(run), heading="RECORDED there"), here)
    assert "RECORDED there. memory in use on the GPU, MB: before 645" in picture.alt
    assert "NVML names: parent, then not asked for names." in picture.alt
    assert "sleeps: held by: owner + child, then child, then nobody." in picture.alt
    assert min(on_the_gpu(run).seconds) < 0, "the figure begins before the kill"

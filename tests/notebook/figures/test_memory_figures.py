"""Memory over time and the three roads of a tensor: the measurements decide what they show."""

import os

import pytest

import lab_support.notebook as lab
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

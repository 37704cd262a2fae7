"""The recorded paces: those of data/recordings, chosen by name, and refused where nothing was recorded."""

import json
from pathlib import Path
from statistics import median

import pytest

from lab_support.config import ConfigError, ServerConfig
from lab_support.pace.choice import anchored_device, pace_of
from lab_support.pace.recorded import RECORDING, read_recorded

POINTS = [
    point
    for point in json.loads(RECORDING.read_bytes())["samples"]
    if point["what"] == "point" and point["model"] in ("1B", "8B")
]


def pace(device: str, **choices):
    return pace_of(ServerConfig(device=device, **choices))


@pytest.mark.parametrize("point", POINTS, ids=lambda each: f"{each['model']}-{each['batch']}-{each['context']}")
def test_a_recorded_step_takes_its_recorded_time(point) -> None:
    """The context of its middle: the answers have made it longer than the prompts."""
    context = point["context"] + point["output_tokens"] / 2
    made = pace(f"paced:{point['model']}").step_ms(point["batch"], context)
    assert made == pytest.approx(median(point["step_ms"]), rel=0.01)


def test_the_recording_is_named() -> None:
    recording = json.loads(RECORDING.read_bytes())
    title = pace("paced:8B").title
    assert title.startswith("stand-in for a GPU")
    assert recording["machine"]["gpu"] in title and recording["date"][:10] in title and "8B" in title


def test_more_rows_longer_contexts_and_prompts_take_longer() -> None:
    made = pace("paced:8B")
    assert made.step_ms(1, 1000) < made.step_ms(4, 1000) < made.step_ms(64, 1000) < made.step_ms(64, 2000)
    assert made.step_ms(1, 1000, prompt_tokens=512) > 2 * made.step_ms(1, 1000)
    assert pace("paced:1B").prompt_ms < made.prompt_ms


def test_more_rows_than_were_recorded_are_refused() -> None:
    assert pace("paced:8B", max_num_seqs=64).most_rows == 64
    with pytest.raises(ConfigError, match="--max-num-seqs: got 65, expected at most 64 under --device paced:8B"):
        pace("paced:8B", max_num_seqs=65)


def test_a_recording_of_64_rows_alone_is_refused() -> None:
    assert read_recorded()["box"].least_rows == 64
    with pytest.raises(ConfigError, match="got paced:box, of which only steps of 64 rows were recorded"):
        pace("paced:box")


def test_a_name_that_is_neither_recorded_nor_a_file_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigError, match=r"got paced:70B, expected a recorded pace \(8B, 1B\) or the file of a table"):
        pace("paced:70B")
    with pytest.raises(ConfigError, match=r"--device: got \S*/gone.txt, which can't be read"):
        pace("paced:/nowhere/gone.txt")


@pytest.mark.parametrize("device", ["paced", "paced:", "tpu", "Paced:8B"])
def test_another_word_is_refused_with_all_devices(device: str) -> None:
    with pytest.raises(ConfigError, match=f"--device: got '{device}', expected one of auto, cpu, cuda, paced:NAME"):
        ServerConfig(device=device)


def test_a_file_of_a_recorded_name_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("8B").write_text("1 1 3\n")
    small = {"max_num_seqs": 1}
    assert pace("paced:8B", **small).step_ms(1, 1) != 3 == pace("paced:./8B", **small).step_ms(1, 1)
    assert anchored_device(ServerConfig(device="paced:8B")) == "paced:8B"
    assert anchored_device(ServerConfig(device="paced:./8B")) == f"paced:{tmp_path}/8B"
    assert anchored_device(ServerConfig(device="cpu")) == "cpu"


@pytest.mark.parametrize("text", ["", "[]", '{"samples": []}', '{"machine": {"gpu": ""}, "date": "", "samples": [1]}'])
def test_a_recording_that_can_not_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "steps.json").write_text(text)
    with pytest.raises(ConfigError, match=r"steps.json: got no recording of paces"):
        read_recorded(tmp_path / "steps.json")
    with pytest.raises(ConfigError, match="can't be read"):
        read_recorded(tmp_path / "gone.json")

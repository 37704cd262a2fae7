"""Flags that are made from any dataclass: parsed, read back, and made words again."""

import argparse
from dataclasses import dataclass

import pytest

from lab_support import flags
from lab_support.flags import flag


@dataclass(frozen=True)
class Asked:
    where: str
    rounds: int = flag(1000, "how often", group="a")
    rate: float | None = flag(None, "how fast", type=float, group="b")
    port: int = flag(80, "which", type=int)
    quiet: bool = flag(False, "say nothing", group="a")
    names: tuple[str, ...] = flag((), "who", type=str, many=True, short=("-n",))
    colour: str = flag("red", "which one", choices=("red", "blue"), shown="that of the sun")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="ask")
    made.add_argument("where")
    flags.add_flags(made, Asked)
    return made


def asked(*words: str) -> Asked:
    return Asked(**flags.choices_of(parser().parse_args(words), Asked))


def test_the_defaults_are_the_fields_own() -> None:
    assert asked("here") == Asked("here")


def test_words_become_values_and_the_same_words_again() -> None:
    words = ["here", "--rounds", "2k", "--rate", "0.5", "--quiet", "-n", "a", "b", "--colour", "blue"]
    found = asked(*words)
    assert found == Asked("here", 2000, 0.5, 80, True, ["a", "b"], "blue")  # type: ignore[arg-type]
    choices = {name: getattr(found, name) for name in ("rounds", "rate", "quiet", "names", "colour")}
    assert asked("here", *flags.words_for(choices, Asked)) == found
    assert flags.words_for({"quiet": False, "rate": None, "names": []}, Asked) == ["--no-quiet"]


def test_a_number_that_names_something_is_no_count(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        asked("here", "--port", "8k")
    assert "--port: invalid int value: '8k'" in capsys.readouterr().err


def test_the_help_has_groups_defaults_and_names_of_values() -> None:
    text = " ".join(parser().format_help().split())
    assert text.count(" a: ") == text.count(" b: ") == 1
    for part in ("--rounds INT how often (default: 1000)", "--rate FLOAT how fast", "(default: that of the sun)"):
        assert part in text
    assert "say nothing (default: False)" in text and "how fast (default" not in text and "who (default" not in text

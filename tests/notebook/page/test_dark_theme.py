"""Inks for both themes of JupyterLab, measured as WCAG 2 measures contrast."""

import re
from pathlib import Path

import pytest

from lab_support.notebook.moves import checks, claims, quiz
from lab_support.notebook.page import views

GROUNDS = {"light": "#ffffff", "JupyterLab's dark": "#111111"}


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", GROUNDS.values(), ids=GROUNDS)
@pytest.mark.parametrize("ink", [views.RIGHT, views.WRONG, views.NEITHER])
def test_signs_and_words_can_be_read(ink, ground):
    assert contrast(ink, ground) >= 4


def test_verdicts_use_these_inks_alone():
    for module in (checks, claims, quiz):
        text = Path(module.__file__).read_text()
        assert not re.findall(r"#[0-9a-f]{6}", text)

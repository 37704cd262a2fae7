"""Lost starts over launchers at once: the line that chance alone gives, the dots, and a recording in their place."""

import random

import pytest

from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.figures.lost_starts import lost_by_chance, lost_starts
from lab_support.notebook.moves.verdicts import judge_of

pytestmark = pytest.mark.usefixtures("empty_record")


def test_the_line_is_that_of_a_fair_draw():
    chance = random.Random(7)
    rounds = [16 - len({chance.randrange(100) for _ in range(16)}) for _ in range(20_000)]
    assert lost_by_chance(16, ports=100, starts=16 * 20_000) == pytest.approx(sum(rounds), rel=0.02)
    assert lost_by_chance(2, ports=100, starts=200) == pytest.approx(1)
    assert lost_by_chance(1, ports=100, starts=200) == pytest.approx(0)


def test_a_last_round_that_is_not_full_counts_as_what_it_is():
    full, rest = lost_by_chance(16, 100, 192), lost_by_chance(8, 100, 8)
    assert lost_by_chance(16, 100, 200) == pytest.approx(full + rest)


def test_the_title_is_the_finding_and_the_words_have_every_race():
    picture = lost_starts({1: [0, 0], 4: [2, 3], 16: [14, 17]}, starts=200, ports=100)
    (axes,) = picture.figure.axes
    assert axes.get_title(loc="left") == (
        "Of 200 starts, one launcher alone loses none, 4 at once 2.5, 16 at once 15.5 on average"
    )
    assert "16: lost 14, 17." in picture.alt and "one of 100 ports at random: 0, 2.98, 14." in picture.alt
    assert axes.get_xlabel() == "launchers at once" and axes.get_ylabel() == "lost starts, of 200"


def test_where_the_range_cant_be_narrowed_the_recording_is_shown_and_the_claim_is_not_judged():
    program = "from lab_support.notebook.script import emit\nemit(narrow=False, launchers=1, starts=200, lost=0)"
    judge = judge_of("07.1")
    found = judge.find(run_process(program, quiet=True))
    assert judge.letter(found.measured) == "c"
    assert "lost_starts, RECORDED on" in found.shown._repr_mimebundle_()[0]["text/plain"]
    assert [claim.outcome for claim in found.claims] == [None]

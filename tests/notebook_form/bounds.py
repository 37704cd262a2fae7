"""The bounds of the form, and the sentences that say which are broken."""

import math
from collections.abc import Iterator, Sequence

from tests.notebook_form.form import Form
from tests.notebook_form.questions import Spread

CELLS, WORDS = (35, 50), (1200, 1800)
MOST_LINES, MOST_PREDICTIONS, MOST_MINUTES, LEAST_VARIANTS = 25, 7, 12, 2
LOOP_PREDICTIONS, LOOP_CLAIMS, LOOP_BLANKS = 2, 3, 1
MOST_OF_ONE_LETTER = 0.45
ENOUGH = 20
"""Predictions with a known right letter, below which nothing is said of their spread, because luck would decide."""


def broken(form: Form) -> list[str]:
    """The bounds that a notebook breaks, in words. An appendix has those on cells' lines and on claims alone."""
    return [*_for_all(form), *([] if form.is_appendix else _for_main(form))]


def _for_all(form: Form) -> Iterator[str]:
    if form.largest > MOST_LINES:
        yield f"the largest code cell has {form.largest} lines, expected at most {MOST_LINES}"
    for loop in form.loops:
        if loop.claims > LOOP_CLAIMS:
            yield f"“{loop.heading}” has {loop.claims} claims, expected at most {LOOP_CLAIMS}"


def _for_main(form: Form) -> Iterator[str]:
    yield from _within("cells", form.cells, CELLS)
    yield from _within("words", form.words, WORDS)
    if len(form.asked) > MOST_PREDICTIONS:
        yield f"{len(form.asked)} predictions, expected at most {MOST_PREDICTIONS}"
    if form.variants < LEAST_VARIANTS:
        yield f"{form.variants} variants (lab.again), expected at least {LEAST_VARIANTS}"
    if max(form.gaps) > MOST_MINUTES:
        yield f"{max(form.gaps):.1f} minutes without code that the reader writes, expected at most {MOST_MINUTES}"
    for loop in form.loops:
        if loop.predictions > LOOP_PREDICTIONS:
            yield f"“{loop.heading}” has {loop.predictions} predictions, expected at most {LOOP_PREDICTIONS}"
        if loop.blanks < LOOP_BLANKS:
            yield f"“{loop.heading}” has no cell with blanks"
    yield from form.told


def _within(what: str, count: int, bounds: tuple[int, int]) -> Iterator[str]:
    if not bounds[0] <= count <= bounds[1]:
        yield f"{count:,} {what}, expected {bounds[0]:,} to {bounds[1]:,}"


def broken_together(forms: Sequence[Form]) -> list[str]:
    """The bounds on the predictions of several notebooks together."""
    spread = Spread([asked for form in forms for asked in form.asked])
    return list(_of_spread(spread)) if len(spread.known) >= ENOUGH else []


def _of_spread(spread: Spread) -> Iterator[str]:
    letter, count = spread.letters.most_common(1)[0]
    total = len(spread.known)
    if count > MOST_OF_ONE_LETTER * total:
        yield f"{letter} is right in {count} of {total} predictions, expected at most {MOST_OF_ONE_LETTER:.0%}"
    least, most = math.floor(spread.by_chance / 2), math.ceil(spread.by_chance)
    for name, right in (("longest", spread.longest_right), ("shortest", spread.shortest_right)):
        if not least <= right <= most:  # below the lower bound, a reader crosses it out
            yield f"the {name} option is right {right:.1f} times of {total}, expected {least} to {most}, as by chance"

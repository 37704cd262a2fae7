"""`lab.claim`: a statement that the text relies on, tested on the reader's machine: ✔, ✘, or why it can't be tested.

Runs in the kernel. In batch runs and under LAB_STRICT, a false claim ends the run, because no reader would see it.
"""

import html
import os

from IPython import get_ipython
from IPython.display import display

from lab_support.notebook.page import record
from lab_support.notebook.page.plain import plain
from lab_support.notebook.page.views import NEITHER, RIGHT, WRONG

STRICT = "LAB_STRICT"
_ADVICE = (
    "It is not so here. If you have just changed the cell above, this is what your change does. If not, run the "
    "experiment again with nothing else running; if it stays so, this machine differs from the one that the text was "
    "written on: believe what you measured, and go on."
)


class ClaimFailed(AssertionError):
    """A claim is false in a run that must end with it."""

    def _render_traceback_(self) -> list[str]:
        """IPython shows this in place of a traceback through our own files, which tells the reader nothing."""
        return [f"ClaimFailed: {self}"]


def claim(words: str, condition: bool | None = None, *, got: object = None, untestable: str = "") -> None:
    """Show whether `words` hold here, and note it in the reader's record.

    condition: None if it can't be tested. got: the figure that it was judged by. untestable: why it can't be tested
    on this machine; it is then neither passed nor failed, whatever the condition.
    Raises `ClaimFailed` for a false claim in batch runs and under LAB_STRICT=1, `ValueError` if both condition and
    untestable are missing.
    """
    if condition is None and not untestable:
        raise ValueError('claim: got no condition, expected True or False, or untestable="why"')
    outcome = None if untestable else bool(condition)
    figure = _figure(got)
    record.note("claim", words, outcome=outcome, got=figure, reason=untestable)
    if outcome is False and (record.in_batch() or os.environ.get(STRICT, "0") not in ("", "0")):
        raise ClaimFailed(f"{words}: got {figure or 'False'}, expected the claim to hold")
    sign, line = _line(words, outcome, figure, untestable)
    _show(sign, line, _ADVICE if outcome is False else "")


def _figure(got: object) -> str:
    return "" if got is None else plain(got)


def _line(words: str, outcome: bool | None, figure: str, reason: str) -> tuple[str, str]:
    measured = f" ({figure})" if figure else ""
    if outcome is None:
        return "–", f"{words}: can't be tested here: {reason}"
    return "✔" if outcome else "✘", words + measured


def _show(sign: str, line: str, advice: str) -> None:
    plain = f"{sign} {line}" + (f"\n  {advice}" if advice else "")
    if get_ipython() is None:
        print(plain)
        return
    colour = {"✔": RIGHT, "✘": WRONG}.get(sign, NEITHER)
    more = f'<div style="margin-left:1.6em;max-width:46em">{html.escape(advice)}</div>' if advice else ""
    mark = f'<b style="color:{colour}">{sign}</b>'
    display({"text/plain": plain, "text/html": f"<div>{mark} {html.escape(line)}{more}</div>"}, raw=True)

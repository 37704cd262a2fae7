"""`lab.claim`: a statement that the text relies on, tested on the reader's machine: ✔, ✘, or why it can't be tested.

Runs in the kernel. In batch runs and under LAB_STRICT, a false claim ends the run, because no reader would see it.
"""

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass

from IPython import get_ipython
from IPython.display import display

from lab_support.notebook.page import record
from lab_support.notebook.page.gate import show_once_settled
from lab_support.notebook.page.plain import plain
from lab_support.notebook.page.views import NEITHER, RIGHT, WRONG
from lab_support.plural import counted

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


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement about what was measured. holds: None if it can't be tested. got: the figure that it was judged by.

    untestable: why it can't be tested on this machine; it is then neither passed nor failed, whatever `holds` says.
    """

    words: str
    holds: bool | None = None
    got: object = None
    untestable: str = ""

    def __post_init__(self) -> None:
        if self.holds is None and not self.untestable:
            raise ValueError('claim: got no condition, expected True or False, or untestable="why"')

    @property
    def outcome(self) -> bool | None:
        return None if self.untestable else bool(self.holds)

    @property
    def figure(self) -> str:
        return "" if self.got is None else plain(self.got)

    @property
    def sign(self) -> str:
        return {True: "✔", False: "✘", None: "–"}[self.outcome]

    @property
    def line(self) -> str:
        """Its words, and the figure or the reason."""
        if self.outcome is None:
            return f"{self.words}: can't be tested here: {self.untestable}"
        return self.words + (f" ({self.figure})" if self.figure else "")


def claim(
    words: str, condition: bool | None = None, *, got: object = None, untestable: str = "", prediction: str = ""
) -> None:
    """Show whether `words` hold here, and note it in the reader's record.

    condition: None if it can't be tested. got: the figure that it was judged by. untestable: why it can't be tested
    on this machine; it is then neither passed nor failed, whatever the condition. prediction: the number of a
    prediction that the claim would give away; it is shown once that is answered or skipped.
    Raises `ClaimFailed` for a false claim in batch runs and under LAB_STRICT=1, `ValueError` if both condition and
    untestable are missing.
    """
    make([Claim(words, condition, got, untestable)], prediction)


def make(claims: Sequence[Claim], prediction: str = "", *, shown: bool = True) -> None:
    """Note the claims in the reader's record, and show them in one output. Raises `ClaimFailed`, see `claim`.

    shown: False if another output, such as a table with a sign in each row, says how they stand.
    """
    for each in claims:
        belongs = {"prediction": prediction} if prediction else {}
        record.note("claim", each.words, outcome=each.outcome, got=each.figure, reason=each.untestable, **belongs)
    if claims and shown:
        _show(claims, prediction)
    if record.in_batch() or os.environ.get(STRICT, "0") not in ("", "0"):
        for each in claims:
            if each.outcome is False:
                raise ClaimFailed(f"{each.words}: got {each.figure or 'False'}, expected the claim to hold")


def _show(claims: Sequence[Claim], prediction: str) -> None:
    bundle = {"text/plain": "\n".join(map(_in_text, claims)), "text/html": "".join(map(_in_html, claims))}
    if get_ipython() is None:
        print(bundle["text/plain"])
    elif prediction:
        show_once_settled(prediction, lambda: (bundle, {}), _waiting(len(claims), prediction))
    else:
        display(bundle, raw=True)


def _waiting(count: int, prediction: str) -> dict[str, str]:
    words = f"{counted(count, 'claim')} about it: tested, and shown after your prediction {prediction}."
    return {"text/plain": words, "text/html": f'<div style="opacity:.75">{words}</div>'}


def _in_text(each: Claim) -> str:
    return f"{each.sign} {each.line}" + (f"\n  {_ADVICE}" if each.outcome is False else "")


def _in_html(each: Claim) -> str:
    colour = {"✔": RIGHT, "✘": WRONG}.get(each.sign, NEITHER)
    advice = f'<div style="margin-left:1.6em;max-width:46em">{html.escape(_ADVICE)}</div>'
    mark = f'<b style="color:{colour}">{each.sign}</b>'
    return f"<div>{mark} {html.escape(each.line)}{advice if each.outcome is False else ''}</div>"

"""The output of a move: the same words as HTML and as plain text; and Python source, highlighted."""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
RIGHT, WRONG, NEITHER = "#00845f", "#cc4a10", "#767676"
"""Colours of signs and words, legible on white and on a dark theme: the contrast is at least 4 to 1 on either."""


@dataclass(frozen=True, slots=True)
class View:
    """text says all that the HTML says, because terminals, screen readers and untrusted notebooks show only text."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": self.text, "text/html": self.html}


def highlighted(source: str, marked: Iterable[int] = ()) -> str:
    """Python as HTML that needs no style sheet and stays readable without styles. marked: lines, from 1."""
    style = "background:#f7f7f7;color:#222;padding:.6em .8em;margin:0;line-height:1.35;white-space:pre;overflow-x:auto"
    look = HtmlFormatter(noclasses=True, nobackground=True, prestyles=style, hl_lines=list(marked))
    return highlight(source, PythonLexer(), look)


def escaped(text: str) -> str:
    """Text as HTML, in which `…` is code."""
    parts = html.escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def two_columns(rows: Iterable[tuple[str, str]]) -> str:
    """Words and their explanations, as an HTML table without lines."""
    first = "text-align:left;vertical-align:top;white-space:nowrap;opacity:.75"
    cells = "".join(
        f'<tr style="background:none"><td style="{first}">{escaped(word)}</td>'
        f'<td style="text-align:left">{escaped(text)}</td></tr>'
        for word, text in rows
    )
    return f'<table style="margin:.2em 0 .2em 1.2em"><tbody>{cells}</tbody></table>'


def aligned(rows: Iterable[tuple[str, str]]) -> str:
    """The same rows as plain text."""
    pairs = list(rows)
    width = max((len(word) for word, _ in pairs), default=0)
    return "\n".join(f"   {word.ljust(width)}   {text}" for word, text in pairs)

"""SVG pictures fitted to the page, with words below them, such as the reader's prediction. Pure functions."""

import re
import textwrap
from html import escape

from lab_support.instruments.xray.svg import PAGE_WIDTH

_MARGIN, _LINE, _CHARACTER, _SIZE = 14, 17, 6.9, 12  # pixels
_HEAD = re.compile(r'width="([\d.]+)" height="([\d.]+)" viewBox="0 0 ([\d.]+) ([\d.]+)"')


def within_the_page(svg: str) -> str:
    """`svg`, shrunk if it is wider than JupyterLab's page, which would cut off its right side."""
    found = _HEAD.search(svg)
    if found is None or float(found[1]) <= PAGE_WIDTH:
        return svg
    width, height = float(found[3]), float(found[4])
    start, end = found.span()
    head = f'width="{PAGE_WIDTH}" height="{height * PAGE_WIDTH / width:g}" viewBox="0 0 {width:g} {height:g}"'
    return svg[:start] + head + svg[end:]


def with_words_below(svg: str, words: str) -> str:
    """`svg`, made taller by the lines that `words` need; unchanged if it does not state its size in pixels."""
    found = _HEAD.search(svg)
    if found is None:
        return svg
    shown, _, width, height = map(float, found.groups())
    room = width if shown <= PAGE_WIDTH else PAGE_WIDTH  # a shrunk picture is visible to its right end
    lines = textwrap.wrap(words, max(20, int((room - 2 * _MARGIN) / _CHARACTER)))
    taller = height + _LINE * len(lines) + _MARGIN
    head = f'width="{shown:g}" height="{taller * shown / width:g}" viewBox="0 0 {width:g} {taller:g}"'
    below = [f'<rect x="0" y="{height:g}" width="{width:g}" height="{taller - height:g}" fill="white"/>']
    for number, line in enumerate(lines, 1):
        y = height + _LINE * number
        below.append(f'<text x="{_MARGIN}" y="{y:g}" font-size="{_SIZE}" fill="#222222">{escape(line)}</text>')
    start, end = found.span()
    body, closing, rest = svg[end:].rpartition("</svg>")
    return svg[:start] + head + body + "\n".join(below) + "\n" + closing + rest

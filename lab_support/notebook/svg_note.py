"""A line of words at the foot of an SVG picture, such as the reader's prediction below an X-ray. A pure function."""

import re
import textwrap
from html import escape

_MARGIN, _LINE, _CHARACTER, _SIZE = 14, 17, 6.9, 12  # pixels
_WIDEST = 840  # JupyterLab cuts off what its page has no room for
_HEAD = re.compile(r'width="([\d.]+)" height="([\d.]+)" viewBox="0 0 ([\d.]+) ([\d.]+)"')


def with_words_below(svg: str, words: str) -> str:
    """`svg`, made taller by the lines that `words` need; as it is, where it does not say its size in pixels."""
    found = _HEAD.search(svg)
    if found is None:
        return svg
    shown, _, width, height = map(float, found.groups())
    room = width if shown <= _WIDEST else _WIDEST  # a wide picture that is shown smaller is seen to its right end
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

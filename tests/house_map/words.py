"""Sentences of docstrings that open with a free relative clause: "What it prints.", "Who asks is told.".

Such a clause has no subject that the reader knows, so the sentence is read twice. The count is strict:

- A docstring is any string that stands alone as a statement: of a module, a class, a function, or below a field.
- A sentence begins where a paragraph or a `name:` line begins, and after `.`, `?` or `!` before a capital letter.
- It counts if its first word is one of `_OPENERS`, or its first two are "How many" or "How much".
- "Where" counts only without a comma behind it: "Where none is free, it waits" has an ordinary subordinate clause.
- "When", "While" and "If" always open ordinary clauses. A question is a question, and counts never.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OPENERS = {"What", "Whatever", "Who", "Whoever", "Whom", "Whomever", "Whose", "Whichever", "Wherever"}
_STARTS = re.compile(r"(?<=[.?!])[\"'`)]?\s+(?=[\"'`(]?[A-Z])")
_NAMED = re.compile(r"^\s*(?:[-*] |\d+\. |[\w*`, ]+: )")


@dataclass(frozen=True)
class Sentence:
    path: Path
    line: int
    text: str

    @property
    def opens_free(self) -> bool:
        words = self.text.lstrip("\"'`(").split()
        if not words or self.text.rstrip("\"'`)").endswith("?"):
            return False
        if words[0] == "Where":
            return "," not in self.text
        return words[0].rstrip(",") in _OPENERS or words[:2] in (["How", "many"], ["How", "much"])


def sentences(path: Path) -> Iterator[Sentence]:
    """All sentences of the file's docstrings, in its order."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for line, text in _paragraphs(node.value.value):
                yield from _split(path, node.lineno + line, text)


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Each with the number of its first line."""
    first, lines = 0, list[str]()
    for number, line in enumerate([*text.split("\n"), ""]):
        if lines and (not line.strip() or _NAMED.match(line)):
            yield first, "\n".join(lines)
            lines = []
        if line.strip():
            first = first if lines else number
            lines.append(line)


def _split(path: Path, line: int, paragraph: str) -> Iterator[Sentence]:
    begin = 0
    for gap in [*_STARTS.finditer(paragraph), None]:
        text = paragraph[begin : gap.start() if gap else None]
        yield Sentence(path, line + paragraph.count("\n", 0, begin), " ".join(text.split()))
        begin = gap.end() if gap else begin

"""The article from which this course began: the sentences that the notebooks test, from `data/article.json`."""

from functools import cache
from pathlib import Path

import msgspec

from lab_support.notebook.page.committed import NOTEBOOKS

ARTICLE = NOTEBOOKS.parent / "data" / "article.json"


class Sentence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One sentence. half: 1 or 2, the half of the article in which it stands. english: our translation.

    elsewhere: what the article itself says on the same matter in another place.
    """

    id: int
    half: int
    original: str
    english: str
    elsewhere: str = ""


class Article(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. what: a paragraph on what the article is, as far as it is known."""

    what: str
    sentences: list[Sentence]


@cache
def read(path: Path = ARTICLE) -> Article:
    """Raises `ValueError` that names the place, if the file is malformed."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Article)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path.name}: {error}") from error


def sentence(number: int) -> Sentence:
    """Raises `LookupError` for a number that the article's sentences don't have."""
    known = {each.id: each for each in read().sentences}
    if number not in known:
        raise LookupError(f"got sentence {number!r} of the article, expected one of 1 to {max(known)}")
    return known[number]

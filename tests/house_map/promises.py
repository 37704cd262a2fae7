"""Promises about the code's shape: each with its figures, and whether it is kept."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.house_map.code import MOST_FILES, ROOT, Package, arrows_up, circles, median_and_ninetieth, room_circles
from tests.house_map.words import Sentence, sentences
from tests.test_house import HOUSE

MOST_FREE = 0.02
MOST_LINES = (6, 16)


@dataclass(frozen=True)
class Promise:
    asked: str
    found: list[str]
    kept: bool


class House:
    """`lab_support`, the rooms of its tests, and what is promised of them."""

    def __init__(self) -> None:
        self.package = Package(HOUSE)
        self.tests = Package(ROOT / "tests")

    @cached_property
    def sentences(self) -> list[Sentence]:
        return [sentence for path in self.package.modules.values() for sentence in sentences(path)]

    @cached_property
    def free(self) -> list[Sentence]:
        """Sentences that open with a free relative clause."""
        return [sentence for sentence in self.sentences if sentence.opens_free]

    def promises(self) -> list[Promise]:
        return [
            self._none("circles between files", [" ⇄ ".join(circle) for circle in circles(self.package.imports)]),
            self._none("circles between rooms", [" ⇄ ".join(circle) for circle in room_circles(self.package)]),
            self._none("arrows up", arrows_up(self.package)),
            self._none(f"rooms of more than {MOST_FILES} files", _large(self.package)),
            self._none(f"rooms of tests of more than {MOST_FILES} files", _large(self.tests)),
            self._function_lines(),
            self._words(),
        ]

    def _none(self, of: str, found: list[str]) -> Promise:
        return Promise(f"no {of}", found, not found)

    def _function_lines(self) -> Promise:
        lengths = self.package.function_lines()
        median, ninetieth = median_and_ninetieth(lengths)
        found = f"{len(lengths)} functions: {median:g} lines at the median, {ninetieth:g} at the ninetieth percentile"
        return Promise("functions of at most {} and {} lines".format(*MOST_LINES), [found],
                       median <= MOST_LINES[0] and ninetieth <= MOST_LINES[1])  # fmt: skip

    def _words(self) -> Promise:
        share = len(self.free) / len(self.sentences)
        worst = Counter(sentence.path.relative_to(HOUSE).as_posix() for sentence in self.free).most_common(10)
        found = [f"{len(self.free)} of {len(self.sentences)} sentences: {share:.1%}"]
        found += [", ".join(f"{name} {count}" for name, count in worst)] if worst else []
        return Promise(f"less than {MOST_FREE:.0%} of docstring sentences open with a free relative clause", found,
                       share < MOST_FREE)  # fmt: skip


def _large(package: Package) -> list[str]:
    return [f"{room}: {count}" for room, count in package.sizes.items() if count > MOST_FILES]


def relative(path: Path) -> Path:
    return path.relative_to(ROOT)

"""The house as its code is: rooms, arrows and promises as text; `--words` and `--draw FILE` for more.

python -m tests.house_map                                   exit code 1 where a promise is not kept
python -m tests.house_map --words                           every sentence that opens with a free relative clause
python -m tests.house_map --draw lab_support/rooms.svg      the map in lab_support/README.md
"""

import argparse
import re
import sys
from pathlib import Path

from tests.house_map.code import Package
from tests.house_map.drawing import drawn, in_words
from tests.house_map.promises import House, Promise, relative


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.house_map", description="Rooms and arrows of lab_support.")
    parser.add_argument("--words", action="store_true", help="list sentences that open with a free relative clause")
    parser.add_argument(
        "--draw", type=Path, metavar="FILE", help="write the map as SVG, and its words into the README.md beside it"
    )
    asked = parser.parse_args()
    house = House()
    if asked.words:
        print(*(f"{relative(each.path)}:{each.line}: {each.text}" for each in house.free), sep="\n")
        return 0
    if asked.draw:
        draw(house.package, asked.draw)
        return 0
    promises = house.promises()
    print(rooms(house.package), *map(told, promises), sep="\n")
    return 0 if all(promise.kept for promise in promises) else 1


def draw(package: Package, picture: Path) -> None:
    """Write the picture, and describe it in the README.md beside it, if there is one that shows it."""
    picture.write_text(drawn(package), encoding="utf-8")
    readme = picture.parent / "README.md"
    if readme.exists():
        shown = re.compile(rf"!\[[^]]*\]\({re.escape(picture.name)}\)")
        text = readme.read_text(encoding="utf-8")
        readme.write_text(shown.sub(f"![{in_words(package)}]({picture.name})", text), encoding="utf-8")


def rooms(package: Package) -> str:
    """A line for each room: its own files, and the rooms that it imports, with the number of imports."""
    width = max(map(len, package.sizes))
    lines = []
    for room, count in package.sizes.items():
        targets = [f"{end} {number}" for (start, end), number in sorted(package.arrows.items()) if start == room]
        lines.append(f"{room:{width}} {count:3} files{' → ' if targets else ''}{', '.join(targets)}")
    return "\n".join(lines)


def told(promise: Promise) -> str:
    return "\n    ".join([f"{'kept    ' if promise.kept else 'NOT KEPT'} {promise.asked}", *promise.found])


if __name__ == "__main__":
    sys.exit(main())

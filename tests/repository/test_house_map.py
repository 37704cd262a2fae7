"""The house map: what it promises of this code holds, and it sees what it must in packages made for it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.house_map.code import ROOT, Package, arrows_up, circles
from tests.house_map.drawing import arrows_of, drawn, in_words
from tests.house_map.promises import House
from tests.house_map.words import sentences
from tests.test_house import MAY_IMPORT

PICTURE = ROOT / "lab_support" / "rooms.svg"
README = ROOT / "lab_support" / "README.md"
HOUSE = House()


def test_the_house_keeps_its_promises() -> None:
    broken = [promise for promise in HOUSE.promises() if not promise.kept]
    assert not broken, "\n".join(
        [*(line for each in broken for line in (each.asked, *each.found)), "python -m tests.house_map"]
    )


def test_the_picture_is_of_this_code() -> None:
    again = "draw it again: python -m tests.house_map --draw lab_support/rooms.svg"
    assert PICTURE.read_text(encoding="utf-8") == drawn(HOUSE.package), again


def test_the_picture_has_every_room_every_arrow_and_its_words() -> None:
    tree = ElementTree.fromstring(PICTURE.read_text(encoding="utf-8"))
    texts = [element.text or "" for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    rooms = {room.split("/")[0] for room in HOUSE.package.sizes} & MAY_IMPORT.keys()
    assert {text.rstrip("/") for text in texts if text.endswith("/")} == rooms
    heads = [element for element in tree.iter("{http://www.w3.org/2000/svg}path") if element.get("class") == "head"]
    assert len(heads) == len(arrows_of(HOUSE.package))
    assert in_words(HOUSE.package) in README.read_text()


def package(folder: Path, **files: str) -> Package:
    """`lab_support` of these files: `engine__model` is engine/model.py."""
    for name, text in files.items():
        path = folder / "lab_support" / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Package(folder / "lab_support")


def test_circles_of_any_length_are_found_wherever_the_import_stands(tmp_path: Path) -> None:
    made = package(
        tmp_path,
        engine__a="from lab_support.engine.b import thing",
        engine__b="def late():\n    from lab_support.engine import c",
        engine__c="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lab_support.engine.a",
        engine__d="from lab_support.engine import a",
    )
    assert circles(made.imports) == [[f"lab_support.engine.{name}" for name in "abc"]]


def test_arrows_up_are_found_through_a_room_within_and_through_the_top(tmp_path: Path) -> None:
    made = package(
        tmp_path,
        config="",
        doctor="from lab_support.boundary import limits",
        boundary__limits="from lab_support import config",
        notebook__page__record="from lab_support import config, doctor",
        notebook__figures__plots="from lab_support.notebook.page import record\nimport lab_support.boundary.limits",
    )
    assert arrows_up(made) == [
        "lab_support.notebook.figures.plots → lab_support.boundary.limits",
        "lab_support.notebook.page.record → lab_support.doctor",
    ]
    assert made.sizes == {"(top)": 2, "boundary": 1, "notebook/figures": 1, "notebook/page": 1}


def test_rooms_that_import_each_other_have_no_map(tmp_path: Path) -> None:
    made = package(
        tmp_path,
        engine__a="from lab_support.boundary import b",
        boundary__b="",
        boundary__c="from lab_support.engine import d",
        engine__d="",
    )
    with pytest.raises(ValueError, match="rooms import each other in a circle: boundary → engine → boundary"):
        drawn(made)


@pytest.mark.parametrize(
    ("text", "free"),
    [
        ("What it prints.", ["What it prints."]),
        ("Its words. Who asks is told.\n\nWhoever comes waits.", ["Who asks is told.", "Whoever comes waits."]),
        ("name: its own.\n    count: How many came.", []),
        ("How many came.\n- Whatever else.", ["How many came."]),
        ("Where it lies.", ["Where it lies."]),
        ("Where there is none, it waits. When it comes, it goes. If not, it stays.", []),
        ("What is it? Nothing asks.", []),
        ("The words What and Who stand here: What follows a colon begins no sentence.", []),
    ],
)
def test_a_sentence_that_opens_with_a_free_relative_clause(text: str, free: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text(f'def f():\n    """{text}"""\n')
    assert [sentence.text for sentence in sentences(file) if sentence.opens_free] == free

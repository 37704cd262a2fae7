"""Tables, open file descriptions, and a file: the drawing says who leads where, and where the next read begins."""

from lab_support.notebook.figures.open_files import Opened, open_files


def test_two_tables_lead_to_one_place():
    picture = open_files(
        [Opened(("parent", "child"), (0, 4, 7))], finding="One place", content="0123456789", number="3"
    )
    assert picture.alt == (
        "One place. The table of the parent and the table of the child lead to an open file description whose place "
        "goes 0 → 4 → 7. The file holds 0123456789."
    )
    assert words_in(picture).count("place 0 → 4 → 7") == 1
    assert words_in(picture).count("3") == 3, "a descriptor in each table, and the file's own 3"
    assert marks_in(picture) == ["7"]


def test_each_description_has_a_mark_of_its_own():
    picture = open_files([Opened(("parent",), (0, 3)), Opened(("child",), (0, 4))], finding="Two", content="0123456789")
    assert "The table of the parent leads to an open file description whose place goes 0 → 3." in picture.alt
    assert {"place 0 → 3", "place 0 → 4"} <= set(words_in(picture))
    assert marks_in(picture) == ["3", "4"]
    assert picture.png().startswith(b"\x89PNG")


def words_in(picture) -> list[str]:
    return [text.get_text() for axes in picture.figure.axes for text in axes.texts]


def marks_in(picture) -> list[str]:
    """The figures below the file: they stand lower than its bytes."""
    (axes,) = picture.figure.axes
    return [text.get_text() for text in axes.texts if text.get_va() == "top"]

"""Words below an SVG picture: it grows by what they need, and nothing of it changes."""

import os
from xml.etree import ElementTree

import lab_support.notebook as lab
from lab_support.notebook.page.gate import with_note
from lab_support.notebook.page.svg_note import with_words_below

PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="100" viewBox="0 0 300 100"><g/></svg>\n'


def test_the_picture_grows_by_the_lines_that_the_words_need():
    one, many = with_words_below(PICTURE, "a & b"), with_words_below(PICTURE, "many words " * 20)
    heights = [float(ElementTree.fromstring(each).get("height")) for each in (PICTURE, one, many)]
    assert heights[0] < heights[1] < heights[2]
    assert "a & b" in "".join(ElementTree.fromstring(one).itertext())
    for each in (one, many):
        root = ElementTree.fromstring(each)
        assert root.get("viewBox") == f"0 0 300 {root.get('height')}"
        assert max(float(line.get("y")) for line in root.iter() if line.tag.endswith("text")) < float(
            root.get("height")
        )


def test_below_a_wide_picture_the_words_stay_where_a_page_shows_them():
    lines = [
        with_words_below(PICTURE.replace("300", width), "many words " * 40).count("<text") for width in ("840", "3000")
    ]
    assert lines[0] == lines[1] > 3


def test_below_a_picture_that_is_shown_smaller_they_are_shown_smaller_with_it():
    halved = PICTURE.replace('width="300" height="100"', 'width="150" height="50"')
    full, small = (ElementTree.fromstring(with_words_below(each, "a & b")) for each in (PICTURE, halved))
    assert small.get("viewBox") == full.get("viewBox") and "a & b" in "".join(small.itertext())
    assert float(small.get("height")) == float(full.get("height")) / 2


def test_a_picture_that_says_no_size_is_left_alone():
    assert with_words_below("<svg/>", "words") == "<svg/>"


def test_a_prediction_stands_below_an_xray():
    data, _ = with_note(lab.xray(os.getpid()), "Your prediction: b.")._repr_mimebundle_()
    assert "Your prediction: b." in "".join(ElementTree.fromstring(data["image/svg+xml"]).itertext())
    assert data["text/plain"].endswith("Your prediction: b.")

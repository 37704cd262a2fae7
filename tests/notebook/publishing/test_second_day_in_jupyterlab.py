"""A page that is loaded again, and a notebook that is opened on another day, as JupyterLab shows them."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lab_support.notebook.publishing import build
from tests.in_jupyterlab import MODEL, after_run_all, needs_chromium, open_again
from tests.proofs.pytests import in_full

CELLS = [
    "import lab_support.notebook as lab\nlab.start('04')",
    "lab.predict('04.1', 'wake-ups per connection', options={'a': 'about 1', 'b': 'about 4'})",
    "lab.shares({'P1': 30, 'P2': 10}, prediction='04.1', right='b')",
    "lab.predict('04.7', 'what becomes of it', options={'a': 'kept', 'b': 'lost'}, rows=['one', 'another ' * 9])",
    "lab.shares({'P1': 30, 'P2': 10})",
]

pytestmark = [pytest.mark.slow, needs_chromium, in_full]


def test_reloaded_and_on_another_day_nothing_is_broken_and_it_says_what_to_do(tmp_path):
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in CELLS])
    build.tidy(notebook)
    nbformat.write(notebook, tmp_path / "mine.ipynb")
    with after_run_all(tmp_path, "mine.ipynb") as page:
        label = page.locator(".lab-row", has_text="another")
        assert label.bounding_box()["height"] > 40, "a long label has the lines that it needs, within its row"
        open_again(page)
        page.locator(".lab-options label", has_text="about 1").click()
        page.wait_for_selector("text=run that cell again")
        assert "Predict first" in page.evaluate(MODEL)["cells"][2]["outputs"][0]["data"]["text/plain"]
        record = (tmp_path / ".lab" / "record.jsonl").read_text().splitlines()
        assert "a" in [json.loads(line).get("answer") for line in record]
        open_again(page, another_day=True)
        page.wait_for_selector(".lab-kept.jupyter-widgets-disconnected .lab-options")
        assert page.locator("text=Error displaying widget").count() == 0
        after = "element => getComputedStyle(element, '::after').content"
        assert "run this cell again to choose" in page.locator(".lab-kept").first.evaluate(after)
        before = "elements => elements.map(element => getComputedStyle(element, '::before').content)"
        parts = page.locator(".lab-kept .jupyter-widgets-disconnected").evaluate_all(before)
        assert len(parts) > 5 and set(parts) == {"none"}
        page.set_viewport_size({"width": 640, "height": 1000})
        figure = page.locator(".jp-RenderedImage img").last
        assert figure.bounding_box()["width"] >= 560, "a figure keeps a size that can be read, and the page scrolls"

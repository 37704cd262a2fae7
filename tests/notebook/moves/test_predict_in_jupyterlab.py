"""Predictions as a reader has them: in JupyterLab, with a mouse and the keys."""

import os

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lab_support.notebook.publishing import build
from tests.in_jupyterlab import MODEL, after_run_all, needs_chromium

OPTIONS = {
    "a": "about 1: the kernel wakes one sleeper, and lets all the others go on sleeping, because one connection can be "
    "taken only once and nobody else would find anything in the queue",
    "b": "about 4: all are woken, one wins",
}
CELLS = [
    "import lab_support.notebook as lab\nlab.start('04')",
    f"lab.predict('04.1', 'wake-ups per connection', options={OPTIONS!r})",
    "lab.shares({'P1': 30, 'P2': 10}, prediction='04.1', right='b')",
    "lab.predict('04.3', 'share of each process', sketch=['P1', 'P2', 'P3'])",
    "lab.shares({'P1': 30, 'P2': 10, 'P3': 5}, prediction='04.3')",
]

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A notebook in JupyterLab, after Run All, as one who never chose has it."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in CELLS])
    build.tidy(notebook)  # names the kernel: without, JupyterLab asks which
    nbformat.write(notebook, folder / "mine.ipynb")
    with after_run_all(folder, "mine.ipynb", height=1600) as opened:
        opened.wait_for_selector("text=Predict 04.3")
        yield opened


def data_of(page, cell: int) -> dict:
    (output,) = page.evaluate(MODEL)["cells"][cell]["outputs"]
    return output["data"]


def counts(page) -> list[int]:
    return [cell["execution_count"] for cell in page.evaluate(MODEL)["cells"]]


def picture(page, name: str) -> None:
    if folder := os.environ.get("LAB_PICTURES"):
        page.wait_for_timeout(300)
        page.screenshot(path=f"{folder}/{name}.png")


def await_figure(page, cell: int) -> None:
    page.wait_for_function(
        f"() => 'image/png' in window.jupyterapp.shell.currentWidget.model.sharedModel.toJSON()"
        f".cells[{cell}].outputs[0].data"
    )


def test_a_choice_with_the_mouse_draws_the_figure_without_a_new_run(page):
    assert "Predict first." in data_of(page, 2)["text/html"] and "image/png" not in data_of(page, 2)
    picture(page, "predict-first")
    before = counts(page)
    label = page.locator(".lab-options label", has_text="about 1")
    assert label.bounding_box()["height"] > 40, "a long option is wrapped, not cut"
    label.click()
    await_figure(page, 2)
    page.wait_for_selector("text=You have seen the result.")
    picture(page, "predict-chosen")
    assert "Your prediction: a" in data_of(page, 2)["text/plain"]
    assert counts(page) == before
    assert "Predict first." in data_of(page, 4)["text/html"], "the other result still waits"


def test_a_slider_changes_the_picture_and_the_button_keeps_the_sketch(page):
    drawing = page.locator("svg[aria-label^='Your sketch']")
    assert "P1 33%" in drawing.get_attribute("aria-label")
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.scroll_into_view_if_needed()
    handle.focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    page.wait_for_selector("svg[aria-label^='Your sketch']:not([aria-label*='P1 33%'])")
    assert "Predict first." in data_of(page, 4)["text/html"], "moving a slider is not yet an answer"
    page.locator("button", has_text="This is my prediction").click()
    await_figure(page, 4)
    picture(page, "sketch-kept")
    assert "whole is in other bars" in data_of(page, 4)["text/plain"]

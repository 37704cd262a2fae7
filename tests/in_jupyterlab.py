"""Notebooks in JupyterLab in headless Chromium, as a reader has them."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium")
_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
_PATIENCE = 120_000  # milliseconds; JupyterLab's page takes more than Playwright's 30 s if others use all cores
_TOKEN = "a-token-for-this-test"
_RUN_ALL = "async () => await window.jupyterapp.commands.execute('notebook:run-all-cells')"
_KERNEL_READY = """async () => {
    const widget = window.jupyterapp.shell.currentWidget
    await widget.context.ready
    await widget.sessionContext.ready
    await widget.sessionContext.session.kernel.info
}"""
MODEL = "() => window.jupyterapp.shell.currentWidget.model.sharedModel.toJSON()"
"""The notebook as JSON. Not the page: what is off the screen has no text there."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a page."""
    playwright = pytest.importorskip("playwright.sync_api")
    with (
        playwright.sync_playwright() as browsers,
        browsers.chromium.launch(executable_path=CHROMIUM, args=_FLAGS) as browser,
    ):
        yield browser


@contextmanager
def empty_page(width: int = 1280, height: int = 1000) -> Iterator[Any]:
    """Of a browser without JupyterLab. Sizes in pixels."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(_PATIENCE)
        yield page


@contextmanager
def after_run_all(folder: Path, name: str, number: str = "00", height: int = 1000) -> Iterator[Any]:
    """The page of notebook `name` in the workspace `folder` after Run All; `lab open` brings notebook `number` too."""
    with _jupyterlab(folder, number) as address, empty_page(height=height) as page:
        page.goto(f"{address}/lab/tree/{name}?token={_TOKEN}&reset", wait_until="domcontentloaded")
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext")
        page.evaluate(_KERNEL_READY)
        assert page.evaluate(_RUN_ALL), "a cell raised an error"
        yield page


def open_again(page: Any, *, another_day: bool = False) -> None:
    """Save, and load the page again. another_day: the kernel has ended meanwhile, and a new one runs."""
    page.evaluate("async () => await window.jupyterapp.shell.currentWidget.context.save()")
    if another_day:
        page.evaluate("async () => await window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.goto(page.url, wait_until="domcontentloaded")
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext")
    page.evaluate(_KERNEL_READY)


def scroll_to(page: Any, index: int) -> None:
    """Cell `index` to the top: what is off the screen can't be clicked."""
    page.evaluate(f"async () => await window.jupyterapp.shell.currentWidget.content.scrollToItem({index}, 'start')")


@contextmanager
def _jupyterlab(folder: Path, number: str) -> Iterator[str]:
    """`lab open` without a browser, in its own workspace, with settings of its own; its address once it answers."""
    settings = folder / ".jupyter" / "jupyter_lab_config.json"
    settings.parent.mkdir()
    settings.write_text('{"LabApp": {"expose_app_in_browser": true}}')
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "lab_support", "open", number, "--no-browser", "--port", str(port)]
    environment = os.environ | {"JUPYTER_TOKEN": _TOKEN, "JUPYTER_DATA_DIR": str(folder / "data")}
    environment |= {"JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "IPYTHONDIR": str(folder / "ipython")}
    command += ["--workspace", str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as lab:
        try:
            _await_ready(lab)
            yield f"http://127.0.0.1:{port}"
        finally:
            lab.terminate()
            lab.wait(30)


def _await_ready(lab: subprocess.Popen) -> None:
    """Read its log up to the line that says so, and leave the rest to a thread, so that the pipe never fills."""
    said = []
    for line in lab.stderr:
        said.append(line)
        if "is running at" in line:
            threading.Thread(target=lab.stderr.read, daemon=True).start()
            return
    raise AssertionError("JupyterLab ended; it said:\n" + "".join(said))

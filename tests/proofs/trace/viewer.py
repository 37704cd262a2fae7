"""The file for trace viewers in Chromium's own: the Performance panel of its developer tools.

This Chromium has no chrome://tracing any more, and Perfetto's trace processor would have to be downloaded.
"""

import json
import tempfile
from pathlib import Path

from lab_support.instruments.trace.chrome import chrome_json
from lab_support.instruments.trace.read import read_run
from lab_support.instruments.trace.requests import requests_of
from tests.in_jupyterlab import CHROMIUM
from tests.proofs import Row

_OPEN = """async (text) => {
    const ui = await import('./ui/legacy/legacy.js')
    await ui.ViewManager.ViewManager.instance().showView('timeline')
    const timeline = await import('./panels/timeline/timeline.js')
    await timeline.TimelinePanel.TimelinePanel.instance().loadFromFile(new File([text], 'trace.json'))
    const trace = await import('./models/trace/trace.js')
    const model = trace.TraceModel.Model.createWithAllHandlers()
    await model.parse(JSON.parse(text).traceEvents, {metadata: {}, isFreshRecording: false})
    const found = {}
    for (const [pid, process] of model.parsedTrace(0).data.Renderer.processes) {
        found[pid] = [...process.threads.values()].map(thread => thread.entries.length)
    }
    return found
}"""


def opened_in_chromium(text: str, picture: Path | None = None) -> dict[str, list[int]]:
    """The number of slices of each thread, by process, as Chromium's trace viewer reads them."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers, tempfile.TemporaryDirectory() as profile:
        browser = browsers.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=["--no-sandbox"], viewport={"width": 1500, "height": 900}
        )
        page = browser.new_page()
        page.goto("devtools://devtools/bundled/devtools_app.html", wait_until="commit")
        page.wait_for_function("() => document.querySelector('.root-view, .main-tabbed-pane, .tabbed-pane') !== null")
        found = page.evaluate(_OPEN, text)
        if picture:
            page.wait_for_timeout(3000)  # for the look of it only
            page.screenshot(path=picture)
        browser.close()
    return found


def viewer_row(folder: Path, picture: Path | None = None) -> Row:
    run = read_run(folder)
    text = chrome_json(run, requests_of(run)[0])
    slices: dict[str, int] = {}
    for event in json.loads(text)["traceEvents"]:
        if event["ph"] == "X":
            slices[str(event["pid"])] = slices.get(str(event["pid"]), 0) + 1
    found = opened_in_chromium(text, picture)
    shown = {pid: sum(threads) for pid, threads in found.items()}
    told = f"{len(found)} processes, {sum(shown.values())} of {sum(slices.values())} slices"
    return Row("the file opens in a trace viewer (Chromium's), with every slice", told, shown == slices)

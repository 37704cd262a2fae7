"""The page of `lab watch` in headless Chromium, as a reader has it; and a page of another origin, which gets nothing.

With LAB_PICTURES=FOLDER it leaves pictures of the page there, to be looked at.
"""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from lab_support.instruments import proc
from lab_support.watch.site import PAGE
from tests.frontend.test_page import another_origin
from tests.in_jupyterlab import chromium, needs_chromium
from tests.running_server import PACED, running_server
from tests.watch.watching import Watching, family, watched

MOST_BYTES = 30_000
HOSTILE = "<img src=x onerror=document.title='broken'>"
ATTACK = """async ({url, body}) => {
    const tries = {
        'text': {mode: 'no-cors', credentials: 'include', headers: {'content-type': 'text/plain'}},
        'json': {credentials: 'include', headers: {'content-type': 'application/json'}},
    }
    const outcomes = {}
    for (const [name, options] of Object.entries(tries))
        outcomes[name] = await fetch(url + 'signal', {method: 'POST', body, ...options})
            .then(answer => answer.type === 'opaque' ? 'unreadable' : String(answer.status), () => 'refused')
    outcomes['reading'] = await fetch(url, {credentials: 'include'})
        .then(answer => String(answer.status), () => 'refused')
    outcomes['streaming'] = await new Promise(done => {
        const source = new EventSource(url + 'events', {withCredentials: true})
        source.onerror = () => { source.close(); done('refused') }
        source.addEventListener('figures', () => done('told'))
    })
    navigator.sendBeacon(url + 'signal', new Blob([body], {type: 'application/json'}))
    const frame = document.createElement('iframe')
    frame.name = 'frame'
    document.body.append(frame)
    const form = document.body.appendChild(document.createElement('form'))
    const field = form.appendChild(document.createElement('input'))
    Object.assign(form, {method: 'POST', action: url + 'signal', enctype: 'text/plain', target: 'frame'})
    Object.assign(field, {name: body.slice(0, -1) + ', "ignored": "', value: '"}'})
    await new Promise(loaded => { frame.onload = loaded; form.submit() })
    return outcomes
}"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@contextlib.contextmanager
def shown(browser: Any, watching: Watching, scheme: str = "light", width: int = 1600) -> Iterator[Any]:
    """The page in a profile of its own; the browser must not have complained at the end."""
    complaints: list[str] = []
    size = {"width": width, "height": 1000}
    with contextlib.closing(browser.new_context(viewport=size, color_scheme=scheme)) as context:
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto(f"{watching.url}?token={watching.token}")
        page.wait_for_selector("#state[data-is=live]")
        page.wait_for_selector("#xray svg")
        yield page
        assert not complaints


def row(pid: int) -> str:
    return f"#processes tbody tr:has(td:text-is('{pid}'))"


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("LAB_PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_it_is_small_and_needs_nothing_else() -> None:
    page = PAGE.read_text()
    assert len(page.encode()) <= MOST_BYTES
    assert not re.search(r"<[^>]*\son\w+\s*=", page), "an inline event handler"
    assert set(re.findall(r"https?://[^'\"\s]+", page)) == {"http://www.w3.org/2000/svg"}, "only a name"
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)
    assert not re.findall(r"localStorage|sessionStorage|indexedDB|document\.cookie", page)


@needs_chromium
class TestInChromium:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_a_server_and_a_kill(self, browser: Any, scheme: str) -> None:
        with (
            running_server(api_server_count=3, **PACED) as server,
            watched(server.url, "--allow-signals") as watching,
            shown(browser, watching, scheme) as page,
        ):
            assert "token" not in page.url, "it is used up, and not left in the history"
            for pid in server.pids.values():
                page.wait_for_selector(row(pid))
            page.wait_for_selector("#engines tbody tr")
            page.click("#clients")
            page.click("#yes")
            page.wait_for_selector("#log:has-text('16 clients have begun')")
            page.wait_for_selector("#engines td:nth-child(2):not(:text-is('–')):not(:text-is('0'))")
            gone = server.pids["api-1"]
            os.kill(server.pids["api-2"], signal.SIGSTOP)
            page.wait_for_selector(f"{row(server.pids['api-2'])}.stopped")
            os.kill(gone, signal.SIGKILL)
            page.wait_for_selector(f"#log:has-text('({gone}) ended by SIGKILL')")
            page.wait_for_selector(f"#log:has-text('takes the place of {gone}')")
            page.wait_for_selector(f"#xray text:text-is('pid {gone}')", state="detached")
            picture(page, f"watch-{scheme}")
            os.kill(server.pids["api-2"], signal.SIGCONT)
            page.wait_for_selector(f"{row(server.pids['api-2'])}:not(.stopped)")
            server.process.kill()
            page.wait_for_selector("#state[data-is=over]")
            assert page.locator("#xray svg").count() == 1, "the last picture stays"

    def test_by_keyboard_alone_after_one_confirmation(self, browser: Any) -> None:
        with (
            family() as (parent, children),
            watched(parent, "--allow-signals") as watching,
            shown(browser, watching) as page,
        ):
            page.wait_for_selector(row(children[0]))
            page.focus("#whom")
            page.select_option("#whom", label=page.locator(f"#whom option:has-text('({children[0]})')").text_content())
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            page.wait_for_selector("#confirm[open]")
            page.keyboard.press("Escape")
            page.wait_for_selector("#confirm:not([open])", state="attached")
            assert proc.read_process(children[0]).state == "S", "no confirmation"
            page.keyboard.press("Enter")
            page.wait_for_selector("#confirm[open]")
            assert page.evaluate("document.activeElement.id") == "yes"
            page.keyboard.press("Enter")
            page.wait_for_selector(f"{row(children[0])}.stopped")
            assert "SIGSTOP was sent" in page.wait_for_selector("#done:not(:empty)").text_content()

    def test_ten_tabs_share_one_stream_and_outlive_the_first(self, browser: Any) -> None:
        with family() as (parent, children), watched(parent) as watching, shown(browser, watching) as page:
            others = [page.context.new_page() for _ in range(9)]
            for other in others:
                other.goto(watching.url)
                other.wait_for_selector("#state[data-is=live]")
                other.wait_for_selector("#xray svg")
            assert _streams(watching) == 1
            page.close()
            os.kill(children[0], signal.SIGKILL)
            for other in others:
                other.bring_to_front()
                other.wait_for_selector(f"#log:has-text('({children[0]}) ended by SIGKILL')")
            assert _streams(watching) == 1

    def test_a_pause_keeps_the_picture_and_loses_no_event(self, browser: Any) -> None:
        with family() as (parent, children), watched(parent) as watching, shown(browser, watching) as page:
            page.wait_for_selector(row(children[0]))
            page.click("#pause")
            os.kill(children[0], signal.SIGKILL)
            watching.token = watching.next_token()
            with shown(browser, watching) as other:
                other.wait_for_selector(f"#log:has-text('({children[0]}) ended by SIGKILL')")
            assert page.locator(f"{row(children[0])}:not(.gone)").count() == 1
            page.click("#pause")
            page.wait_for_selector(f"#log:has-text('({children[0]}) ended by SIGKILL')")

    def test_a_hostile_name_is_text(self, browser: Any) -> None:
        program = ("-c", f"import time; time.sleep(600)  # {HOSTILE}", HOSTILE)
        with (
            family(program=program) as (parent, children),
            watched(parent) as watching,
            shown(browser, watching) as page,
        ):
            assert HOSTILE in page.get_attribute(row(children[0]), "title")
            page.wait_for_selector("#xray svg")
            assert "broken" not in page.title() and not page.locator("main img").count()

    def test_when_it_ends_the_page_says_so(self, browser: Any) -> None:
        with family() as (parent, _), watched(parent) as watching, shown(browser, watching) as page:
            watching.process.send_signal(signal.SIGINT)
            page.wait_for_selector("#state[data-is=over]")
            assert watching.process.wait(10) == 130

    def test_a_page_of_another_origin_gets_nothing_done(self, browser: Any) -> None:
        with (
            family() as (parent, children),
            watched(parent, "--allow-signals") as watching,
            shown(browser, watching) as page,
            another_origin() as origin,
        ):
            page.wait_for_selector(row(children[0]))
            start = proc.read_process(children[0]).identity.start_ticks
            body = f'{{"pid": {children[0]}, "start": {start}, "signal": "SIGKILL"}}'
            other = page.context.new_page()
            other.goto(origin)
            outcomes = other.evaluate(ATTACK, {"url": watching.url, "body": body})
            assert outcomes == dict.fromkeys(("text", "json", "reading", "streaming"), "refused")
            assert proc.read_process(children[0]).state == "S"
            assert "SIGKILL" not in page.inner_text("#log")

    def test_on_a_narrow_screen_nothing_is_cut_off(self, browser: Any) -> None:
        with family() as (parent, _), watched(parent) as watching, shown(browser, watching, width=500) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= 500
            picture(page, "watch-narrow")


def _streams(watching: Watching) -> int:
    """Connections to its page."""
    inodes = {one.inode for one in proc.read_descriptors(watching.process.pid) if one.kind == "socket"}
    return len(inodes)

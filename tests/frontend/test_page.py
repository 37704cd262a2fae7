"""The page at `/` and `/docs` in headless Chromium, as a reader has it; and another origin's page, which gets nothing.

With LAB_PICTURES=FOLDER it leaves pictures of the page there, to be looked at.
"""

import contextlib
import http.server
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab_support.frontend.http.page import PAGE
from lab_support.frontend.request.openapi import OPERATIONS
from tests.fakes import FakeEngine
from tests.frontend.serving import FakeServer, serving
from tests.in_jupyterlab import chromium, needs_chromium

MOST_BYTES = 20_000
PROMPT = "Once upon a time"
HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>&lt;b&gt;"

in_chromium = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@dataclass
class Opened:
    """The page in a window of its own. `complaints`: what the browser says against it."""

    page: Any
    fake: FakeServer
    complaints: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        return self.page.locator(f"#{name}").text_content()

    def await_text(self, name: str, text: str) -> None:
        self.page.wait_for_selector(f"#{name}:has-text({text!r})")

    def focused(self) -> str:
        return self.page.evaluate("document.activeElement.id || document.activeElement.textContent")

    def unlock(self, key: str) -> None:
        self.page.fill("#key", key)
        self.page.keyboard.press("Enter")


@contextlib.contextmanager
def window(browser: Any, fake: FakeServer, **choices: Any) -> Iterator[Any]:
    """A page in a profile of its own. At the end its connections have ended, too."""
    with contextlib.closing(browser.new_context(**choices)) as context:
        context.set_default_timeout(20_000)
        yield context.new_page()
    fake.settle()


@contextlib.contextmanager
def shown(browser: Any, path: str = "/", width: int = 1100, scheme: str = "light", **choices: Any) -> Iterator[Opened]:
    """A server and its page, of which the browser must not have complained at the end."""
    size = {"width": width, "height": 900}
    with (
        serving(FakeEngine(step_seconds=0.005), **choices) as fake,
        window(browser, fake, viewport=size, color_scheme=scheme) as page,
    ):
        opened = Opened(page, fake)
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("console", lambda line: opened.complaints.append(line.text) if line.type == "error" else None)
        page.goto(fake.url + path)
        yield opened
        expected = re.compile(r"Failed to load resource: .*status of (400|401|503)")
        assert not [each for each in opened.complaints if not expected.match(each)]


def picture(opened: Opened, name: str) -> None:
    if folder := os.environ.get("LAB_PICTURES"):
        opened.page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@contextlib.contextmanager
def in_mid_story(opened: Opened) -> Iterator[None]:
    """Asks for a story; in the block the engine core waits after a few tokens, which the page shows."""
    fake, engine = opened.fake, opened.fake.engine

    def hold() -> bool:
        engine.running = not any(each.made >= 3 for each in engine.sequences.values())
        return not engine.running

    opened.page.click("#tell")
    fake.until(hold)
    opened.page.wait_for_selector(
        "#story[aria-busy=true] b + *, #story[aria-busy=true]:has-text('Once upon a timeOnce')"
    )
    yield
    fake.call(engine.resume)


def test_it_is_small_and_needs_nothing_else() -> None:
    page = PAGE.read_text()
    assert len(page.encode()) <= MOST_BYTES
    assert not re.search(r"\son\w+\s*=", page), "an inline event handler"
    assert set(re.findall(r"https?://[^'\"\s]+", page)) == {"http://www.w3.org/2000/svg"}, "only a name, in the icon"
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)
    assert not re.findall(r"localStorage|sessionStorage|indexedDB|document\.cookie", page)


def test_its_policy_allows_its_own_script_and_this_server_alone() -> None:
    with serving() as fake:
        for path in ("/", "/docs"):
            answer = fake.get(path)
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
            assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")
            assert (policy["form-action"], policy["frame-ancestors"]) == ("'none'", "'none'")
            assert "unsafe" not in " ".join(policy.values())
            assert len(answer.content) <= MOST_BYTES


class TestInChromium:
    pytestmark = in_chromium

    def test_a_story_is_streamed_and_says_who_told_it(self, browser: Any) -> None:
        with shown(browser, api_server_index=3) as opened:
            opened.await_text("model", "2048 tokens")
            with in_mid_story(opened):
                assert opened.page.is_disabled("#tell")
                assert opened.text("served-by") == "api-3", "who answers is known before the end"
            opened.await_text("state", "tokens in")
            asked = opened.fake.engine.generated[-1]
            said = opened.fake.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 200, "temperature": 0.8}).json()
            assert opened.text("story") == PROMPT + said["choices"][0]["text"]
            assert (asked.sampling.max_tokens, asked.sampling.temperature) == (200, 0.8)
            assert (opened.text("served-by"), opened.text("engine")) == ("api-3", "0")
            assert re.fullmatch("[0-9a-f]{24}", opened.text("request-id"))
            assert opened.page.get_attribute("#story", "aria-live") == "polite"
            assert opened.page.get_attribute("#story", "aria-busy") == "false"
            picture(opened, "story")

    def test_a_stand_in_is_named_below_its_story(self, browser: Any) -> None:
        with shown(browser) as opened:
            opened.fake.engine.client.stand_in = "stand-in for a GPU, paced like 8B (NVIDIA H200, 2026-11-26)"
            with in_mid_story(opened):
                assert "Random tokens" in opened.text("stand-in") and "paced like 8B" in opened.text("stand-in")
            opened.await_text("state", "tokens in")
            opened.fake.engine.client.stand_in = ""
            with in_mid_story(opened):
                assert opened.text("stand-in") == ""

    def test_stop_drops_it_in_the_engine_core(self, browser: Any) -> None:
        with shown(browser) as opened:
            with in_mid_story(opened):
                opened.page.click("#stop")
                opened.fake.until(lambda: not opened.fake.engine.sequences)
                opened.await_text("state", "Stopped")
                assert len(opened.fake.engine.aborted) == 1
                assert opened.text("story").startswith(PROMPT + "Once")
                assert opened.text("error") == ""
            opened.page.click("#tell")
            opened.await_text("state", "tokens in")

    def test_errors_are_shown_in_the_servers_words(self, browser: Any) -> None:
        with shown(browser) as opened:
            opened.await_text("model", "2048 tokens")
            opened.page.fill("#most", "2047")
            opened.page.click("#tell")
            refused = opened.fake.post(
                "/v1/completions", {"prompt": PROMPT, "max_tokens": 2047}, headers={"connection": "close"}
            )
            opened.await_text("error", "400")
            assert opened.text("error") == f"400: {refused.json()['error']['message']}"
            assert opened.text("served-by") == "api-0"
            picture(opened, "error")
            opened.page.fill("#most", "200")
            with in_mid_story(opened):
                assert opened.text("error") == ""
                opened.fake.call(lambda: opened.fake.engine.die("it was killed"))
                opened.await_text("error", "engine-0: it was killed")
            assert opened.page.is_enabled("#tell")
            opened.page.click("#tell")
            opened.await_text("error", "503: engine-0: it was killed")

    def test_html_in_a_story_is_text(self, browser: Any) -> None:
        with shown(browser) as opened:
            opened.page.fill("#prompt", HOSTILE)
            opened.page.click("#tell")
            opened.await_text("state", "tokens in")
            assert opened.text("story").startswith(HOSTILE + HOSTILE), "the fake engine says the prompt again"
            assert opened.page.locator("#story *").count() == 1, "the prompt's own element"
            assert "broken" not in opened.page.title()
            picture(opened, "hostile")

    def test_the_policy_holds_where_a_script_gets_in(self, browser: Any) -> None:
        with serving() as fake, serving() as other, window(browser, fake) as page:
            page.goto(fake.url)
            page.evaluate("{const made = document.createElement('script'); made.textContent = 'broken = 1'; "
                          "document.body.append(made)}")  # fmt: skip
            assert page.evaluate("typeof broken") == "undefined"
            refused = page.evaluate(f"fetch({other.url + '/ping'!r}, {{mode: 'no-cors'}}).catch(error => 'refused')")
            assert refused == "refused"

    def test_the_key_is_asked_for_and_kept_in_memory_alone(self, browser: Any) -> None:
        with shown(browser, api_key="sésame") as opened:
            page = opened.page
            page.wait_for_selector("#unlock")
            assert opened.focused() == "key"
            picture(opened, "key")
            opened.unlock("wrong")
            opened.await_text("key-error", "401: authorization: got another value")
            opened.unlock(" sésame ")
            opened.await_text("model", "2048 tokens")
            page.click("#tell")
            opened.await_text("state", "tokens in")
            for name, place in (("Docs", "#routes section"), ("Metrics", "#raw-text:has-text('lab_')")):
                page.click(f"nav >> text={name}")
                page.wait_for_selector(place)
                assert not page.is_visible("#unlock"), "it knows the key still"
            page.click("nav >> text=Version")
            opened.await_text("raw-text", "run-of-a-test")
            page.go_back()
            opened.await_text("raw-text", "lab_")
            kept = "[location.href, document.documentElement.outerHTML, document.cookie, JSON.stringify(localStorage), "
            kept += (
                "JSON.stringify(sessionStorage), JSON.stringify(history.state), document.getElementById('key').value]"
            )
            kept_texts = "".join(each or "" for each in page.evaluate(kept))
            assert not re.search("sésame|sÃ©same|s%C3%A9same", kept_texts)
            assert (
                page.evaluate("(async () => (await indexedDB.databases()).length + (await caches.keys()).length)()")
                == 0
            )
            page.reload()
            page.wait_for_selector("#unlock")

    def test_two_that_wait_for_the_key_are_both_done_with_it(self, browser: Any) -> None:
        with shown(browser, api_key="sesame") as opened:
            opened.page.wait_for_selector("#unlock")
            opened.page.click("#tell")
            opened.page.wait_for_selector("#tell:enabled")
            assert not opened.fake.engine.generated
            opened.unlock("sesame")
            opened.await_text("state", "tokens in")
            opened.await_text("model", "2048 tokens")
            assert len(opened.fake.engine.generated) == 1

    def test_the_keyboard_is_enough(self, browser: Any) -> None:
        with shown(browser) as opened:
            opened.await_text("model", "2048 tokens")
            keys, visited = opened.page.keyboard, []
            for _ in range(10):
                keys.press("Tab")
                visited.append(opened.focused())
                assert opened.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                if visited[-1] == "tell":
                    break
            assert visited == ["Story", "Docs", "Metrics", "Version", "prompt", "most", "temperature", "tell"]
            keys.press("Enter")
            opened.fake.until(lambda: bool(opened.fake.engine.sequences))
            opened.page.wait_for_selector("#stop:focus")
            keys.press("Enter")
            opened.await_text("state", "Stopped")
            opened.page.wait_for_selector("#tell:focus")
            for _ in range(3):
                keys.press("Shift+Tab")
            assert opened.focused() == "prompt"
            keys.press("End")
            keys.type(" there was")
            keys.press("Control+Enter")
            opened.await_text("state", "tokens in")
            assert opened.text("story").startswith(PROMPT + " there was")
            opened.page.focus("nav >> text=Docs")
            keys.press("Enter")
            opened.page.wait_for_selector("#routes section")
            assert opened.focused() == "Routes of this server"

    def test_every_field_has_its_label(self, browser: Any) -> None:
        with shown(browser) as opened:
            for label, name in {
                "Beginning of the story": "prompt",
                "Maximum tokens": "most",
                "Temperature": "temperature",
            }.items():
                assert opened.page.get_by_label(label, exact=True).get_attribute("id") == name
            assert opened.page.get_by_role("region", name="Story").count() == 1
            assert opened.page.get_by_role("status").count() == 1

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("path", ["/", "/docs"])
    def test_text_stands_out_and_a_phone_needs_no_scrolling_aside(self, browser: Any, path: str, scheme: str) -> None:
        with shown(browser, path, width=360, scheme=scheme) as opened:
            if path == "/":
                opened.await_text("model", "2048 tokens")
                opened.page.fill("#prompt", "m" * 300)
                opened.page.click("#tell")
                opened.await_text("state", "tokens in")
                opened.page.evaluate("document.getElementById('unlock').hidden = false")
                opened.page.evaluate("document.getElementById('error').textContent = 'words '.repeat(20)")
            else:
                opened.page.wait_for_selector("#routes section")
                opened.page.click("summary >> nth=0")
            picture(opened, f"phone-{'story' if path == '/' else 'docs'}-{scheme}")
            assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
            assert opened.page.evaluate(LOWEST_CONTRAST) >= 4.5
            dark = opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
            assert dark == (scheme == "dark")

    def test_the_docs_list_every_route_with_its_parameters_and_statuses(self, browser: Any) -> None:
        with shown(browser, "/docs/") as opened:
            opened.page.wait_for_selector("#routes section")
            assert opened.page.title() == "Docs · Many processes, one port"
            headings = opened.page.locator(".route h2").all_text_contents()
            assert headings == [f"{each.method.upper()} {each.path}" for each in OPERATIONS]
            route = opened.page.locator(".route", has_text="/v1/completions").first
            rows = dict(
                zip(route.locator("dt").all_text_contents(), route.locator("dd").all_text_contents(), strict=True)
            )
            assert rows["n"] == "integer (1 to 16), default 1. Choices for each prompt."
            assert rows["prompt"].startswith(
                "string | string[] (1 to 64) | integer[] | integer[][] (1 to 64), required."
            )
            assert rows["guided_json"] == "null"
            assert rows["415"] == "The content type is not JSON, or the body is compressed."


LOWEST_CONTRAST = """() => {
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(each => each / 255)
            .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const ground = element => {
        const own = element ? getComputedStyle(element).backgroundColor : 'rgb(255, 255, 255)'
        return own === 'rgba(0, 0, 0, 0)' ? ground(element.parentElement) : own
    }
    const contrast = element => {
        const [low, high] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => a - b)
        return (high + 0.05) / (low + 0.05)
    }
    const withText = [...document.querySelectorAll('body *')].filter(element => element.checkVisibility()
        && [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim()))
    return Math.min(...withText.map(contrast))
}"""
"""Over all visible text: WCAG 2's ratio to what is behind it, which has to be 4.5."""


# ---- a page of another origin ---------------------------------------------------------------------------------------

ATTACK = """async () => {
    const url = '%s/v1/completions', body = JSON.stringify({prompt: 'a', max_tokens: 1})
    const tries = {
        'text': {mode: 'no-cors', headers: {'content-type': 'text/plain'}},
        'a form': {mode: 'no-cors', headers: {'content-type': 'application/x-www-form-urlencoded'}},
        'without a type': {mode: 'no-cors', body: new Blob([body])},
        'json': {headers: {'content-type': 'application/json'}},
        'json with a key': {headers: {'content-type': 'application/json', authorization: 'Bearer x'}},
    }
    const outcomes = {}
    for (const [name, options] of Object.entries(tries)) {
        outcomes[name] = await fetch(url, {method: 'POST', body, ...options})
            .then(answer => answer.type === 'opaque' ? 'unreadable' : String(answer.status), () => 'refused')
    }
    outcomes['reading'] = await fetch('%s/v1/models').then(answer => String(answer.status), () => 'refused')
    navigator.sendBeacon(url, new Blob([body], {type: 'application/json'}))
    navigator.sendBeacon(url, body)
    const frame = document.createElement('iframe')
    frame.name = 'frame'
    document.body.append(frame)
    const form = document.body.appendChild(document.createElement('form'))
    Object.assign(form, {method: 'POST', action: url, enctype: 'text/plain', target: 'frame'})
    const field = form.appendChild(document.createElement('input'))
    Object.assign(field, {name: body.slice(0, -1) + ', "ignored": "', value: '"}'})
    await new Promise(loaded => { frame.onload = loaded; form.submit() })
    return outcomes
}"""


class _EmptyPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another origin</title>")

    def log_message(self, *_: object) -> None:
        """pytest shows what is printed."""


@contextlib.contextmanager
def another_origin() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _EmptyPage) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{other.server_port}"
        finally:
            other.shutdown()
            thread.join()


def attack(browser: Any, fake: FakeServer, origin: str) -> dict[str, str]:
    """The results of a page of `origin` that tries to use the server in every way that a page has."""
    with window(browser, fake) as page:
        page.goto(origin)
        return page.evaluate(ATTACK % (fake.url, fake.url))


def lines_of(caplog: pytest.LogCaptureFixture, method: str) -> list[str]:
    """The statuses in the server's log."""
    found = (re.match(rf"{method} /v1/completions (\d+)", record.getMessage()) for record in caplog.records)
    return [match[1] for match in found if match]


@pytest.mark.slow
@needs_chromium
def test_a_page_of_another_origin_gets_nothing_done(browser: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "lab.api"), serving() as fake, another_origin() as origin:
        outcomes = attack(browser, fake, origin)
        unreadable = {"text", "a form", "without a type"}
        assert outcomes == {name: "unreadable" if name in unreadable else "refused" for name in outcomes}
        assert fake.engine.generated == []
    assert set(lines_of(caplog, "POST")) == {"403"}
    assert len(lines_of(caplog, "POST")) >= 4, "simple requests arrive, and are refused"
    assert set(lines_of(caplog, "OPTIONS")) == {"403"}


@pytest.mark.slow
@needs_chromium
def test_an_allowed_page_gets_what_it_asks_for_as_json_alone(browser: Any, caplog: pytest.LogCaptureFixture) -> None:
    with another_origin() as origin, serving(allowed_origins=(origin,)) as fake:
        with caplog.at_level("INFO", "lab.api"):
            outcomes = attack(browser, fake, origin)
            assert (outcomes["json"], outcomes["json with a key"], outcomes["reading"]) == ("200", "200", "200")
            assert len(fake.engine.generated) == 2, "beacons come with credentials, which no page is allowed"
        assert set(lines_of(caplog, "POST")) <= {"200", "415", "499"}

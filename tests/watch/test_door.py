"""Who may see the page of `lab watch`, and who may press its buttons."""

import contextlib
import os
import signal

import pytest

from lab_support.instruments import proc
from tests.watch.watching import family, watched


def test_without_the_token_nothing_is_served() -> None:
    with family() as (parent, _), watched(parent) as watching:
        for path in ("/", watching.path, watching.path + "events", watching.path + "?token=guess", "/favicon.ico"):
            answer = watching.session.get(f"http://{watching.host}{path}", timeout=10)
            assert answer.status_code == 403, path
            assert str(parent) not in answer.text and not answer.cookies
        assert watching.press("signal", {}).status_code == 403


def test_a_token_is_good_once_and_the_next_one_is_printed() -> None:
    with family() as (parent, _), watched(parent) as watching:
        answer = watching.enter()
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Strict", f"Path={watching.path}"} <= set(cookie.split("; "))
        assert watching.session.get(watching.url, timeout=10).status_code == 200
        first = watching.token
        watching.session.cookies.clear()
        assert watching.enter().status_code == 403, "the token was used"
        watching.token = watching.next_token()
        assert watching.token != first and watching.enter().status_code == 200


def test_cookies_of_other_servers_of_this_host_do_not_matter() -> None:
    with family() as (parent, _), watched(parent) as watching:
        watching.enter()
        [(name, value)] = watching.session.cookies.items()
        for other in ('a="2|1:0|10:17|é', "b=[1,2];;", f"{name}=wrong", "c"):
            headers = {"Cookie": f"{other}; {name}={value}".encode("latin-1")}
            assert watching.session.get(watching.url, headers=headers, timeout=10).status_code == 200
            headers = {"Cookie": other.encode("latin-1")}
            assert watching.session.get(watching.url, headers=headers, timeout=10).status_code == 403


def test_the_page_may_load_nothing_from_elsewhere() -> None:
    with family() as (parent, _), watched(parent) as watching:
        policy = dict(rule.split(" ", 1) for rule in watching.enter().headers["content-security-policy"].split("; "))
        assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")
        assert policy["frame-ancestors"] == "'none'" and "unsafe" not in " ".join(policy.values())


@pytest.mark.parametrize("header", [{"Host": "evil.example"}, {"Host": "127.0.0.1"}, {"Origin": "http://evil.example"}])
def test_another_host_or_origin_gets_nothing_with_the_cookie_either(header: dict[str, str]) -> None:
    with family() as (parent, _), watched(parent) as watching:
        watching.enter()
        for path in ("", "events"):
            assert watching.session.get(watching.url + path, headers=header, timeout=10).status_code == 403


def test_without_the_flag_there_is_no_button() -> None:
    with family() as (parent, children), watched(parent) as watching:
        watching.enter()
        assert watching.press("signal", _to(children[0], "SIGKILL")).status_code == 404
        assert proc.read_process(children[0]).state != "Z"


def test_the_flag_allows_four_signals_to_this_tree_alone() -> None:
    with (
        family() as (parent, children),
        family() as (_, strangers),
        watched(parent, "--allow-signals") as watching,
    ):
        watching.enter()
        with watching.tab() as tab:
            tab.until(lambda seen: seen.process(children[1]))
            for body in (
                _to(strangers[0], "SIGKILL"),
                _to(children[0], "SIGTERM"),
                _to(children[0], "SIGKILL") | {"start": 1},
                {"pid": "1", "signal": "SIGKILL"},
                {},
            ):
                assert watching.press("signal", body).status_code == 409, body
            assert watching.press("signal", _to(children[0], "SIGSTOP")).status_code == 200
            tab.until(lambda seen: seen.process(children[0])["state"] == "T")
            os.kill(children[0], signal.SIGTERM)
            tab.until(lambda seen: seen.process(children[0])["pending"] == ["SIGTERM"])
            assert watching.press("signal", _to(children[1], "SIGKILL")).status_code == 200
            tab.until(lambda seen: seen.happened(f"({children[1]}) ended by SIGKILL"))
            assert tab.happened("SIGKILL was sent to") and not tab.happened("SIGTERM was sent to")
        assert all(proc.read_process(pid).state in "SR" for pid in strangers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
def test_only_the_own_page_may_press(headers: dict[str, str]) -> None:
    with family() as (parent, children), watched(parent, "--allow-signals") as watching:
        watching.enter()
        with watching.tab() as tab:
            tab.until(lambda seen: seen.process(children[0]))
        assert watching.press("signal", _to(children[0], "SIGKILL"), **headers).status_code == 403
        watching.session.cookies.clear()
        assert watching.press("signal", _to(children[0], "SIGKILL")).status_code == 403
        assert proc.read_process(children[0]).state in "SR"


def test_many_idle_connections_take_no_place_for_long() -> None:
    with family() as (parent, _), watched(parent) as watching, contextlib.ExitStack() as held:
        for _ in range(100):
            held.enter_context(watching.raw())
        held.close()
        assert watching.enter().status_code == 200


def test_a_request_that_is_too_long_has_no_answer_and_takes_no_memory() -> None:
    with family() as (parent, _), watched(parent) as watching:
        before = proc.read_memory(watching.process.pid).rss
        lines = b"".join(b"X-%d: " % number + b"a" * 60_000 + b"\r\n" for number in range(90))
        with contextlib.ExitStack() as held:
            for _ in range(20):
                raw = held.enter_context(watching.raw())
                with contextlib.suppress(ConnectionError):
                    raw.sendall(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
                with contextlib.suppress(ConnectionError):
                    assert raw.recv(100) == b""
        assert proc.read_memory(watching.process.pid).rss < before + 8 * 2**20
        assert watching.enter().status_code == 200


def _to(pid: int, name: str) -> dict[str, object]:
    return {"pid": pid, "start": proc.read_process(pid).identity.start_ticks, "signal": name}

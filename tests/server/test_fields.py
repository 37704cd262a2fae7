"""The table of request fields, frontend/request/FIELDS.md: complete, and each row is as a server does it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import lab_support.frontend
from lab_support.frontend.request.fields import IGNORED, IGNORED_OPTIONS, LACKING, REFUSED
from lab_support.frontend.request.openai_api import ChatCompletionRequest, CompletionRequest, StreamOptions
from tests.running_server import RunningServer, running_server

TABLE = Path(lab_support.frontend.__file__).parent / "request" / "FIELDS.md"
ROUTES = {
    "completions": ("/v1/completions", CompletionRequest, {"prompt": "Once", "max_tokens": 3, "temperature": 0}),
    "chat": (
        "/v1/chat/completions",
        ChatCompletionRequest,
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "temperature": 0, "logprobs": True},
    ),
}


class Row(NamedTuple):
    field: str
    completions: str
    chat: str
    tried: tuple[Any, Any]

    def body(self, route: str) -> dict[str, Any]:
        value = self.tried[0 if route == "completions" else 1]
        outer, _, inner = self.field.partition(".")
        if outer == "stream_options" and inner:
            return {"stream": True, outer: {"include_usage": True} | {inner: value}}
        return {self.field: value}


def rows() -> list[Row]:
    made = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            field, _, completions, chat, tried, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            values = [json.loads(each.replace("\\|", "|")) for each in re.findall(r"`([^`]*)`", tried)]
            made.append(Row(field.strip("`"), completions, chat, (values[0], values[-1])))
    return made


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(api_server_count=1, load_format="dummy") as made:
        yield made


@pytest.mark.parametrize("route", ROUTES)
def test_the_table_names_every_field_that_the_server_knows_and_no_other(route: str) -> None:
    _, request, _ = ROUTES[route]
    options = StreamOptions.__struct_encode_fields__
    known = {
        "have": {*request.__struct_encode_fields__, *(f"stream_options.{name}" for name in options)},
        "refused": {*REFUSED[request], "best_of"},
        "ignored": {*IGNORED, *(f"stream_options.{name}" for name in IGNORED_OPTIONS)},
    }
    for state, names in known.items():
        assert {row.field for row in rows() if getattr(row, route) == state} == names


def test_no_field_that_requests_have_is_listed_as_lacking() -> None:
    have = [set(request.__struct_encode_fields__) for _, request, _ in ROUTES.values()]
    assert not LACKING.keys() & set.intersection(*have)
    assert not IGNORED & set.union(*have)


@pytest.mark.parametrize("route", ROUTES)
def test_what_the_server_has_it_takes(server: RunningServer, route: str) -> None:
    path, _, base = ROUTES[route]
    for row in rows():
        if getattr(row, route) == "have":
            answer = server.post(path, base | row.body(route))
            assert answer.status_code == 200, (row, answer.text)


@pytest.mark.parametrize("route", ROUTES)
def test_what_it_refuses_it_names(server: RunningServer, route: str) -> None:
    path, _, base = ROUTES[route]
    refused = [row for row in rows() if getattr(row, route) == "refused"]
    for row in refused:
        answer = server.post(path, base | row.body(route))
        error = answer.json().get("error", {})
        assert (answer.status_code, error.get("param")) == (400, row.field), (row, answer.text)
        assert error["code"] == "unsupported_field"
    assert server.post(path, base | {row.field: None for row in refused}).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
def test_what_it_ignores_changes_no_answer(server: RunningServer, route: str) -> None:
    path, _, base = ROUTES[route]
    plain = server.post(path, base).json()["choices"]
    for row in rows():
        if getattr(row, route) == "ignored" and "." not in row.field:
            answer = server.post(path, base | row.body(route))
            assert (answer.status_code, answer.json().get("choices")) == (200, plain), row
    assert not [row for row in rows() if f"does not know: '{row.field}'" in server.said()]
    assert server.post(path, base | {"nobody_knows": 1}).json()["choices"] == plain
    assert "does not know: 'nobody_knows'" in server.said()

"""/tokenize counts the prompt of the chat: it sees all of a message, and refuses every field that chat refuses."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.frontend.request.openai_api import ChatCompletionRequest, TokenizeRequest
from lab_support.frontend.request.parsing import REFUSED
from tests.frontend.serving import FakeServer, serving

TEMPLATE = "{% for m in messages %}{{ m | tojson }}\n{% endfor %}{{ '<|assistant|>' if add_generation_prompt }}"
CHAT = [
    {"role": "developer", "content": "sys", "name": "ops"},
    {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
    {"role": "assistant", "content": "yes", "reasoning_content": "hm", "refusal": None, "tool_calls": []},
]


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    folder = tmp_path_factory.mktemp("model")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(MODEL_IN_THE_BOX / name, folder / name)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    with serving(model=folder) as server:
        yield server


def test_a_template_sees_all_that_a_message_has(fake: FakeServer) -> None:
    asked = {"messages": CHAT, "add_generation_prompt": False, "return_token_strs": True}
    text = "".join(fake.post("/tokenize", asked).json()["token_strs"])
    seen = [json.loads(line) for line in text.splitlines()]
    assert seen == [
        {"role": "system", "content": "sys", "name": "ops"},
        CHAT[1],
        {
            "thinking": "hm", "role": "assistant", "content": "yes", "reasoning_content": "hm", "tool_calls": [],
        },
    ]  # fmt: skip


def test_a_chat_has_the_prompt_that_tokenize_tells(fake: FakeServer) -> None:
    tokens = fake.post("/tokenize", {"messages": CHAT}).json()["tokens"]
    fake.post("/v1/chat/completions", {"messages": CHAT, "max_tokens": 1})
    assert fake.engine.generated[-1].prompt_token_ids == tokens


@pytest.mark.parametrize("name", sorted(REFUSED[ChatCompletionRequest].keys() - set(TokenizeRequest.__struct_fields__)))
def test_what_chat_refuses_is_refused(fake: FakeServer, name: str) -> None:
    asked: dict[str, Any] = {"messages": CHAT, name: [{"x": 1}]}
    answers = [fake.post(path, asked) for path in ("/v1/chat/completions", "/tokenize")]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()
    assert name in answers[1].json()["error"]["message"]


@pytest.mark.parametrize("field", [{"tool_calls": [{"id": "1"}]}, {"role": "tool"}, {"content": 7}])
def test_messages_that_chat_refuses_are_refused(fake: FakeServer, field: dict[str, Any]) -> None:
    asked = {"messages": [CHAT[0] | field]}
    answers = [fake.post(path, asked) for path in ("/v1/chat/completions", "/tokenize")]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()

"""Chat templates that loop or grow: each ends with a sentence, in its time, and the server serves meanwhile."""

import re
from pathlib import Path
from weakref import WeakValueDictionary

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.frontend.text.chat_template import ChatTemplate, ChatTemplateError, ChatTemplateSlow
from lab_support.frontend.text.template_limits import MOST_GROWTH
from tests.frontend.serving import serving

MESSAGES = [{"role": "user", "content": "hi"}]
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        ENDLESS,
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{{ lipsum(n=100000) }}",
    ],
)
def test_a_template_that_takes_too_long_is_stopped(source: str) -> None:
    with pytest.raises(ChatTemplateSlow, match=r"more than 0\.2 s"):
        ChatTemplate(source, {}).render(MESSAGES, seconds=0.2)


def end_of_many_objects() -> str:
    """Python drops what is raised in the callbacks of weak references, and in `__del__`."""
    objects = WeakValueDictionary({number: Ends() for number in range(300)})
    return str(len(objects))


class Ends:
    def __del__(self) -> None:
        str(self)

    def __str__(self) -> str:
        return "ends"


def test_a_template_is_stopped_though_objects_end_while_it_runs() -> None:
    template = ChatTemplate(ENDLESS.replace("%}{%", "%}{{ f() }}{%"), {"f": end_of_many_objects})
    with pytest.raises(ChatTemplateSlow):
        template.render(MESSAGES, seconds=0.2)


@pytest.mark.parametrize(
    "source",
    [
        "{% set ns = namespace(x='12345678') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set x %}{% for i in range(99999) %}{{ 'x' * 100000 }}{% endfor %}{% endset %}",
        "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'a' * 1000000000 }}",
        "{% set n = 1000000000 %}{{ [n] * n }}",
        "{% set n = 100000 %}{{ n ** n }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ 'a'|indent(width=1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ ('a' * 999999)|replace('a', 'b' * 999999) }}",
        "{{ range(99999)|list|join('a' * 999999) }}",
        "{{ ('a' * 999999).join(range(99999)|list) }}",
        "{{ messages|tojson(indent=1000000000) }}",
    ],
)
def test_a_template_that_grows_is_stopped_while_it_is_small(source: str) -> None:
    before = peak_memory()
    with pytest.raises(ChatTemplateError):
        ChatTemplate(source, {}).render(MESSAGES)
    assert peak_memory() - before < 5 * MOST_GROWTH


def peak_memory() -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def test_what_templates_do_is_still_done() -> None:
    source = (
        "{% for m in messages %}{{ loop.index }} {{ m.role|upper }}: {{ m.content|trim }}\n{% endfor %}"
        "{{ '-' * 10 }}{{ '%03d' % 7 }}{{ '{:>4}'.format('x') }}{{ ['a', 'b']|join(', ') }}"
        "{{ 'abc'.replace('b', 'x') }}"
    )
    assert ChatTemplate(source, {}).render(MESSAGES) == "1 USER: hi\n----------007   xa, baxc"


def test_a_long_conversation_is_no_growth() -> None:
    messages = [{"role": "user", "content": "x" * 1_000_000}] * 4
    source = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    assert len(ChatTemplate(source, {}).render(messages)) == 4 * 1_000_002


def test_the_server_serves_while_a_template_loops(tmp_path: Path) -> None:
    """The event loop is free: /health is answered again and again before the chat is refused.

    Client, event loop and template share one interpreter lock here, so that each answer takes its time.
    """
    for file in ("config.json", "tokenizer.json"):
        (tmp_path / file).symlink_to(MODEL_IN_THE_BOX / file)
    (tmp_path / "chat_template.jinja").write_text(ENDLESS)
    with serving(model=tmp_path) as fake, fake.connect() as chat:
        body = b'{"messages": [{"role": "user", "content": "hi"}]}'
        fields = b"host: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        head = b"POST /v1/chat/completions HTTP/1.1\r\n" + fields
        chat.sendall(head % len(body) + body)
        fake.until(lambda: fake.begun == 1)
        answers = 0
        while fake.begun and answers < 1000:
            assert fake.get("/health").ok
            answers += 1
        assert answers >= 2
        assert b" 400 " in chat.recv(65536)

"""Contents reach a template in the shape that it takes, and all fields of a message reach it."""

from typing import Any

import pytest

from lab_support.frontend.text.chat_template import ChatTemplate, ChatTemplateError

PARTS = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
WALKS = "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}<{{ p.text }}>{% endif %}{% endfor %}{% endfor %}"  # noqa: E501


def rendered(source: str, *contents: Any) -> str:
    return ChatTemplate(source, {}).render([{"role": "user", "content": content} for content in contents])


@pytest.mark.parametrize(
    ("source", "contents", "expected"),
    [
        (WALKS, [PARTS, "hi", ""], "<one><two><hi><>"),
        ("{% for m in messages %}{{ m.content }}|{% endfor %}", [PARTS, "hi"], "one\ntwo|hi|"),
        ("{% for m in messages %}{{ m.content + '!' }}{% endfor %}", [PARTS, "hi"], "one\ntwo!hi!"),
        ("{{ messages[0].content | trim }}{% for p in messages[1].content %}<{{ p.text }}>{% endfor %}",
            [PARTS, PARTS], "one\ntwo<one><two>"),
        ("{% for m in messages %}{% if m.content is not string %}{{ raise_exception('text!') }}{% endif %}"
            "{{ m.content }}{% endfor %}", [PARTS], "one\ntwo"),
        ("{% for m in messages %}{% if m.content is string %}{{ m.content }}{% endif %}{% endfor %}",
            [PARTS, "hi"], "one\ntwohi"),
        ("{% macro f(c) %}{% for p in c %}[{{ p.text }}]{% endfor %}{% endmacro %}{{ f(messages[0].content) }}",
            [PARTS], "[one][two]"),
        ("{{ messages[0].content[1].text }}", [PARTS], "two"),
        ("{{ messages[0].content | length }}", [PARTS], "7"),
        ("{{ messages | tojson }}", ["hi"], '[{"role": "user", "content": "hi"}]'),
        ("{{ messages[0].content is iterable }}{{ messages[0].content }}", ["hi"], "Truehi"),
        ("{{ messages[0].content | indent }}", [PARTS], "one\n    two"),
    ],
)  # fmt: skip
def test_the_shape_that_a_template_takes(source: str, contents: list[Any], expected: str) -> None:
    assert rendered(source, *contents) == expected


def test_a_refusal_stays_one_in_either_shape() -> None:
    with pytest.raises(ChatTemplateError, match="never"):
        rendered("{{ raise_exception('never') }}", PARTS)
    with pytest.raises(ChatTemplateError, match="never"):
        rendered(WALKS + "{% if messages[0].content is not string %}{{ raise_exception('never') }}{% endif %}", "hi")


def test_what_the_client_sent_is_left_as_it_was() -> None:
    messages = [{"role": "user", "content": [dict(part) for part in PARTS]}]
    ChatTemplate("{{ messages[0].content | indent }}{{ messages[0].content }}", {}).render(messages)
    assert messages == [{"role": "user", "content": PARTS}]


@pytest.mark.parametrize(
    "source",
    [
        "{{ 5 | dictsort }}",
        "{{ x(1) }}",
        "{{ none() }}",
        "{% for i in 5 %}{% endfor %}",
        "{{ messages | tojson(indent=1000) }}",
        "{{ messages | tojson(separators=('x' * 999, ':')) }}",
        "{{ namespace | tojson }}",
        "{{ dict.mro() }}",
        "{{ namespace(__class__=1) }}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages[0].content.format.__globals__.x }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{{ messages[0].content.append(1) }}",
    ],
)
def test_what_a_template_may_not_do_is_refused_in_a_sentence(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="does not take these messages"):
        rendered(source, PARTS)


@pytest.mark.parametrize("source", ["{% break %}", "{% generation %}x", "{{ 'x' | nothing }}", "{% frob %}"])
def test_a_template_that_does_not_compile_is_broken(source: str) -> None:
    with pytest.raises(ChatTemplateError, match="is broken"):
        rendered(source, "hi")

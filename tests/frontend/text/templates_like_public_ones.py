"""Chat templates in the constructs that public ones use, each written for these tests.

`TEXTS` write a message's content down; `PARTS` go over the parts of a content that has them, and take a text too.
"""

# ruff: noqa: E501, public templates have long lines

TEXTS = {
    "chatml, with a system turn by default": """
{%- if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
""",
    "turns that must alternate": """
{%- if messages[0]['role'] == 'system' %}
    {%- set loop_messages = messages[1:] %}
    {%- set system_message = messages[0]['content'] %}
{%- else %}
    {%- set loop_messages = messages %}
    {%- set system_message = false %}
{%- endif %}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate user/assistant/user/…') }}
    {%- endif %}
    {%- if loop.index0 == 0 and system_message != false %}
        {%- set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}
    {%- else %}
        {%- set content = message['content'] %}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + content.strip() + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}
""",
    "headers, a date and tools": """
{{- bos_token }}
{%- if custom_tools is defined %}{% set tools = custom_tools %}{% endif %}
{%- if not tools_in_user_message is defined %}{% set tools_in_user_message = true %}{% endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{% set date_string = strftime_now("%B %Y") %}{% else %}{% set date_string = "?" %}{% endif %}
{%- endif %}
{%- if not tools is defined %}{% set tools = none %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start|>system<|end|>\n\n" }}
{%- if tools is not none %}{{ "Environment: ipython\n" }}{% endif %}
{%- if builtin_tools is defined or tools is not none %}{{ "Tools: " + tools|length|string }}{% endif %}
{{- "Today: " + date_string + "\n\n" + system_message + "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '<|end|>\n\n' + message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message and message.tool_calls|length != 1 %}
        {{- raise_exception("one call at a time") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant<|end|>\n\n' }}{% endif %}
""",
    "a namespace that counts, and tools that are gated": """
{%- if messages[0]["role"] == "system" %}
    {%- set system_message, loop_messages = messages[0]["content"], messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}{{- "[AVAILABLE_TOOLS]" }}{%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}{{- " " + message["content"]|trim + eos_token}}
    {%- else %}{{- raise_exception("Only user and assistant roles are supported, not " + message.role) }}
    {%- endif %}
{%- endfor %}
""",
    "roles of other names, and no system turn": """
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}
{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}
{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}""",
    "one line for each kind, and whitespace kept": """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "a generation block, where a variable ends": """
{%- for message in messages -%}
  {%- if message.role == 'assistant' -%}
    {{ '<|assistant|>' }}{% generation %}{% set said = message.content %}{{ said ~ eos_token }}{% endgeneration %}
    {%- if said is defined -%}!{%- endif -%}
  {%- else -%}
    {{ '<|' ~ message.role ~ '|>' ~ message.content }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- else -%}{{ eos_token }}{%- endif -%}
""",
    "thinking that earlier turns lose": """
{%- set ns = namespace(multi_step=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not(message.content.startswith('<t>') and message.content.endswith('</t>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or (not loop.last and reasoning_content)) %}
            {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}{{- raise_exception('no') }}{%- endif %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}
""",
    "flags in a namespace": """
{%- if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{%- set ns = namespace(is_first=false, is_tool=false, system_prompt='', is_first_sp=true) %}
{%- for message in messages %}{% if message['role'] == 'system' %}
{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}
{%- else %}{% set ns.system_prompt = ns.system_prompt + '\n\n' + message['content'] %}{% endif %}{% endif %}{% endfor %}
{{- bos_token }}{{ ns.system_prompt }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{% set ns.is_tool = false %}{{ '<|User|>' + message['content'] }}{% endif %}
{%- if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}
{%- if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}
{{- '<|Assistant|>' + content + eos_token }}{% endif %}
{%- endfor %}
{%- if ns.is_tool %}{{ '<|tool_outputs_end|>' }}{% endif %}
{%- if add_generation_prompt and not ns.is_tool %}{{ '<|Assistant|><think>\n' }}{% endif %}
""",
    "documents and tools that are none": """
{{- bos_token }}{% if documents %}{% set tools = [] %}{% endif %}
{%- if tools is not none or documents is not none %}{{ 'You have ' ~ (tools or documents) | length }}{% endif %}
{%- if documents is none and tools is none %}No tools. {% endif %}
{%- for m in messages if m.role != 'system' %}{{ m.role | capitalize }}: {{ m.content | replace('\n', ' ') }}
{% else %}nobody said a word{% endfor %}
""",
    "loops with controls": """
{%- for message in messages %}
    {%- if message.role == 'system' %}{% continue %}{% endif %}
    {%- if loop.index > 5 %}…{% break %}{% endif %}
    {{- loop.cycle('a', 'b') ~ loop.revindex ~ loop.first ~ (loop.previtem.role if loop.previtem is defined else '-') }}
    {%- if loop.changed(message.role) %}{{ '*' }}{% endif %}
    {{- message.content | upper }}
    {%- for word in message.content.split() %}{% if loop.index0 == 2 %}{% break %}{% endif %}[{{ word | title }}]{% endfor %}
{%- endfor %}
""",
    "macros with arguments, and calls with a body": """
{%- macro turn(role, open='<', close='>') -%}{{ open }}{{ role }}{{ close }}{{ caller() if caller is defined else '' }}{{ varargs | join('/') }}{{ kwargs.get('end', '') }}{%- endmacro -%}
{%- macro quoted(text) %}“{{ text }}”{% endmacro -%}
{%- for message in messages -%}
    {%- call turn(message.role, '[', close=']') -%}{{ quoted(message.content) }}{%- endcall -%}
    {{- turn('x', '(', ')', 1, 2, end='.') }}
{% endfor -%}
{%- set block -%}  a block of its own  {%- endset -%}{{ block | trim | length }}
{%- filter upper %}filtered{% endfilter %}{% raw %}{{ not a variable }}{% endraw %}{# nor this #}
""",
    "filters and tests": """
{%- set roles = messages | map(attribute='role') | list -%}
{{- roles | unique | sort | join(',') }}|{{ roles | first }}|{{ roles | last }}|{{ roles | length }}|
{{- messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | map('trim') | join(' / ') }}|
{{- messages | rejectattr('role', 'in', ['user', 'system']) | list | count }}|
{{- (messages | groupby('role')) | map('first') | join('+') }}|
{{- messages[-1].content | default('nothing', true) }}|{{ messages[0].nothing | default('undefined') }}|
{{- messages[-1].content is string }}{{ 3 is odd }}{{ none is none }}{{ messages is iterable }}{{ messages is mapping }}{{ messages[0] is mapping }}|
{{- '%s: %d' | format(roles[0], roles | length) }}|{{ '%.2f' % 0.5 }}|{{ '{}-{:>3}'.format(1, 2) }}|
{{- [3, 1, 2] | sort(reverse=true) | join }}|{{ range(1, 10, 3) | list }}|{{ (1, 2) + (3,) }}|{{ {'b': 1, 'a': 2} | dictsort }}|
{{- {'a': 1}.items() | list }}|{{ 'a,b'.split(',')[1] }}|{{ 7 // 2 }}{{ 7 % 2 }}{{ 2 ** 3 }}|{{ 'x' if false }}|{{ 'yes' if messages else 'no' }}|
{{- messages[0].content[:3] }}|{{ messages[0].content | truncate(9) }}|{{ messages[0].content | wordcount }}|{{ '<&>' | escape }}|{{ '<b>' | striptags }}|
{{- messages[-1].content | indent(2) }}|{{ messages[0]['role'] in roles }}|{{ not true or false }}
""",
    "objects": """
{%- set d = dict(a=1, b=[1, 2]) %}{% set e = dict([['k', 'v']], z=0) %}{% set f = dict.fromkeys(['x', 'y'], 0) %}
{{- d }}{{ e }}{{ f | tojson }}{{ d.a }}{{ d['b'][-1] }}{{ d.get('c', 'none') }}
{%- set ns = namespace(a=1, self=2) %}{% set ns.b = ns.a + ns.self %}{{ ns.b }}{% set n = namespace({'q': 5}) %}{{ n.q }}
{%- for key, value in d.items() %}{{ key }}={{ value }};{% endfor %}
{%- for m in messages %}{% for key, value in m.items() %}{{ key }}:{{ value | string | length }},{% endfor %}{% endfor %}
{%- for m in messages recursive %}{{ m.role }}{% if m.children %}{{ loop(m.children) }}{% endif %}{% endfor %}
""",
    "a name with an underscore in a namespace": "{% set ns = namespace(_a=1) %}{{ ns._a }}",
    "names and other fields": """
{%- for m in messages %}{{ m.role }}{% if m.name %} ({{ m.name }}){% endif %}{% if m.weight is defined %} {{ m.weight }}{% endif %}
{%- if m.thinking %}<thinking>{{ m.thinking }}</thinking>{% endif %}{% if m.reasoning is defined %}<r>{{ m.reasoning }}</r>{% endif %}
{%- if m.tool_calls is defined %}[{{ m.tool_calls | length }}]{% endif %}: {{ m.content }}
{% endfor %}""",
    "tokens with a role": """
{{- [bos_token, eos_token, unk_token, pad_token, sep_token, cls_token, mask_token, image_token] | join('+') }}
{%- if boa_token is defined %}{{ boa_token }}{% endif %}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}""",
    "text that looks like a content's parts": "{% for m in messages %}{{ m.content is iterable }}{{ m.content is sequence }}{{ m.content | length }}{% endfor %}",
}

PARTS = {
    "parts, or a text": """
{%- for m in messages %}<|{{ m.role }}|>
{%- if m['content'] is string %}{{ m['content'] }}
{%- else %}{% for part in m['content'] %}{% if part['type'] == 'text' %}[{{ part['text'] }}]{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}
{%- endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}""",
    "a macro that looks at the content": """
{%- macro visible(content) -%}
    {%- if content is string -%}{{- content }}
    {%- elif content is iterable and content is not mapping -%}
        {%- for item in content -%}{%- if item is mapping and item.type == 'text' -%}{{- item.text }}{%- elif item is string -%}{{- item }}{%- endif -%}{%- endfor -%}
    {%- elif content is none -%}{{- '' }}
    {%- else -%}{{- content | string }}{%- endif -%}
{%- endmacro -%}
{%- for m in messages -%}<|{{ m.role }}|>
{{ visible(m.content) }}{% endfor %}""",
    "iterable first": """
{%- for m in messages %}{% if m.content is iterable and m.content is not string %}{{ m.content | map(attribute='text') | join('&') }}
{%- else %}{{ m.content }}{% endif %}|{% endfor %}""",
    "JSON": """
{%- for m in messages %}{{ m | tojson }}{{ m | tojson(indent=2) }}{{ m | tojson(ensure_ascii=true) }}{{ m | tojson(separators=(',', ':'), sort_keys=true) }}
{{- m | tojson(ensure_ascii=False, indent='\t') }}{% endfor %}{{ tools | tojson }}{{ messages | tojson(false, 4) }}{{ '<é&>' | tojson }}
{{- [1, 1.5, true, none, 'x'] | tojson }}""",
}

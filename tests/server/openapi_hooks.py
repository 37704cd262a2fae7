"""For schemathesis: drops the generated requests that break the one rule no JSON schema can say.

A prompt and max_tokens have to fit the model's context together. The document describes both limits alone, so that
schemathesis calls a valid prompt with a valid max_tokens valid; the server says 400 where they don't fit together.
Loaded by SCHEMATHESIS_HOOKS=tests.server.openapi_hooks; CONTEXT_LENGTH is in the environment too.
"""

import json
import os

import schemathesis

LENGTHS = ("max_tokens", "max_completion_tokens")
OF_TEMPLATE = 4  # tokens of the chat template around each message, at most


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    return not isinstance(case.body, dict) or _fits(case.body)


def _fits(body: dict) -> bool:
    most = max((body[name] for name in LENGTHS if isinstance(body.get(name), int | float)), default=1)
    prompt = body.get("prompt") or body.get("messages")
    if not isinstance(prompt, str | list):
        return True
    context = int(os.environ["CONTEXT_LENGTH"])
    return most > context or most + _most_tokens(prompt) <= context


def _most_tokens(prompt: str | list) -> int:
    """Never too few: a byte is at most one token."""
    if isinstance(prompt, list) and all(isinstance(each, int) for each in prompt):
        return len(prompt)
    return len(json.dumps(prompt, ensure_ascii=False).encode("utf-8", "replace")) + OF_TEMPLATE

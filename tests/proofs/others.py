"""Against what others have made: the public OpenAI client, transformers on the same folder, and schemathesis."""

from tests.proofs import Row, pytests

ASKED = {
    "tests/server/test_openai_client.py": "the openai client: texts, streams with usage, an error, a hang-up",
    "tests/engine": "transformers in float32: greedy tokens equal, logits within 1e-4, batching changes nothing",
    "tests/server/test_openapi_contract.py": (
        "schemathesis with all checks, 200 examples a route, with and without a key: nothing found"
    ),
}


def prove() -> list[Row]:
    return [row for tests, asked in ASKED.items() for row in pytests.run(asked, tests, "-s")]

"""The public OpenAI client against the real server."""

from tests.proofs import Row, pytests


def prove() -> list[Row]:
    asked = "the openai client: completion, chat, streaming with usage, an error, a hang-up"
    return pytests.run(asked, "tests/server/test_openai_client.py")

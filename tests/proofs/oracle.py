"""Tokens and logits against transformers on the same folder."""

from tests.proofs import Row, pytests


def prove() -> list[Row]:
    asked = "against transformers in float32: greedy tokens equal, logits within 1e-4, batching changes nothing"
    return pytests.run(asked, "tests/engine", "-s")

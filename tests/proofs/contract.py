"""schemathesis, all its checks, 200 examples a route, with a key and without."""

from tests.proofs import Row, pytests


def prove() -> list[Row]:
    asked = "schemathesis with all checks, 200 examples a route, with and without a key: nothing found"
    return pytests.run(asked, "tests/server/test_openapi_contract.py")

"""All tests, the main notebooks in a headless browser among them."""

from tests.proofs import Row, pytests


def prove() -> list[Row]:
    return pytests.run("make test passes, the main notebooks run clean in JupyterLab")

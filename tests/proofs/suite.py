"""All tests, notebook 00 in a headless browser among them."""

from tests.proofs import Row, pytests


def prove() -> list[Row]:
    return pytests.run("make test passes, notebook 00 runs clean in JupyterLab")

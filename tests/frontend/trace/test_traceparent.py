"""Which `traceparent` fields count: the rules and examples of W3C Trace Context."""

import pytest

from lab_support.frontend.trace.traceparent import NONE, traceparent_of

TRACE, PARENT = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
GOOD = b"00-%s-%s-01" % (TRACE, PARENT)
IDS = (TRACE.decode(), PARENT.decode())


@pytest.mark.parametrize("value", [GOOD, GOOD[:-2] + b"00", b"01" + GOOD[2:], b"cc" + GOOD[2:] + b"-what-comes-later"])
def test_a_valid_one_is_kept(value: bytes) -> None:
    assert traceparent_of([(b"host", b"a"), (b"traceparent", value)]) == IDS


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        GOOD[:-1],
        GOOD + b"0",
        GOOD + b"-more",  # version 00 has nothing more
        b"cc" + GOOD[2:] + b"more",
        b"ff" + GOOD[2:],
        GOOD.upper(),
        b"00-" + b"0" * 32 + b"-" + PARENT + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        GOOD.replace(b"-", b"_"),
        b" " + GOOD,
        GOOD + b"\n",
        GOOD.replace(b"4bf9", b"4bg9"),
    ],
)
def test_a_malformed_one_is_ignored(value: bytes) -> None:
    assert traceparent_of([(b"traceparent", value)]) == NONE


def test_two_of_them_are_none() -> None:
    assert traceparent_of([(b"traceparent", GOOD), (b"traceparent", GOOD)]) == NONE
    assert traceparent_of([]) == NONE

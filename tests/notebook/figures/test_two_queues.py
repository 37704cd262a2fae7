"""The drawing of a socket with its two queues says what it shows."""

import lab_support.notebook as lab


def test_every_process_and_connection_is_named():
    picture = lab.two_queues(3, connections=2)
    assert picture.alt.startswith("3 descriptors, one socket, two queues.")
    assert "2 complete connections" in picture.alt and "all 3 processes" in picture.alt
    assert picture.png().startswith(b"\x89PNG")

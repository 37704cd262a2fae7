"""The `traceparent` field of a request: the trace that its client follows (W3C Trace Context).

https://www.w3.org/TR/trace-context/#traceparent-header. A field that breaks the format is ignored, as it demands.
"""

import re
from collections.abc import Iterable

_FIELD = re.compile(
    rb"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<parent>(?!0{16})[0-9a-f]{16})-[0-9a-f]{2}"
    rb"(?P<more>-.*)?",
    re.DOTALL,
)
NONE = ("", "")


def traceparent_of(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """(trace id, parent id) in hexadecimal digits, both "" if there is no valid field, or more than one."""
    values = [value for name, value in headers if name == b"traceparent"]
    found = _FIELD.fullmatch(values[0]) if len(values) == 1 else None
    if found is None or (found["version"] == b"00" and found["more"]):  # later versions may append something
        return NONE
    return found["trace"].decode(), found["parent"].decode()

"""Error answers: OpenAI's error object with the status and headers that belong to it.

Raised anywhere below `routes.py`; `http/middleware.py` turns it into a response. It does not decide when to raise.
"""

from dataclasses import dataclass, field

import msgspec

from lab_support.boundary.messages import Fatal

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"
UNAVAILABLE = "service_unavailable_error"


class ErrorDetail(msgspec.Struct, frozen=True):
    """The message says what was got and what is allowed; `param` is the field's path, `code` is for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The body of every answer with a status of 400 and above, and of the last event of a stream that failed."""

    error: ErrorDetail


@dataclass(eq=False)
class ApiError(Exception):
    """Answer `status` with OpenAI's error object. `headers` are added to the answer's own."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    type: str = INVALID_REQUEST
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def body(self) -> bytes:
        return msgspec.json.encode(ErrorAnswer(ErrorDetail(self.message, self.type, self.param, self.code)))


def bad_request(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, param, code)


def unavailable(message: str, code: str) -> ApiError:
    """503: nothing is wrong with the request; it may be sent again in a second."""
    return ApiError(503, message, None, code, UNAVAILABLE, [(b"retry-after", b"1")])


def defect(error: BaseException) -> ApiError:
    """500: a defect of this server. The log has the traceback."""
    return ApiError(500, f"the server failed: {type(error).__name__}", None, "defect", SERVER_ERROR)


def refused_by_engine(engine_index: int) -> ApiError:
    """400: an engine core has no room for a prompt that this API server let pass."""
    message = f"prompt: got more tokens than engine-{engine_index} has room for, allowed are fewer; shorten it"
    return ApiError(400, message, "prompt", "context_length_exceeded")


def from_fatal(fatal: Fatal) -> ApiError:
    """503: the process `fatal.name` died while the answer was being made."""
    return unavailable(f"{fatal.name}: {fatal.cause}", "server_ended")

"""Messages arrive as they were sent, and anything that is not one of ours is refused."""

import subprocess
import sys

import msgspec
import pytest

from lab_support.boundary.messages import (
    Abort,
    CachedTokens,
    EngineStats,
    Fatal,
    Generate,
    SequenceTokens,
    ToApiServer,
    ToEngineCore,
    Tokens,
    ToLauncher,
    decoder,
    encode,
)
from lab_support.generation import FinishReason, SamplingParams, TokenLogprobs

MESSAGES = [
    (ToEngineCore, Generate(1, 2, [3, 4], SamplingParams(temperature=0.0, seed=5, stop_token_ids=(1,)), 7)),
    (ToEngineCore, Generate(1, 2, [3], SamplingParams(), 7, b"salt")),
    (ToEngineCore, Abort(0, [1, 2])),
    (ToApiServer, Tokens(0, [SequenceTokens(1, [2], FinishReason.STOP, [TokenLogprobs(-0.5, 1, [(2, -0.5)])])])),
    (ToApiServer, Tokens(0, [SequenceTokens(1, [2])], [], [CachedTokens(1, 48)])),
    (ToApiServer, EngineStats(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, {"run": 0.5})),
    (ToLauncher, Fatal("engine-0", "why")),
]


@pytest.mark.parametrize(("kind", "message"), MESSAGES, ids=lambda value: type(value).__name__)
def test_there_and_back(kind, message) -> None:
    assert decoder(kind).decode(encode(message)) == message


@pytest.mark.parametrize("frame", [b"", b"\x80\x04K\x01.", encode(Fatal("a", "b")), b"\x93\xa5Abort\x00\xa1x"])
def test_anything_else_is_refused(frame: bytes) -> None:
    with pytest.raises((msgspec.ValidationError, msgspec.DecodeError)):
        decoder(ToEngineCore).decode(frame)


def test_the_language_of_the_processes_needs_nothing_heavy() -> None:
    program = (
        "import sys, lab_support.boundary.messages; print({'torch', 'numpy', 'zmq', 'uvicorn'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"

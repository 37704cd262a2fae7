"""Requests that are wrong in every way that a generator knows, and right ones to compare them with. No network here.

Each is a list of pieces and what the client does afterwards. The same seed makes the same requests.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Chance = random.Random
STAYS, HALF_CLOSES, CLOSES, RESETS = "stays", "half-closes", "closes", "resets"
BODIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 2, "temperature": 0}),
    ("/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 2, "n": 2, "logprobs": 2, "stream": True}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2, "stop": ["."]}),
    ("/tokenize", {"prompt": "Once upon a time there was"}),
    ("/detokenize", {"tokens": [1, 2, 3]}),
)
PATHS = ("/health", "/ping", "/version", "/v1/models", "/metrics", "/load", "/", "/docs", "/openapi.json", "/nowhere")
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, 1e308, 2**31, 2**63, 2**64, "", "x", "\x00", "é" * 50, "😀", "\ud800", [], {},
    [None], {"a": {"b": []}}, ["a"] * 40, [0] * 40, "a" * 5000, "NaN", [[]],
)  # fmt: skip
_FIELDS = ("n", "stop", "seed", "top_p", "top_k", "min_p", "logit_bias", "echo", "stream_options", "logprobs", "user",
           "top_logprobs", "response_format", "tools", "best_of", "suffix", "model", "ignore_eos", "x")  # fmt: skip
_METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"CONNECT", b"TRACE", b"get", b"G\x00T", b"PRI")
_TARGETS = (b"/health", b"*", b"http://x/health", b"//", b"/%00", b"/\xff", b"/a b", b"?", b"/" + b"a" * 9000, b"/%0a")
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"HTP/1.1", b"HTTP/1.1 ", b"")
_FRAMINGS = (
    b"content-length: 5", b"content-length: -1", b"content-length: 5, 6", b"content-length: 99999999999999999999",
    b"transfer-encoding: chunked", b"transfer-encoding: gzip, chunked", b"transfer-encoding:\tchunked",
    b"content-length: 5\r\ncontent-length: 6", b"content-length: 5\r\ntransfer-encoding: chunked", b"x : y",
    b"expect: 100-continue", b"upgrade: h2c\r\nconnection: upgrade", b"connection: close", b" folded: z", b"\x00: 1",
    b"host: a\r\nhost: b", b"trailer: x",
    b"content-encoding: gzip", b"origin: https://example.org", b"accept: \xff\xfe",
)  # fmt: skip
_TAILS = (b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nx: y\r\n\r\n", b"-5\r\n",
          b"ffffffffffffffff1\r\n", b"{}", b"5;a=b\r\nhello\r\n0\r\n\r\n")  # fmt: skip


@dataclass(frozen=True)
class Fuzzed:
    """One connection of a client: it sends each piece, waits `pause` seconds behind each, and then does `then`."""

    kind: str
    pieces: tuple[bytes, ...]
    then: str = STAYS
    pause: float = 0.0


def right(chance: Chance) -> Fuzzed:
    """One that every server of this kind answers with 200, 404 or 503."""
    return Fuzzed("right", (_right(chance),))


def fuzzed(chance: Chance) -> Fuzzed:
    kind = chance.choice(list(KINDS))
    return KINDS[kind](chance)


def _right(chance: Chance, close: bool = True) -> bytes:
    ending = [b"connection: close"] if close else []
    if chance.random() < 0.6:
        return _request(b"GET", chance.choice(PATHS).encode(), ending, b"")
    path, body = chance.choice(BODIES)
    return _post(path, json.dumps(body).encode(), ending)


def _post(path: str, body: bytes, more: list[bytes]) -> bytes:
    return _request(
        b"POST", path.encode(), [b"content-type: application/json", b"content-length: %d" % len(body), *more], body
    )


def _request(method: bytes, target: bytes, fields: list[bytes], body: bytes) -> bytes:
    return b"\r\n".join([b"%s %s HTTP/1.1" % (method, target), b"host: x", *fields, b"", body])


def _raw(chance: Chance) -> Fuzzed:
    size = chance.choice((1, 10, 100, 1000, 20000))
    text = chance.randbytes(size) if chance.random() < 0.5 else bytes(chance.choices(b"GET /HTP1.\r\n: ", k=size))
    return Fuzzed("raw", (text,), chance.choice((STAYS, HALF_CLOSES, CLOSES)))


def _wrong_head(chance: Chance) -> bytes:
    line = b" ".join([chance.choice(_METHODS), chance.choice(_TARGETS), chance.choice(_VERSIONS)])
    fields = chance.sample(_FRAMINGS, chance.randrange(4))
    return b"\r\n".join([line, b"host: x", *fields, b"", chance.choice(_TAILS)])


def _grammar(chance: Chance) -> Fuzzed:
    return Fuzzed("grammar", (_wrong_head(chance),), chance.choice((STAYS, HALF_CLOSES)))


def _wrong_body(chance: Chance, close: bool = True) -> bytes:
    path, body = chance.choice(BODIES)
    changed = json.loads(json.dumps(body))
    for _ in range(chance.randrange(1, 3)):
        changed[chance.choice((*changed, *_FIELDS))] = chance.choice(_VALUES)
    text = json.dumps(changed).encode()
    if chance.random() < 0.3:  # no JSON any more
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice((b"", b"\xff", b"[[[[", b"NaN", b'"', b"\x00")) + text[at + 1 :]
    return _post(path, text, [b"connection: close"] if close else [])


def _body(chance: Chance) -> Fuzzed:
    return Fuzzed("body", (_wrong_body(chance),))


def _pipelined(chance: Chance) -> Fuzzed:
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: _right(chance, close=False),
        lambda: _wrong_body(chance, close=False),
        lambda: _wrong_head(chance) if chance.random() < 0.2 else _right(chance, close=False),
    )
    return Fuzzed("pipelined", (b"".join(chance.choice(makers)() for _ in range(chance.randrange(2, 12))),),
                  chance.choice((STAYS, HALF_CLOSES, CLOSES, RESETS)))  # fmt: skip


def _slow(chance: Chance) -> Fuzzed:
    whole = chance.choice((_right, _wrong_body, lambda c: _wrong_head(c)))(chance)
    size = max(1, len(whole) // chance.randrange(2, 8))
    pieces = tuple(whole[at : at + size] for at in range(0, len(whole), size))
    return Fuzzed("slow", pieces, chance.choice((STAYS, CLOSES)), pause=0.2)


def _cut(chance: Chance) -> Fuzzed:
    whole = chance.choice((_right, _wrong_body))(chance)
    return Fuzzed("cut", (whole[: chance.randrange(len(whole))],), chance.choice((HALF_CLOSES, CLOSES, RESETS)))


def _huge_head(chance: Chance) -> Fuzzed:
    fields = chance.choice((
        [b"x: " + b"a" * chance.choice((60_000, 70_000, 500_000))],
        [b"x%d: y" % number for number in range(chance.choice((250, 300, 5000)))],
        [b"a" * 70_000 + b": y"],
    ))  # fmt: skip
    return Fuzzed("huge head", (_request(b"GET", b"/health", [*fields, b"connection: close"], b""),))


KINDS: dict[str, Callable[[Chance], Fuzzed]] = {
    "raw": _raw,
    "grammar": _grammar,
    "body": _body,
    "pipelined": _pipelined,
    "slow": _slow,
    "cut": _cut,
    "huge head": _huge_head,
}

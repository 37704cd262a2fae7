"""Given parts of the server that a reader builds: HTTP, children with a pipe, and a stand-in for a model.

For `my_server.py`, which the cells of 07 and 07a make. What crosses a boundary is bytes here. Standard library only.

Taught in: 07_how_do_strangers_find_each_other
"""

import functools
import json
import multiprocessing
import os
import select
import signal
import socket
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

READY_FD = "LAB_READY_FD"
"""A variable that may name a descriptor: `say_ready` writes there, not to the terminal."""
HOLD = "LAB_HOLD_WEIGHTS"
"""A variable that may name a FIFO: `load_weights` then waits until its writer closes it, as a slow disk would."""
STEPS = "LAB_STEPS_FILE"
"""A variable that may name a file: each step appends one byte, the number of its rows."""
MOST_TOKENS = 4096
_LONGEST_REQUEST, _PATIENCE = 1_000_000, 5.0  # bytes; seconds that a client may be silent


# ---- HTTP ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """A completion that a client asks for. count: of tokens, its "max_tokens".

    stream: whether each token is to be sent as soon as it is there. chat: it came to /v1/chat/completions.
    """

    prompt: bytes
    count: int
    stream: bool = False
    chat: bool = False


def read_request(connection: socket.socket) -> Request | None:
    """The request on `connection`. None: it is no good, and the client has been told so, if it is still there."""
    connection.settimeout(_PATIENCE)
    try:
        first, body = _read_message(connection)
        return _request(first, body)
    except LookupError as error:
        _refuse(connection, HTTPStatus.NOT_FOUND, error)
    except (ValueError, OSError, RecursionError) as error:
        _refuse(connection, HTTPStatus.BAD_REQUEST, error)
    return None


def _refuse(connection: socket.socket, status: HTTPStatus, error: Exception) -> None:
    kind = status.phrase.replace(" ", "") + "Error"
    body = json.dumps({"error": {"message": str(error), "type": kind, "code": status}})
    with suppress(OSError):
        connection.sendall(_head(f"{status} {status.phrase}", "application/json") + body.encode())


def send_answer(connection: socket.socket, request: Request, tokens: Iterable[bytes]) -> bool:
    """Send the tokens: each as a server-sent event when it comes, or all in one answer, as the request asks.

    False: the client has hung up before the end.
    """
    try:
        for piece in (_stream if request.stream else _whole)(tokens, request.chat):
            if _hung_up(connection):
                return False
            connection.sendall(piece)
    except OSError:
        return False
    return True


def _stream(tokens: Iterable[bytes], chat: bool) -> Iterator[bytes]:
    yield _head("200 OK", "text/event-stream")
    for token in tokens:
        yield _event(_choice("delta" if chat else "", token.decode(), None))
    yield _event(_choice("delta" if chat else "", "", "length")) + b"data: [DONE]\n\n"


def _whole(tokens: Iterable[bytes], chat: bool) -> Iterator[bytes]:
    text = ""
    for token in tokens:
        text += token.decode()
        yield b""  # a chance to notice that the client has hung up
    yield _head("200 OK", "application/json") + _body(_choice("message" if chat else "", text, "length"))


def _event(choice: dict[str, Any]) -> bytes:
    return b"data: " + _body(choice) + b"\n\n"


def _choice(key: str, text: str, finish_reason: str | None) -> dict[str, Any]:
    said = {key: {"role": "assistant", "content": text}} if key else {"text": text}
    return {"index": 0, **said, "finish_reason": finish_reason}


def _body(choice: dict[str, Any]) -> bytes:
    kind = "text_completion" if "text" in choice else "chat.completion"
    return json.dumps({"object": kind, "model": "stand-in", "choices": [choice]}).encode()


def _head(status: str, kind: str) -> bytes:
    """Without a length: the end of the connection is the end of the answer."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode()


def _hung_up(connection: socket.socket) -> bool:
    if not select.select([connection], [], [], 0)[0]:
        return False
    return connection.recv(1, socket.MSG_PEEK) == b""


def _read_message(connection: socket.socket) -> tuple[str, bytes]:
    """The first line and the body of a request. Raises `ValueError`, `OSError`."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection, data)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    while len(body) < length:
        body += _more(connection, body)
    return first, body


def _more(connection: socket.socket, data: bytes) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("got the end of the connection, expected a request")
    if len(data) > _LONGEST_REQUEST:
        raise ValueError(f"got more than {_LONGEST_REQUEST:,} bytes, expected a shorter request")
    return piece


def _request(first: str, body: bytes) -> Request:
    place = first.split(" ")[:2]
    if place not in (["POST", "/v1/completions"], ["POST", "/v1/chat/completions"]):
        raise LookupError(f"got {first[:60]!r}, expected POST /v1/completions or POST /v1/chat/completions")
    asked = json.loads(body)
    if not isinstance(asked, dict):
        raise ValueError("got no JSON object, expected one")
    chat, count = "chat" in place[1], asked.get("max_tokens", 16)
    if not isinstance(count, int) or not 1 <= count <= MOST_TOKENS:
        raise ValueError(f'got "max_tokens": {count!r}, expected 1 to {MOST_TOKENS}')
    return Request(_prompt(asked, chat), count, asked.get("stream") is True, chat)


def _prompt(asked: dict[str, Any], chat: bool) -> bytes:
    if chat and isinstance(asked.get("messages"), list):
        return json.dumps(asked["messages"]).encode()
    if chat or not isinstance(asked.get("prompt"), str):
        raise ValueError(f"got no {'list' if chat else 'text'}, expected {'messages' if chat else 'a prompt'}")
    return str(asked["prompt"]).encode("utf-8", "replace")


# ---- processes -------------------------------------------------------------------------------------------------------


class ServerProcess(SpawnProcess):
    """A spawned process. pipe: the launcher's end of the pipe between them."""

    pipe: Connection
    _theirs: Connection

    def run(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a terminal's Ctrl-C reaches every process: no traceback of each
        super().run()


def spawn(name: str, work: Callable[..., Any], *arguments: Any) -> ServerProcess:
    """Start a process by spawn, which calls `work(launcher, *arguments)`. launcher: its end of a pipe to this one.

    The child's end stays open here too. So only the child's sentinel tells that it has ended, not the pipe.
    """
    ours, theirs = multiprocessing.Pipe()
    child = ServerProcess(target=work, args=(theirs, *arguments), name=name)
    child.start()
    child.pipe, child._theirs = ours, theirs
    return child


@contextmanager
def all_ended(children: list[ServerProcess]) -> Iterator[None]:
    """At the end, kill all `children` that are in the list by then, and wait for them. Ctrl-C is an end, too."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.join()


def say_ready(listening_socket: socket.socket, children: Iterable[SpawnProcess] = ()) -> None:
    """Say in one line that the server is ready: its address, and the pid of each process."""
    pids = {"launcher": os.getpid(), **{child.name: child.pid for child in children}}
    url = f"http://127.0.0.1:{listening_socket.getsockname()[1]}"
    line = " ".join(["READY", url, *(f"{name}={pid}" for name, pid in pids.items())])
    if READY_FD not in os.environ:
        print(line, flush=True)
        return
    with open(int(os.environ.pop(READY_FD)), "w", encoding="ascii") as told:
        told.write(line + "\n")


# ---- a stand-in for a model ------------------------------------------------------------------------------------------

_WEIGHTS_BYTES = 3_000_000


@functools.cache
def load_weights() -> bytes:
    """The stand-in's weights, loaded once in this process."""
    if HOLD in os.environ:
        with open(os.environ[HOLD], "rb") as fifo:
            fifo.read()
    return b"\x01" * _WEIGHTS_BYTES


def next_tokens(texts: Sequence[bytes]) -> list[bytes]:
    """One step: the next token of each text. It depends on the whole text, and on no other text.

    A stand-in for a model on a GPU. Like a decode step there, it reads all weights once, so that a step with one
    row takes about as long as a step with sixteen.
    """
    _note_step(len(texts))
    zlib.crc32(load_weights())
    return [token_after(text) for text in texts]


def token_after(text: bytes) -> bytes:
    """The next token of `text`, such as b"kemo ". It costs no step, so a check can tell what an answer should be."""
    seen = zlib.crc32(text)
    return _syllable(seen) + _syllable(seen >> 16) + b" "


def _syllable(number: int) -> bytes:
    return bytes((b"bdfgklmnprstvwxz"[number % 16], b"aeiou"[number // 16 % 5]))


class Batch:
    """The requests that are computed together, by their clients. `len` is the number of rows, and 0 is false."""

    def __init__(self) -> None:
        load_weights()
        self._rows: dict[bytes, tuple[bytes, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, client: bytes, *message: bytes) -> None:
        """Take a client's message: a prompt and a count of tokens begin a row; anything else ends the client's row."""
        self._rows.pop(client, None)
        if len(message) == 2:
            prompt, count = message
            self._rows[client] = (prompt, int(count))

    def step(self) -> list[tuple[bytes, bytes]]:
        """One step over all rows: (client, token) for each, and (client, b"") after a row's last token."""
        told = []
        for client, token in zip([*self._rows], next_tokens([text for text, _ in self._rows.values()]), strict=True):
            text, left = self._rows.pop(client)
            told.append((client, token))
            if left > 1:
                self._rows[client] = (text + token, left - 1)
            else:
                told.append((client, b""))
        return told


def _note_step(rows: int) -> None:
    if name := os.environ.get(STEPS):
        with open(name, "ab", buffering=0) as file:
            file.write(bytes((min(rows, 255),)))

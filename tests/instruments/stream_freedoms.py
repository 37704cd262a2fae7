"""A server whose streams use every freedom that the event-stream format and HTTP give, and that counts what it sent.

Each answer is written in a way of its own, drawn from a seed: line ends, spaces, comments, ids, types, several data
lines, white space in JSON, where its events are cut into chunks and the chunks into writes. Raw sockets and a thread
for each connection, so that it shares no code and no event loop with what reads it.
"""

import json
import random
import socket
import threading
from dataclasses import dataclass, field
from typing import Any, Self

LINE_ENDS = ("\n", "\r\n", "\r")
TYPES = (
    "text/event-stream",
    "Text/Event-Stream; charset=UTF-8",
    "TEXT/EVENT-STREAM",
    "text/event-stream;charset=utf-8",
)
JSON_WAYS: tuple[dict[str, Any], ...] = (
    {"separators": (",", ":")},
    {},
    {"indent": 1},
    {"separators": (" ,\t", " : "), "ensure_ascii": False},
)
WORDS = ("a", ' "text":"" ', '{"error": 1}', "é☕", "\u2028", "\\", "data: [DONE]", "\n\n", '"usage":{', "\x85")


@dataclass
class FreeServer:
    """Counts over all answers. pieces: events that carried text; tokens: as it told in `usage`."""

    seed: int = 0
    answers: int = 0
    pieces: int = 0
    tokens: int = 0
    errors: int = 0
    ways: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._lock, self._threads = threading.Lock(), []
        accepting = threading.Thread(target=self._accept)
        accepting.start()
        self._threads.append(accepting)
        return self

    def __exit__(self, *exception: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listening.accept()[0]
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(client,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as requests:
            while head := self._head(requests):
                body = json.loads(requests.read(int(head["content-length"])))
                with self._lock:
                    self.answers += 1
                    chance = random.Random(self.seed * 100_003 + self.answers)
                if not self._answer(client, body, chance):
                    return

    @staticmethod
    def _head(requests: Any) -> dict[str, str]:
        lines: list[str] = []
        while (line := requests.readline().strip()) or not lines:
            if not line:
                return {}
            lines.append(line.decode())
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}

    def _answer(self, client: socket.socket, body: dict, chance: random.Random) -> bool:
        """Whether the connection stays open."""
        events, ending = self._events(body, chance)
        text = b"".join(self._written(event, chance) for event in events).removesuffix(ending)
        if chance.random() < 0.1:
            text = b"\xef\xbb\xbf" + text
        kind, chunked = chance.choice(TYPES), chance.random() < 0.8
        old = not chunked and chance.random() < 0.5
        head = f"HTTP/1.{0 if old else 1} 200 OK\r\ncontent-TYPE:{kind}\r\n"
        head += "Transfer-Encoding: Chunked\r\n\r\n" if chunked else "connection: Close\r\n\r\n"
        if chance.random() < 0.2:
            head = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + head
        whole = head.encode() + (self._chunks(text, chance) if chunked else text)
        for piece in cut(whole, chance, most=chance.choice((1, 7, 200, 5000))):
            client.sendall(piece)
        return chunked

    def _events(self, body: dict, chance: random.Random) -> tuple[list[tuple[str, str]], bytes]:
        """Types and data of an answer's events; and what may be missing at its end: the last line's end."""
        chat, count = "messages" in body, body["max_tokens"]
        payloads: list[Any] = [{"choices": [{"index": 0, "delta": {"role": "assistant"}}]}] if chat else []
        if chance.random() < 0.5:
            payloads.append(self._piece(chat, chance.choice(("", None)), None))
        payloads += [self._piece(chat, chance.choice(WORDS), chance) for _ in range(count)]
        failed = chance.random() < 0.2
        if failed:
            payloads.append(chance.choice(({"error": {"message": "gone"}}, {"object": "error", "message": "gone"})))
        last = self._piece(chat, chance.choice(("", None)), None, finish="length")
        usage = {"prompt_tokens": 3, "completion_tokens": count}
        if chance.random() < 0.5:
            payloads += [last, {"choices": [], "usage": usage}]
        else:
            payloads.append(last | {"usage": usage})
        with self._lock:
            self.pieces += count
            self.tokens += count
            self.errors += failed
        done = [("", "[DONE]")]
        if chance.random() < 0.2:  # the reason why it ends is enough; the last piece of text may give it, too
            payloads[-2 if not payloads[-1]["choices"] else -1]["choices"][0]["finish_reason"] = "stop"
            done = []
        way = chance.choice(JSON_WAYS)
        kind = chance.choice(("", "message", "completion"))
        events = [(kind, json.dumps(payload, **way)) for payload in payloads]
        return [*events, *done], chance.choice((b"", b"\n"))

    @staticmethod
    def _piece(chat: bool, text: str | None, chance: random.Random | None, finish: str | None = None) -> dict:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        if not chat:
            return {"id": "x", "choices": [choice | {"text": text}], "usage": None}
        key = chance.choice(("content", "content", "reasoning_content")) if chance else "content"
        return {"id": "x", "choices": [choice | {"delta": {"content": None, key: text}}], "usage": None}

    @staticmethod
    def _written(event: tuple[str, str], chance: random.Random) -> bytes:
        kind, data = event
        end, space = chance.choice(LINE_ENDS), chance.choice(("", " "))
        lines = [f"data:{space}{line}" for line in data.split("\n")]
        if kind:
            lines.insert(0, f"event:{space}{kind}")
        for extra in (": a comment", ":", "id: 7", "retry: 10", "unknown: field", "id"):
            if chance.random() < 0.15:
                lines.insert(chance.randint(0, len(lines)), extra)
        before = chance.choice(("", "", f": ping{end}{end}", end))
        return (before + end.join(lines) + end + end).encode()

    @staticmethod
    def _chunks(text: bytes, chance: random.Random) -> bytes:
        """Cut anywhere, within a character and between CR and LF too."""
        parts = cut(text, chance, most=chance.choice((1, 40, 4000)))
        size = chance.choice(("{:x}", "{:X}", "{:04x}", '{:x};name="v"', "{:x} ;x"))
        chunks = b"".join(size.format(len(part)).encode() + b"\r\n" + part + b"\r\n" for part in parts)
        return chunks + b"0\r\n" + chance.choice((b"", b"x-checksum: 1\r\n")) + b"\r\n"


def cut(data: bytes, chance: random.Random, *, most: int) -> list[bytes]:
    pieces, start = [], 0
    while start < len(data):
        end = start + chance.randint(1, most)
        pieces.append(data[start:end])
        start = end
    return pieces

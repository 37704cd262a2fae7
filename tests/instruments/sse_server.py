"""A small real server that streams completions as server-sent events, for tests of the load generator.

Raw asyncio on a real socket, so that a test can make it cut answers, answer 503, or close kept connections.
`python tests/instruments/sse_server.py` runs it alone and prints its port.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Self


@dataclass
class SseServer:
    """Answers every POST with `max_tokens` events; what a body's `user` says changes that (see `_answer`)."""

    name: str = "api-0"
    close_after: int = 10**9
    hold: asyncio.Event | None = None
    requests: list[dict] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    lost: int = 0
    tokens_sent: int = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._tasks: set[asyncio.Task] = set()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        answered = 0
        try:
            while answered < self.close_after and await self._answer_one(reader, writer):
                answered += 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            self.lost += 1
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return False
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.requests.append(body)
        self.paths.append(first.split()[1])
        self.headers.append(headers)
        if self.hold is not None:
            await self.hold.wait()
        return await self._answer(writer, body, close=headers.get("connection") == "close")

    async def _answer(self, writer: asyncio.StreamWriter, body: dict, *, close: bool) -> bool:
        marks = f"x-served-by: {self.name}\r\nx-engine: engine-{len(self.requests) % 2}\r\n"
        how = body.get("prompt", "")
        if how == "503":
            writer.write(f"HTTP/1.1 503 Busy\r\n{marks}content-length: 13\r\n\r\n".encode() + b'{"error": {}}')
            return True
        if not body["stream"]:
            answer = json.dumps({"usage": {"completion_tokens": body["max_tokens"]}}).encode()
            writer.write(f"HTTP/1.1 200 OK\r\n{marks}content-length: {len(answer)}\r\n\r\n".encode() + answer)
            return not close
        writer.write(self._stream_head(marks, close))
        for index in range(body["max_tokens"]):
            if how == "cut" and index == 2:
                writer.transport.abort()
                return False
            self._send(writer, {"choices": [{"index": 0, "text": f" word{index}", "finish_reason": None}]})
            self.tokens_sent += 1
            await writer.drain()
            if index % 8 == 0:
                await asyncio.sleep(0)
        if how == "error":
            self._send(writer, {"error": {"message": "the engine is gone"}})
        if how != "no end":
            self._send(writer, {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
        self._send(writer, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": body["max_tokens"]}})
        if how not in ("no done", "no end"):
            writer.write(b"e\r\ndata: [DONE]\n\n\r\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return not close

    @staticmethod
    def _stream_head(marks: str, close: bool) -> bytes:
        ending = "connection: close\r\n\r\n" if close else "\r\n"
        kind = "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
        return f"HTTP/1.1 200 OK\r\n{marks}{kind}{ending}".encode()

    @staticmethod
    def _send(writer: asyncio.StreamWriter, event: dict) -> None:
        payload = b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
        writer.write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")


async def main() -> None:
    async with SseServer() as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

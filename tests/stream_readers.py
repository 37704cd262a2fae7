"""Clients that each read one streamed answer after the other and compare it with the reference, byte for byte.

On each connection the first question is who serves it, by pid. So for every stream that ends early it is known
whether its API server has been killed, or whether a neighbour's death has harmed it.
"""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BODY = {"prompt": "Once upon a time", "temperature": 0, "ignore_eos": True, "stream": True}
TIMEOUT = 60.0  # seconds: a reader without a word for so long hangs


@dataclass
class Read:
    """One stream. `how` it ended: whole, different, error event, cut, unanswered, stuck, status 503, …"""

    how: str
    text: str
    begun: float
    ended: float
    pid: int | None = None  # None where the connection ended before anybody answered on it


class Readers:
    """So many clients at once, from the time at which it is made to `stop`; `reads` is what became of each stream."""

    def __init__(self, url: str, count: int) -> None:
        self._port = int(url.rsplit(":", 1)[1])
        self.reference = read_one(self._port, None).text
        assert self.reference
        self.reads: list[Read] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Read]:
        """No new streams; those that run are read to their ends."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT)
        return self.reads

    def _go_on(self) -> None:
        while not self._stopping.is_set():
            read = read_one(self._port, self.reference)
            self.reads.append(read)
            if read.how == "unanswered":
                self._stopping.wait(0.05)


def read_one(
    port: int, reference: str | None, tokens: int = 150, on_text: Callable[[Read], object] = lambda read: None
) -> Read:
    """on_text: called after each event with text, with what has been read so far."""
    read = Read("unanswered", "", time.monotonic(), 0.0)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        if _ask_who(connection, read):
            _read_stream(connection, read, reference, tokens, on_text)
    except TimeoutError:
        read.how = "stuck"
    except (OSError, http.client.HTTPException, ValueError):
        pass  # `how` says how far it came; a ValueError is an event that was cut in its middle
    finally:
        connection.close()
    read.ended = time.monotonic()
    return read


def _ask_who(connection: http.client.HTTPConnection, read: Read) -> bool:
    """False where the server asks to come back by another connection."""
    connection.request("GET", "/version")
    answer = connection.getresponse()
    read.pid = next(iter(json.loads(answer.read())["pids"].values()))
    if answer.will_close:
        read.how = "sent on"
    return not answer.will_close


def _read_stream(
    connection: http.client.HTTPConnection,
    read: Read,
    reference: str | None,
    tokens: int,
    on_text: Callable[[Read], object],
) -> None:
    read.how = "cut"
    body = BODY | {"max_tokens": tokens}
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        read.how = f"status {answer.status}"
        read.text = answer.read().decode()
        return
    for event in _events(answer):
        if event == "[DONE]":
            read.how = "whole" if reference in {None, read.text} else "different"
        elif "error" in (parsed := json.loads(event)):
            read.how = "error event"
            read.text += f" (error: {parsed['error']})"
        else:
            read.text += "".join(choice["text"] for choice in parsed["choices"])
            on_text(read)


def _events(answer: http.client.HTTPResponse) -> Iterator[str]:
    with contextlib.suppress(http.client.IncompleteRead):
        for line in answer:
            if line.startswith(b"data: "):
                yield line[6:].decode().strip()

"""Clients of a server that is about to lose a process: each asks once, and tells how its answer ended.

One that loses its answer asks once more, at once, as any client would.
"""

import http.client
import json
import threading
import time
from collections import Counter

DONE, ERROR_EVENT, CUT, REFUSED, WAITING = "done", "error event", "cut off", "refused", "still waiting"
_PATIENCE = 60.0
_TOKENS, _TOKENS_AGAIN = 150, 4


class Client(threading.Thread):
    """One streamed answer of `tokens` tokens. Runs in a thread of the experiment's process.

    outcome: `WAITING` until it has ended, then one of the words above, or "status N". at: when it ended, by
    time.monotonic(). again: the same word for the second request, with the name of who answered it, or "".
    """

    def __init__(self, address: tuple[str, int], key: str, tokens: int) -> None:
        super().__init__(daemon=True)
        self._address, self._key, self._tokens = address, key, tokens
        self.outcome, self.again = WAITING, ""
        self.at = float("inf")
        self.flows = threading.Event()
        self.start()

    def run(self) -> None:
        outcome, _ = self._ask(self._tokens)
        self.at = time.monotonic()
        self.flows.set()
        if outcome in (CUT, ERROR_EVENT):
            ended, by = self._ask(_TOKENS_AGAIN)
            self.again = f"{ended} by {by}" if ended == DONE else ended
        self.outcome = outcome

    def _ask(self, tokens: int) -> tuple[str, str]:
        """The outcome, and the name of the process that answered, if one did."""
        connection = http.client.HTTPConnection(*self._address, timeout=_PATIENCE)
        try:
            return self._read(connection, tokens)
        except ConnectionRefusedError:
            return REFUSED, ""
        except (OSError, http.client.HTTPException):  # reset, or the end where more was announced
            return CUT, ""
        finally:
            connection.close()

    def _read(self, connection: http.client.HTTPConnection, tokens: int) -> tuple[str, str]:
        body = {"prompt": "Once upon a time", "max_tokens": tokens, "stream": True, "ignore_eos": True}
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        by = answer.headers.get("x-served-by", "")
        if answer.status != http.client.OK:
            return f"status {answer.status}", by
        for line in answer:
            self.flows.set()
            if line.startswith(b'data: {"error"'):
                return ERROR_EVENT, by
            if line.startswith(b"data: [DONE]"):
                return DONE, by
        return CUT, by


class Clients:
    """`count` of them, which ask at once."""

    def __init__(self, address: tuple[str, int], key: str, count: int, tokens: int = _TOKENS) -> None:
        self._clients = [Client(address, key, tokens) for _ in range(count)]

    def await_flow(self) -> None:
        """Until each has its first event, or has ended."""
        for client in self._clients:
            client.flows.wait(_PATIENCE)

    def outcomes(self, seconds: float) -> dict[str, int]:
        """How many ended in which way within so many seconds; for `emit`."""
        deadline = time.monotonic() + seconds
        for client in self._clients:
            client.join(max(0.0, deadline - time.monotonic()))
        return dict(Counter(client.outcome for client in self._clients))

    def again(self) -> dict[str, int]:
        """The same for those that lost their answer and asked again."""
        return dict(Counter(client.again for client in self._clients if client.again))

    def lost_ms(self, since: float) -> list[float]:
        """For each that has lost its answer by now, how long after `since`, by time.monotonic(), it knew."""
        lost = [client.at for client in self._clients if client.outcome not in (DONE, WAITING)]
        return sorted(round(1000 * (at - since), 1) for at in lost)

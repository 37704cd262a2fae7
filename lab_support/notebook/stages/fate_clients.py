"""Clients of a server that is about to lose a process: each asks once, and tells how its answer ended."""

import http.client
import json
import threading
import time
from collections import Counter

DONE, ERROR_EVENT, CUT, REFUSED, WAITING = "done", "error event", "cut off", "refused", "still waiting"
_PATIENCE = 60.0


class Client(threading.Thread):
    """One streamed answer of `tokens` tokens. Runs in a thread of the cell's process.

    outcome: `WAITING` until it has ended, then one of the words above, or "status N".
    """

    def __init__(self, address: tuple[str, int], key: str, tokens: int) -> None:
        super().__init__(daemon=True)
        self._address, self._key, self._tokens = address, key, tokens
        self.outcome = WAITING
        self.flows = threading.Event()
        self.start()

    def run(self) -> None:
        outcome = CUT
        try:
            outcome = self._ask()
        except ConnectionRefusedError:
            outcome = REFUSED
        except (OSError, http.client.HTTPException):  # reset, or the end where more was announced
            pass
        self.outcome = outcome
        self.flows.set()

    def _ask(self) -> str:
        connection = http.client.HTTPConnection(*self._address, timeout=_PATIENCE)
        body = {"prompt": "Once upon a time", "max_tokens": self._tokens, "stream": True, "ignore_eos": True}
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/v1/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                return f"status {answer.status}"
            for line in answer:
                self.flows.set()
                if line.startswith(b'data: {"error"'):
                    return ERROR_EVENT
                if line.startswith(b"data: [DONE]"):
                    return DONE
            return CUT
        finally:
            connection.close()


class Clients:
    """`count` of them, which ask at once."""

    def __init__(self, address: tuple[str, int], key: str, count: int, tokens: int) -> None:
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

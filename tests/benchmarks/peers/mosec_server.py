"""mosec: a front end in Rust, and one worker in Python that gets batches of up to 16 requests.

`python -m tests.benchmarks.peers.mosec_server --port N`, with mosec's own flags; PEER_MODEL is the model folder, and
with PEER_WHOLE each answer is sent as a whole.
"""

import os

from mosec import Server, SSEWorker, Worker

from tests.benchmarks.peers.events import as_stream
from tests.benchmarks.peers.generation import Generation, Request


class Streamed(SSEWorker):
    """Sends each event as it is known."""

    def __init__(self) -> None:
        super().__init__()
        self._generation = Generation()

    def forward(self, data: list[Request]) -> list[str]:
        for step in self._generation.steps(data):
            for place, events in enumerate(step):
                for event in events:
                    self.send_stream_event(event, place)
        return [""] * len(data)


class Whole(Worker):
    """Sends an answer's events together, once the batch is done: mosec has one way back for all of it."""

    resp_mime_type = "text/event-stream"

    def __init__(self) -> None:
        super().__init__()
        self._generation = Generation()

    def forward(self, data: list[Request]) -> list[str]:
        answers = [""] * len(data)
        for step in self._generation.steps(data):
            answers = [told + as_stream(events) for told, events in zip(answers, step, strict=True)]
        return answers

    def serialize(self, data: str) -> bytes:
        return data.encode()


if __name__ == "__main__":
    server = Server()
    worker = Whole if "PEER_WHOLE" in os.environ else Streamed
    server.append_worker(worker, max_batch_size=16, max_wait_time=10, route="/v1/completions")
    server.run()

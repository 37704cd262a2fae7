"""LitServe: two HTTP processes, and one worker that gets batches of up to 16 requests.

`python -m tests.benchmarks.peers.litserve_server PORT`; PEER_MODEL is the model folder.
"""

import sys
from collections.abc import Iterator

from litserve import LitAPI, LitServer

from tests.benchmarks.peers.events import as_stream
from tests.benchmarks.peers.generation import Generation, Request, Step


class Completions(LitAPI):
    """Streams of a batch end together: LitServe has one loop over all of them."""

    def setup(self, device: str) -> None:
        self._generation = Generation()

    def batch(self, inputs: list[Request]) -> list[Request]:
        return inputs

    def predict(self, x: list[Request]) -> Iterator[Step]:
        yield from self._generation.steps(x)

    def encode_response(self, output: Iterator[Step]):  # LitServe takes what is said here for an answer's JSON schema
        for step in output:
            yield [as_stream(events) for events in step]


if __name__ == "__main__":
    api = Completions(max_batch_size=16, batch_timeout=0.01, stream=True, api_path="/v1/completions")
    server = LitServer(api, accelerator="cpu", timeout=120)
    server.run("127.0.0.1", int(sys.argv[1]), num_api_servers=2, log_level="warning", generate_client_file=False)

"""The plainest server: uvicorn's workers with FastAPI, each with a model that answers one request at a time.

`python -m uvicorn tests.benchmarks.peers.uvicorn_server:app --workers 2`; PEER_MODEL is the model folder.
"""

from collections.abc import Iterator
from threading import Lock

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from tests.benchmarks.peers.events import as_stream
from tests.benchmarks.peers.generation import Generation, Request

app = FastAPI()
generation = Generation()
one_at_a_time = Lock()


@app.post("/v1/completions")
def completions(request: Request) -> StreamingResponse:
    return StreamingResponse(answer(request), media_type="text/event-stream")


def answer(request: Request) -> Iterator[str]:
    """Runs in a thread of the worker's pool."""
    with one_at_a_time:
        for [events] in generation.steps([request]):
            yield as_stream(events)

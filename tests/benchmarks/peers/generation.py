"""transformers' `generate` for batches of requests, token by token. Runs in the workers of peers without an engine.

It is greedy, and an answer has as many tokens as were asked for: a batch runs as long as its longest answer does.
"""

import os
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer

from tests.benchmarks.peers.events import Answers

Request = dict[str, Any]
"""`prompt` and `max_tokens` of OpenAI's completions."""
Step = list[list[str]]
"""For each request of a batch, the data of the events that a step brings."""


class Generation:
    """A model and its tokenizer, in the dtype of the folder's weights. PEER_MODEL: the folder."""

    def __init__(self) -> None:
        folder = os.environ["PEER_MODEL"]
        self._whole = "PEER_WHOLE" in os.environ
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self._model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self._model.generation_config.eos_token_id = None

    def steps(self, requests: list[Request]) -> Iterator[Step]:
        """The steps of a batch. `generate` runs in a thread, as behind transformers' own `TextIteratorStreamer`."""
        steps: SimpleQueue[Step | None] = SimpleQueue()
        Thread(target=self._run, args=(requests, steps.put)).start()
        while (step := steps.get()) is not None:
            yield step

    def _run(self, requests: list[Request], tell: Callable[[Step | None], None]) -> None:
        try:
            self._generate(requests, tell)
        finally:
            tell(None)

    @torch.inference_mode()
    def _generate(self, requests: list[Request], tell: Callable[[Step], None]) -> None:
        inputs = self._tokenizer([each["prompt"] for each in requests], return_tensors="pt", padding=True)
        wanted = [each["max_tokens"] for each in requests]
        answers = Answers(inputs["attention_mask"].sum(1).tolist(), wanted, self._whole)

        def on_tokens(tokens: list[int]) -> None:
            tell(answers.step(self._tokenizer.batch_decode([[token] for token in tokens])))

        given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        self._model.generate(**given, streamer=NewTokens(on_tokens), do_sample=False, max_new_tokens=max(wanted))


class NewTokens(BaseStreamer):
    """Tells the next token of each sequence. `generate` puts the prompts first, as a matrix."""

    def __init__(self, tell: Callable[[list[int]], None]) -> None:
        self._tell = tell

    def put(self, value: torch.Tensor) -> None:
        if value.dim() == 1:
            self._tell(value.tolist())

    def end(self) -> None: ...

"""The sockets of an engine core whose front ends are vLLM's: the same ones, with vLLM's messages on them."""

import logging
from collections.abc import Iterator
from typing import Any

import zmq

from lab_support.boundary.channels import EngineCoreChannels
from lab_support.boundary.messages import EngineStats, Message, ToEngineCore, Tokens, encode
from lab_support.boundary.vllm_wire import Answer, Conversation, Unreadable, ready_message

log = logging.getLogger("lab.engine")


class VllmChannels(EngineCoreChannels):
    """As `EngineCoreChannels`. settings: block_size, dtype and the like, which the front end is told.

    vocabulary: the number of token ids.
    """

    def __init__(self, *given: Any, settings: dict[str, Any], vocabulary: int, **more: Any) -> None:
        super().__init__(*given, **more)
        self._settings, self._vocabulary = settings, vocabulary
        self._conversations: dict[int, Conversation] = {}

    def _hello(self, client_index: int) -> bytes:
        self._conversations[client_index] = Conversation(
            client_index, self._ready.engine_index, self._ready.max_model_len, self._vocabulary
        )
        return ready_message(self._ready, self._settings)

    def _messages(self, dealer: zmq.Socket) -> Iterator[ToEngineCore]:
        client_index = next(index for index, each in self._dealers.items() if each is dealer)
        conversation = self._conversations[client_index]
        while dealer.poll(0):
            try:
                asked, answers = conversation.read(dealer.recv_multipart(zmq.NOBLOCK))
            except Unreadable as why:
                log.warning("API server %d: %s", client_index, why)
                continue
            yield from asked
            if answers:
                self.outbox.put([(client_index, Answer(answer)) for answer in answers])

    def _frame(self, destination: int, message: Message) -> bytes:
        if isinstance(message, Answer):
            return message.body
        if isinstance(message, Tokens | EngineStats) and destination in self._conversations:
            return self._conversations[destination].write(message)
        return encode(message)

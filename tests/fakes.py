"""Stand-ins for the model, for tests of what lies before it: deterministic tokens without torch and without an engine.

The real `EngineClient` talks to `FakeEngine` as it would to engine cores over ZeroMQ, in one event loop. The token
that follows depends only on the prompt and the position, so that a test can say beforehand what must come.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from lab_support.boundary.messages import (
    Abort,
    EngineReady,
    EngineStats,
    Fatal,
    Generate,
    PromptScores,
    SequenceTokens,
    ToEngineCore,
    Tokens,
)
from lab_support.frontend.routing.engine_client import EngineClient
from lab_support.generation import FinishReason, TokenLogprobs

BLOCKS = 1000
TOLD_AT_ONCE = 3  # tokens of a prompt


def next_token(prompt: Sequence[int], position: int, vocab_size: int) -> int:
    """The token at `position` of the answer: the prompt said again, then counting up from its sum."""
    return prompt[position] if position < len(prompt) else (sum(prompt) + position) % vocab_size


@dataclass
class FakeSequence:
    """A sequence in the fake's batch."""

    asked: Generate
    engine_index: int
    made: int = 0
    told: int = 0  # of its prompt


@dataclass
class FakeEngine:
    """One or more engine cores behind an `EngineClient`: a step as often as the event loop turns.

    It echoes the prompt and then counts, ends at `end_token` or at max_tokens, and sends stats after every step.
    `script` gives all sequences these tokens instead. A paused one (`running` False) holds its sequences and makes
    nothing until `resume`.
    """

    vocab_size: int = 2048
    max_model_len: int = 2048
    end_token: int = 0
    client_index: int = 0
    client_count: int = 1
    engine_count: int = 1
    script: list[int] | None = None
    step_seconds: float = 0.0
    running: bool = True
    ready: bool = True
    sequences: dict[int, FakeSequence] = field(default_factory=dict)
    aborted: list[int] = field(default_factory=list)
    generated: list[Generate] = field(default_factory=list)
    steps: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0

    def __post_init__(self) -> None:
        self.client = EngineClient(self, self.client_index, self.client_count, self.engine_count)
        self._scheduled = False
        if self.ready:
            for index in range(self.engine_count):
                self.client.on_message(EngineReady(index, self.max_model_len, BLOCKS))

    def send(self, engine_index: int, message: ToEngineCore) -> None:
        """The engine client's way out."""
        match message:
            case Generate():
                self.generated.append(message)
                self.prompt_tokens += len(message.prompt_token_ids)
                self.sequences[message.request_id] = FakeSequence(message, engine_index)
                self._schedule()
            case Abort():
                self.aborted += message.request_ids
                for request_id in message.request_ids:
                    self.sequences.pop(request_id, None)

    def resume(self) -> None:
        self.running = True
        self._schedule()

    def die(self, cause: str) -> None:
        self.client.fail(Fatal("engine-0", cause))

    def _schedule(self) -> None:
        if self.running and self.sequences and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(self.step_seconds, self._step)

    def _step(self) -> None:
        self._scheduled = False
        self.steps += 1
        for engine_index in range(self.engine_count):
            batch = [each for each in self.sequences.values() if each.engine_index == engine_index]
            if batch:
                prompts = [self._tell(each) for each in batch if self._in_prompt(each)]
                able = [each for each in batch if not self._in_prompt(each)]
                self.client.on_message(Tokens(engine_index, [self._advance(each) for each in able], prompts))
                self.client.on_message(self._stats(engine_index))
        self._schedule()

    def _in_prompt(self, sequence: FakeSequence) -> bool:
        asked = sequence.asked
        return asked.sampling.prompt_logprobs is not None and sequence.told < len(asked.prompt_token_ids) - 1

    def _tell(self, sequence: FakeSequence) -> PromptScores:
        """A few tokens' log-probabilities: -1 for the second token of the prompt, -2 for the third, and so on."""
        ids = sequence.asked.prompt_token_ids[sequence.told + 1 :][:TOLD_AT_ONCE]
        wanted = sequence.asked.sampling.prompt_logprobs or 0
        told = [
            TokenLogprobs(-float(place), 2, [((token + 1 + i) % self.vocab_size, -0.25 - i) for i in range(wanted)])
            for place, token in enumerate(ids, sequence.told + 1)
        ]
        sequence.told += len(told)
        return PromptScores(sequence.asked.request_id, told)

    def _advance(self, sequence: FakeSequence) -> SequenceTokens:
        asked = sequence.asked
        if not asked.sampling.max_tokens:
            del self.sequences[asked.request_id]
            return SequenceTokens(asked.request_id, [], FinishReason.LENGTH)
        token = self._token(asked, sequence.made)
        sequence.made += 1
        self.generation_tokens += 1
        finish = None
        if token in self._ends(asked) and sequence.made > asked.sampling.min_tokens:
            finish = FinishReason.STOP
        elif sequence.made == asked.sampling.max_tokens:
            finish = FinishReason.LENGTH
        if finish is not None:
            del self.sequences[asked.request_id]
        return SequenceTokens(asked.request_id, [token], finish, self._logprobs(asked, token))

    def _token(self, asked: Generate, position: int) -> int:
        if self.script is not None:
            return self.script[position] if position < len(self.script) else self.end_token
        return next_token(asked.prompt_token_ids, position, self.vocab_size)

    def _ends(self, asked: Generate) -> set[int]:
        own = set(asked.sampling.stop_token_ids)
        return own if asked.sampling.ignore_eos else own | {self.end_token}

    def _logprobs(self, asked: Generate, token: int) -> list[TokenLogprobs] | None:
        wanted = asked.sampling.logprobs
        if wanted is None:
            return None
        return [TokenLogprobs(-0.5, 1, [((token + i) % self.vocab_size, -0.5 - i) for i in range(wanted)])]

    def _stats(self, engine_index: int) -> EngineStats:
        running = sum(each.engine_index == engine_index for each in self.sequences.values())
        return EngineStats(
            engine_index=engine_index,
            running=running,
            waiting=0,
            free_blocks=BLOCKS - running,
            total_blocks=BLOCKS,
            steps=self.steps,
            prompt_tokens=self.prompt_tokens,
            generation_tokens=self.generation_tokens,
            preemptions=0,
            aborts=len(self.aborted),
            abort_steps=len(self.aborted),
            abort_steps_max=1 if self.aborted else 0,
            prefix_cache_queries=self.prompt_tokens,
            prefix_cache_hits=0,
            stage_seconds={"model": 0.001 * self.steps},
        )


@dataclass
class FakeCounters:
    """Requests in flight of one API server, and the sequences of others."""

    requests_in_flight: int = 0
    sequences_in_flight: int = 0
    others: int = 0

    def total(self) -> int:
        return self.requests_in_flight

    def total_sequences(self) -> int:
        return self.sequences_in_flight + self.others

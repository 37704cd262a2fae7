"""One step as it goes from the scheduler to the runner, and the runner's results. No torch."""

from dataclasses import dataclass, field
from typing import NamedTuple

from lab_support.engine.request import Sequence
from lab_support.generation import TokenLogprobs

ROWS_AT_ONCE = 32
"""The most positions of prompts whose logits exist at the same time; `device.blocks_on_gpu` reserves room for them."""


class Chunk(NamedTuple):
    """The next `num_tokens` uncomputed tokens of one sequence; it `samples` if they are its last ones."""

    sequence: Sequence
    num_tokens: int

    @property
    def samples(self) -> bool:
        return self.num_tokens == self.sequence.num_uncomputed

    @property
    def scored(self) -> range:
        """The chunk's positions whose next token is in the prompt and has no reported log-probability yet.

        A sequence that was preempted in its prompt computes positions again that have been reported before.
        """
        sequence = self.sequence
        if sequence.sampling.prompt_logprobs is None:
            return range(0)
        end = min(sequence.num_computed + self.num_tokens, sequence.num_prompt - 1)
        return range(max(sequence.num_computed, sequence.num_scored), end)


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass over a mixed batch.

    decodes: sequences with one token left to compute, shortest first, so that the runner can pad neighbours
        to one length. Each gets a new token.
    chunks: pieces of prompts; those that reach the end of their prompt (`Chunk.samples`) get a token too.
    """

    decodes: list[Sequence]
    chunks: list[Chunk]

    @property
    def sampling(self) -> list[Sequence]:
        """The sequences that get a token, in the order of `Sampled.token_ids`."""
        return self.decodes + [chunk.sequence for chunk in self.chunks if chunk.samples]

    @property
    def num_tokens(self) -> int:
        return len(self.decodes) + sum(chunk.num_tokens for chunk in self.chunks)


class Scored(NamedTuple):
    """Log-probabilities that a step computed of a sequence's prompt: of its next tokens, one for each position."""

    sequence: Sequence
    logprobs: list[TokenLogprobs]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One token for each of `Step.sampling`, in its order; `logprobs` is None if none was requested.

    prompts: one for each sequence that asked for its prompt's log-probabilities and of which the step computed some.
    """

    token_ids: list[int]
    logprobs: list[TokenLogprobs | None] | None = None
    prompts: list[Scored] = field(default_factory=list)

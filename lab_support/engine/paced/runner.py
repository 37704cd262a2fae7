"""The stand-in for a runner: a step takes the time that a recorded GPU took, and its tokens are seeded draws.

Runs in engine cores only. Time per step is the recorded time of a decode step by its rows and their mean context, and
a fixed time more for each token of a prompt. Steps that were not recorded take the nearest recorded time; they are
counted, and the first is logged.
"""

import logging
from collections.abc import Callable

from lab_support.config import ServerConfig
from lab_support.engine.paced.step_clock import StepClock
from lab_support.engine.paced.tokens import SeededTokens
from lab_support.engine.step import Sampled, Step
from lab_support.model_folder import ModelFolder
from lab_support.model_folder.longest import fit_model_len
from lab_support.model_folder.token_ids import TokenIds
from lab_support.pace.pace import SHORTER, Pace, PaceCounts

log = logging.getLogger("lab.engine")


class PacedRunner:
    """Stands in for `Runner` (engine/runner.py), with the same attributes."""

    def __init__(self, config: ServerConfig, pace: Pace, idle_until: Callable[[], float]) -> None:
        """Raises `ConfigError` if the folder or the flags don't allow it. idle_until: as in `StepClock`."""
        folder = ModelFolder.open(config.model, config.load_format, config.generation_config)
        self.pace_counts = PaceCounts()
        self.end_token_ids = folder.end_token_ids
        self.num_blocks = config.num_gpu_blocks_override or _blocks(config, pace, folder.shape.context_length)
        self.max_model_len = fit_model_len(config, folder.shape, self.num_blocks)
        rope = folder.shape.rope
        stretched = rope.kind == "dynamic" and self.max_model_len > rope.original_context
        self.own_context = rope.original_context if stretched else None  # as on a device: rope.py
        self._pace = pace
        self._clock = StepClock(self.pace_counts, idle_until)
        self.vocab_size = folder.shape.vocab_size
        self._tokens = SeededTokens(TokenIds(folder.path).plain(self.vocab_size, folder.end_token_ids))
        self._said: set[str] = set()

    @property
    def details(self) -> dict[str, str | int | float]:
        return {
            "device": f"paced:{self._pace.name}",
            "stand_in": self._pace.title,
            "blocks": self.num_blocks,
            "context": self.max_model_len,
        }

    def run(self, step: Step) -> Sampled:
        """Returns when the step is due, with a token for each of `step.sampling`, in its order."""
        sampled = Sampled([self._tokens.next(sequence) for sequence in step.sampling])
        if step.num_tokens:
            self._clock.end_step(self._step_ms(step) / 1000)
        return sampled

    def interrupt(self) -> None:
        """Called by a signal handler: the step under way ends now."""
        self._clock.interrupt()

    def _step_ms(self, step: Step) -> float:
        rows = len(step.decodes) + len(step.chunks)
        prompt_tokens = sum(chunk.num_tokens for chunk in step.chunks)
        tokens = sum(len(sequence.token_ids) for sequence in step.decodes)
        tokens += sum(chunk.sequence.num_computed + chunk.num_tokens for chunk in step.chunks)
        context = tokens / rows
        if outside := self._pace.outside(context):
            self._count(outside, context)
        return self._pace.step_ms(rows, context, prompt_tokens)

    def _count(self, outside: str, context: float) -> None:
        if outside == SHORTER:
            self.pace_counts.shorter += 1
        else:
            self.pace_counts.longer += 1
        if outside not in self._said:
            self._said.add(outside)
            log.warning(
                "paced like %s: got a step with a context of %.0f tokens, and %.0f to %.0f were measured; it takes the "
                "time of the nearest one, as all such steps do, which lab_engine_unmeasured_steps_total counts",
                self._pace.name,
                context,
                self._pace.shortest,
                self._pace.longest,
            )


def _blocks(config: ServerConfig, pace: Pace, context_length: int) -> int:
    """As many as the recorded GPU had room for; at a reader's pace room for --max-num-seqs of the longest sequences."""
    longest = min(config.max_model_len or context_length, context_length)
    tokens = pace.kv_tokens or config.max_num_seqs * (longest + config.block_size)
    return max(1, tokens // config.block_size)

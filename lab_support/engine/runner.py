"""Owns the device: loads the model, makes the KV cache's memory, and computes one step after another.

Runs in engine cores only. It turns the scheduler's lists into tensors and sampled rows back into lists. model.py does
the computation, scheduler.py decides what is computed.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from lab_support.config import ServerConfig
from lab_support.engine import checkpoint
from lab_support.engine.attention import BlockMemory
from lab_support.engine.batch import BatchBuilder
from lab_support.engine.decode_graphs import DecodeGraphs
from lab_support.engine.decode_inputs import DecodeInputs
from lab_support.engine.device import check_memory, choose_dtype, count_blocks, open_device
from lab_support.engine.linear import LinearKind, choose
from lab_support.engine.model import LlamaModel
from lab_support.engine.open_kernels import open_kernels
from lab_support.engine.prompt_scores import score_prompts
from lab_support.engine.request import Request, Sequence
from lab_support.engine.sampler import Sampler
from lab_support.engine.step import Chunk, Sampled, Step
from lab_support.generation import SamplingParams
from lab_support.model_folder import ModelFolder
from lab_support.model_folder.longest import fit_model_len
from lab_support.pace.pace import PaceCounts


class Runner:
    """One model on one device.

    num_blocks: the number of blocks in the KV cache. max_model_len: longest prompt plus output, in tokens; the whole
    cache can always hold one such sequence. end_token_ids: tokens by which the model ends its output. own_context: the
    keys and values of a prompt longer than this depend on its length (rope.py); None if no prompt's do.
    """

    def __init__(self, config: ServerConfig, index: int = 0, on_progress: Callable[[], None] = lambda: None) -> None:
        """Load and warm up. Raises `ConfigError` if the device, the folder or the memory doesn't allow it.

        index: that of its engine core among several. on_progress: called before each tensor and each CUDA graph.
        """
        folder = ModelFolder.open(config.model, config.load_format, config.generation_config)
        device = open_device(config.device, index)
        dtype = choose_dtype(config.dtype, device, folder.shape)
        check_memory(folder, device, dtype)
        if device.type == "cpu":
            torch.set_num_threads(config.torch_threads)
        self._device, self._dtype = device, dtype
        self.pace_counts: PaceCounts | None = None  # those of a stand-in (paced/runner.py)
        self.end_token_ids = folder.end_token_ids
        self.vocab_size = folder.shape.vocab_size
        with torch.inference_mode():
            kernels = open_kernels(device)
            kind = choose(device, dtype, from_16_bits=checkpoint.has_16_bits(folder))
            weights = checkpoint.load(folder, device, dtype, kind, on_progress)
            self.num_blocks = config.num_gpu_blocks_override or count_blocks(config, folder.shape, device, dtype)
            self.max_model_len = fit_model_len(config, folder.shape, self.num_blocks)
            memory = BlockMemory(folder.shape, self.num_blocks, config.block_size, device, dtype)
            self._model = LlamaModel(folder.shape, weights, memory, kernels)
            inputs = None
            if kernels is not None:
                inputs = DecodeInputs(
                    config.max_num_seqs, self.max_model_len, config.block_size, memory.scratch_block, device
                )
            self._sampler = Sampler(folder.end_token_ids)
            self._builder = BatchBuilder(
                folder.shape,
                memory,
                max_model_len=self.max_model_len,
                device=device,
                dtype=dtype,
                padded=kind is LinearKind.PACKED,
                inputs=inputs,
            )
            self.own_context = self._builder.own_context
            self._graphs = None
            if inputs is not None and not config.enforce_eager:
                self._graphs = DecodeGraphs(self._model, inputs, self._builder.rotations, on_progress)
        self._warm_up(memory.scratch_block, config.block_size, with_prompt=inputs is not None)

    @property
    def details(self) -> dict[str, str | int | float]:
        """The choices made, for the log and for the line that says that the server is ready."""
        dtype = str(self._dtype).removeprefix("torch.")
        return {"device": str(self._device), "dtype": dtype, "blocks": self.num_blocks, "context": self.max_model_len}

    def interrupt(self) -> None:
        """Called by a signal handler. A step on a device can't be cut short."""

    def run(self, step: Step) -> Sampled:
        """One forward pass; a token for each of `step.sampling`, in its order. Returns when the step is computed."""
        with torch.inference_mode():
            if any(chunk.scored for chunk in step.chunks):
                return self._run_scored(step)
            logits = self.logits(step)
            return Sampled([]) if logits is None else self._sampler.sample(logits, step.sampling)

    def _run_scored(self, step: Step) -> Sampled:
        """A step that also reports log-probabilities of prompts' own tokens."""
        batch = self._builder.build(step)
        hidden = self._model.hidden(batch)
        prompts = score_prompts(self._model, hidden, step)
        logits = self._model.logits(hidden, batch.sampling_rows).float()[: len(step.sampling)]
        return replace(self._sampler.sample(logits, step.sampling), prompts=prompts)

    @torch.inference_mode()
    def logits(self, step: Step) -> torch.Tensor | None:
        """float32 [len(step.sampling), vocabulary], to be used before the next step; None for an empty one."""
        if not step.num_tokens:
            return None
        if self._graphs is not None and not step.chunks:
            return self._graphs.logits(step.decodes)
        logits = self._model.forward(self._builder.build(step)).float()
        return logits[: len(step.sampling)]

    def _warm_up(self, scratch_block: int, block_size: int, *, with_prompt: bool) -> None:
        """Run a decode into the scratch block, so that the first request doesn't pay for PyTorch's lazy initialisation;
        on a GPU a prompt first, because the first one took a second there."""
        if with_prompt:
            self.run(Step([], [Chunk(_warm_up_sequence(block_size, scratch_block), block_size)]))
        self.run(Step([_warm_up_sequence(1, scratch_block)], []))


def _warm_up_sequence(num_tokens: int, scratch_block: int) -> Sequence:
    sequence = Sequence(Request(None, [0] * num_tokens, SamplingParams(temperature=0.0)))
    sequence.block_table = [scratch_block]
    return sequence

"""Owns the device: loads the model, makes the KV cache's memory, and computes one step after another.

Runs in engine cores only. It turns the scheduler's lists into tensors and sampled rows back into lists; what is
computed is model.py's matter, what is scheduled the scheduler's. The lines marked "CUDA" have never run on a GPU:
the machine that this was written on has none.
"""

import os

import torch

from lab_support.config import ConfigError, ServerConfig
from lab_support.engine import checkpoint
from lab_support.engine.attention import BlockMemory
from lab_support.engine.batch import BatchBuilder
from lab_support.engine.linear import can_pack
from lab_support.engine.model import LlamaModel
from lab_support.engine.request import Request, Sequence
from lab_support.engine.sampler import Sampler
from lab_support.engine.step import Sampled, Step
from lab_support.generation import SamplingParams
from lab_support.model_folder import ModelFolder, ModelShape

# A CPU has no memory that is the engine's alone, so the cache is a fixed number of tokens; it is touched only as used.
CPU_CACHE_TOKENS = 16_384


class Runner:
    """One model on one device.

    num_blocks: how many blocks the KV cache has. max_model_len: longest prompt plus output, in tokens; the whole
    cache always holds one such sequence. end_token_ids: tokens by which the model says that it is done.
    """

    def __init__(self, config: ServerConfig) -> None:
        """Load and warm up. Raises `ConfigError` when the device, the folder or the memory doesn't allow it."""
        folder = ModelFolder.open(config.model, config.load_format)
        device = open_device(config.device)
        dtype = choose_dtype(config.dtype, device, folder.shape)
        if device.type == "cpu":
            torch.set_num_threads(config.torch_threads)
        self._device, self._dtype = device, dtype
        self.end_token_ids = folder.end_token_ids
        with torch.inference_mode():
            weights = checkpoint.load(folder, device, dtype)
            self.num_blocks = config.num_gpu_blocks_override or count_blocks(config, folder.shape, device, dtype)
            self.max_model_len = fit_model_len(config, folder.shape, self.num_blocks)
            memory = BlockMemory(folder.shape, self.num_blocks, config.block_size, device, dtype)
            self._model = LlamaModel(folder.shape, weights, memory)
            self._sampler = Sampler(folder.end_token_ids)
            self._builder = BatchBuilder(
                folder.shape,
                block_size=config.block_size,
                scratch_block=memory.scratch_block,
                max_model_len=self.max_model_len,
                device=device,
                dtype=dtype,
                padded=can_pack(device),
            )
        self._warm_up(memory.scratch_block)

    @property
    def details(self) -> dict[str, str | int | float]:
        """What was chosen, for the log and for the line that says that the server is ready."""
        dtype = str(self._dtype).removeprefix("torch.")
        return {"device": str(self._device), "dtype": dtype, "blocks": self.num_blocks, "context": self.max_model_len}

    def run(self, step: Step) -> Sampled:
        """One forward pass; a token for each of `step.sampling`, in its order. Takes as long as the step computes."""
        with torch.inference_mode():
            logits = self.logits(step)
            return Sampled([]) if logits is None else self._sampler.sample(logits, step.sampling)

    @torch.inference_mode()
    def logits(self, step: Step) -> torch.Tensor | None:
        """float32 [len(step.sampling), vocabulary]; None for an empty step."""
        if not step.num_tokens:
            return None
        logits = self._model.forward(self._builder.build(step))
        return logits[: len(step.sampling)]

    def _warm_up(self, scratch_block: int) -> None:
        """One decode into the scratch block, so that the first request doesn't pay for what PyTorch does lazily."""
        sequence = Sequence(Request(None, [0], SamplingParams(temperature=0.0)))
        sequence.block_table = [scratch_block]
        self.run(Step([sequence], []))


# ---- what the machine allows ----------------------------------------------------------------------------------------


def open_device(name: str) -> torch.device:
    """--device as a torch device. Raises `ConfigError` where a GPU is asked for and none is there."""
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():  # CUDA
        return torch.device("cuda")
    if name == "cuda":
        raise ConfigError(
            f"--device cuda: got no GPU that PyTorch {torch.__version__} can use, expected one; "
            "use --device cpu, or install a CUDA build of PyTorch and NVIDIA's driver"
        )
    return torch.device("cpu")


def choose_dtype(name: str, device: torch.device, shape: ModelShape) -> torch.dtype:
    """--dtype as a torch dtype: auto is float32 on a CPU and the model's own on a GPU."""
    if name == "auto":
        name = "float32" if device.type == "cpu" else shape.dtype
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise ConfigError(f"--dtype auto: got a model in {name}, expected one of {', '.join(dtypes)}; give --dtype")
    return dtypes[name]


def count_blocks(config: ServerConfig, shape: ModelShape, device: torch.device, dtype: torch.dtype) -> int:
    """How many blocks the KV cache gets. Raises `ConfigError` when there isn't room for one."""
    block_bytes = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * config.block_size * dtype.itemsize
    if device.type == "cuda":  # CUDA
        return _blocks_on_gpu(config, shape, block_bytes, device)
    wanted = max(1, CPU_CACHE_TOKENS // config.block_size)
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    blocks = min(wanted, available // 2 // block_bytes)
    if blocks < 1:
        raise ConfigError(
            f"the KV cache: got {available} bytes of free memory, expected {2 * block_bytes} for one block"
        )
    return blocks


def _blocks_on_gpu(config: ServerConfig, shape: ModelShape, block_bytes: int, device: torch.device) -> int:
    """CUDA, never run: what is free after the weights are loaded, less what other programs were promised.

    Each step gathers one layer's blocks, padded to at most twice their size, so a block costs (1 + 2 / layers) of
    itself; logits are kept a few times over in float32 while sampling.
    """
    free, total = torch.cuda.mem_get_info(device)
    logits = 6 * 4 * config.max_num_seqs * shape.vocab_size
    rows = 8 * config.max_num_batched_tokens * (shape.intermediate_size + shape.hidden_size) * 4
    usable = free - int((1 - config.gpu_memory_utilization) * total) - logits - rows
    blocks = int(usable / (block_bytes * (1 + 2 / shape.num_layers)))
    if blocks < 1:
        raise ConfigError(
            f"--gpu-memory-utilization: got {config.gpu_memory_utilization} with {free} of {total} bytes free, "
            "expected room for the KV cache; raise it, or end what else is on the GPU"
        )
    return blocks


def fit_model_len(config: ServerConfig, shape: ModelShape, num_blocks: int) -> int:
    """Longest sequence: the model's context, less where the KV cache or --max-model-len is smaller."""
    capacity = num_blocks * config.block_size
    asked = config.max_model_len
    if asked is None:
        return min(shape.context_length, capacity)
    if asked > shape.context_length:
        raise ConfigError(f"--max-model-len: got {asked}, expected at most {shape.context_length}, the model's context")
    if asked > capacity:
        raise ConfigError(
            f"--max-model-len: got {asked}, expected at most {capacity}, which is what the KV cache holds"
        )
    return asked

"""Choices that depend on the machine: device, dtype, number of blocks, longest sequence.

The lines marked "CUDA" run only where there is a GPU.
"""

import math
import os
from pathlib import Path

import torch

from lab_support.config import ConfigError, ServerConfig
from lab_support.control_groups import memory_left
from lab_support.engine.step import ROWS_AT_ONCE
from lab_support.model_folder import ModelFolder, ModelShape

PROC = Path("/proc")
# A CPU shares its memory with other programs, so the cache is a fixed number of tokens; it is touched only as used.
CPU_CACHE_TOKENS = 16_384
GRAPH_BYTES = 32 << 20
"""Bytes kept free per graph. 11 graphs, with the memory of cuBLAS and the kernels, took 60 to 280 MB on an H200."""


def open_device(name: str, index: int = 0) -> torch.device:
    """--device as a torch device. Raises `ConfigError` if a GPU is asked for and there is none.

    index: the engine core's. Each takes the next GPU, and "cuda" means that one in its process from then on; if there
    are more engine cores than GPUs, they share.
    """
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():  # CUDA
        torch.cuda.set_device(index % torch.cuda.device_count())
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


def check_memory(folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> None:
    """Raise `ConfigError` if the weights can't fit, before loading takes minutes or the kernel kills the process."""
    needed = dtype.itemsize * sum(math.prod(size) for size in folder.shape.tensors().values())
    available = available_memory(device)
    if needed > available:
        raise ConfigError(
            f"--model {folder.path}: got {available / 1e9:.1f} GB of free memory, expected at least {needed / 1e9:.1f} "
            f"for its weights in {str(dtype).removeprefix('torch.')}; give a smaller model or --dtype bfloat16"
        )


def available_memory(device: torch.device, proc: Path = PROC) -> int:
    """Free bytes on `device`; on a CPU at most what our control groups leave."""
    if device.type == "cuda":  # CUDA
        return torch.cuda.mem_get_info(device)[0]
    left = memory_left(proc / "self")
    return _available_on_host(proc) if left is None else min(left, _available_on_host(proc))


def _available_on_host(proc: Path) -> int:
    if (proc / "meminfo").exists():
        lines = (proc / "meminfo").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # not Linux: all memory


def count_blocks(config: ServerConfig, shape: ModelShape, device: torch.device, dtype: torch.dtype) -> int:
    """The number of blocks of the KV cache. Raises `ConfigError` if there isn't room for one."""
    block_bytes = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * config.block_size * dtype.itemsize
    if device.type == "cuda":  # CUDA
        torch.cuda.empty_cache()  # returns the memory that only loading needed
        return blocks_on_gpu(config, shape, block_bytes, *torch.cuda.mem_get_info(device))
    room = available_memory(device) // 2 // block_bytes
    if room < 1:
        raise ConfigError(
            f"--block-size: got {config.block_size}, so that one block of the KV cache takes {block_bytes} bytes, "
            "expected room for one in half of the free memory; give smaller blocks or a smaller model"
        )
    return min(room, max(1, CPU_CACHE_TOKENS // config.block_size))


def blocks_on_gpu(config: ServerConfig, shape: ModelShape, block_bytes: int, free: int, total: int) -> int:
    """The number of blocks in `free` bytes after loading, less what other programs and a step's own tensors need.

    --gpu-memory-utilization leaves a share of all memory unused by us, whether others use it or not. Each step gathers
    a copy of one layer's blocks, some of them padded, so a block costs about (1 + 2 / layers) of its size; sampling has
    several copies of the logits, in float32 and float64. Each captured graph takes memory of the driver's.
    """
    logits = 16 * 4 * max(config.max_num_seqs, ROWS_AT_ONCE // 2) * shape.vocab_size
    rows = 8 * config.max_num_batched_tokens * (shape.intermediate_size + shape.hidden_size) * 4
    graphs = 0 if config.enforce_eager else GRAPH_BYTES * len(graph_sizes(config.max_num_seqs))
    usable = free - int((1 - config.gpu_memory_utilization) * total) - logits - rows - graphs
    blocks = int(usable / (block_bytes * (1 + 2 / shape.num_layers)))
    if blocks < 1:
        raise ConfigError(
            f"--gpu-memory-utilization: got {config.gpu_memory_utilization} with {free} of {total} bytes free, "
            "expected room for the KV cache; raise it, or end other programs on the GPU"
        )
    return blocks


def graph_sizes(most: int) -> list[int]:
    """1, 2, 4, 8, 16, 24, … `most`, in larger steps from 128 on, so that at most 8 rows, or an eighth, are padding."""
    sizes, size = [1, 2, 4], 8
    while size < most:
        sizes.append(size)
        size += max(8, size // 64 * 8)
    return [size for size in sizes if size < most] + [most]

"""The longest sequence that a model, the flags and the KV cache allow."""

from lab_support.config import ConfigError, ServerConfig
from lab_support.model_folder.shape import ModelShape


def fit_model_len(config: ServerConfig, shape: ModelShape, num_blocks: int) -> int:
    """The longest sequence, in tokens: the model's context, or less if the KV cache or --max-model-len is smaller.

    Sequences longer than a model's sliding window are refused, because every row looks at all rows before it.
    """
    capacity = num_blocks * config.block_size
    asked = config.max_model_len
    _check_window(shape.sliding_window, min(shape.context_length, capacity) if asked is None else asked)
    if asked is None:
        return min(shape.context_length, capacity)
    if asked > shape.context_length:
        raise ConfigError(f"--max-model-len: got {asked}, expected at most {shape.context_length}, the model's context")
    if asked > capacity:
        raise ConfigError(f"--max-model-len: got {asked}, expected at most {capacity}, the capacity of the KV cache")
    return asked


def _check_window(window: int | None, length: int) -> None:
    if window is not None and window < length:
        raise ConfigError(
            f"--model: got a sliding_window of {window} tokens, expected none or one as long as the longest sequence, "
            f"{length}: this server has no sliding windows; give --max-model-len {window} or less"
        )

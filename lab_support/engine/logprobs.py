"""Log-probabilities of chosen tokens, their ranks, and the best tokens: computed on the device, read on the host.

A row is in float64, which holds every token id and every float32 exactly, so that all of a step goes to the host in
one copy.
"""

import torch

from lab_support.generation import TokenLogprobs


def report(raw: torch.Tensor, tokens: torch.Tensor, most: int) -> torch.Tensor:
    """float64 [rows, 2 + 2 × most]: logprob and rank of each row's token, then the best tokens and their logprobs.

    raw: log-probabilities, float32 [rows, vocabulary]; tokens: int64 [rows]. most: at most the vocabulary.
    """
    chosen = raw.gather(1, tokens.unsqueeze(1))
    ranks = (raw > chosen).sum(-1, keepdim=True) + 1
    best, best_tokens = raw.topk(min(most, raw.shape[1]))
    return torch.cat([part.double() for part in (chosen, ranks, best_tokens, best)], 1)


def read(row: list[float], count: int) -> TokenLogprobs:
    """A row of `report`, with `count` of its best tokens."""
    logprob, rank, *rest = row
    most = len(rest) // 2
    top = [(int(token), value) for token, value in zip(rest[:most], rest[most:], strict=True)]
    return TokenLogprobs(logprob, int(rank), top[:count])

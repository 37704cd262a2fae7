"""From logits to tokens, for a whole batch at once.

The order is vLLM's (v1/sample/sampler.py): logprobs from the raw logits; penalties and forbidden end tokens;
greedy rows take the best; the others: temperature, min-p, top-k, top-p, one draw. A step in which all sequences are
greedy is one argmax.
"""

import torch

from lab_support.engine.logprobs import read, report
from lab_support.engine.request import Sequence
from lab_support.engine.step import Sampled
from lab_support.engine.transfer import to_device, to_host

# Sorting 16 × 2,048 logits takes 1.4 ms on one core, finding the best 64 takes 0.04 ms, so top-p tries that first.
FEW_CANDIDATES = 64
# Below this a temperature is treated as greedy (vLLM's bound too), because dividing by it would overflow.
COLDEST = 1e-5


class Sampler:
    """Draws tokens; holds no state of its own (each sequence has its generator)."""

    def __init__(self, end_token_ids: frozenset[int]) -> None:
        self._end_token_ids = end_token_ids

    def sample(self, logits: torch.Tensor, sequences: list[Sequence]) -> Sampled:
        """One token for each row of logits (float32 [len(sequences), vocabulary], which is overwritten)."""
        if all(sequence.greedy_only for sequence in sequences):
            return Sampled(_best(logits))
        reported = [row for row, sequence in enumerate(sequences) if sequence.sampling.logprobs is not None]
        raw = logits[_rows(logits, reported)].log_softmax(-1) if reported else None
        _penalize(logits, sequences)
        self._forbid_end_tokens(logits, sequences)
        tokens = logits.argmax(-1)
        drawn = [row for row, sequence in enumerate(sequences) if sequence.random is not None]
        if drawn:
            rows = _rows(logits, drawn)
            tokens[rows] = _draw(logits[rows], [sequences[row] for row in drawn])
        if raw is None:
            return Sampled(to_host(tokens))
        return _with_logprobs(raw, tokens, sequences, reported)

    def _forbid_end_tokens(self, logits: torch.Tensor, sequences: list[Sequence]) -> None:
        """Until min_tokens, forbid the model's end tokens and the request's own stop tokens."""
        rows, tokens = [], []
        for row, sequence in enumerate(sequences):
            sampling = sequence.sampling
            if sequence.num_generated < sampling.min_tokens:
                ends = set(sampling.stop_token_ids) | (set() if sampling.ignore_eos else self._end_token_ids)
                found = [token for token in ends if token < logits.shape[1]]
                tokens += found
                rows += [row] * len(found)
        if rows:
            # Made on the device: torch copies a Python number to a GPU and waits (TensorAdvancedIndexing.cpp).
            never = torch.full((), float("-inf"), device=logits.device)
            logits.index_put_((_rows(logits, rows), _rows(logits, tokens)), never)


def _best(logits: torch.Tensor) -> list[int]:
    """The best token of each row. On a CPU by NumPy, which is faster (2 against 22 µs for 16 × 2,048)."""
    if logits.device.type == "cpu":
        return logits.numpy().argmax(-1).tolist()
    return to_host(logits.argmax(-1))


def _penalize(logits: torch.Tensor, sequences: list[Sequence]) -> None:
    """The three penalties, in place, on the rows that ask for any."""
    rows = [
        row
        for row, sequence in enumerate(sequences)
        if (s := sequence.sampling).presence_penalty or s.frequency_penalty or s.repetition_penalty != 1.0
    ]
    if not rows:
        return
    chosen = [sequences[row] for row in rows]
    prompt = _counts(logits, [sequence.token_ids[: sequence.num_prompt] for sequence in chosen])
    generated = _counts(logits, [sequence.token_ids[sequence.num_prompt :] for sequence in chosen])
    repetition = _column(logits, [sequence.sampling.repetition_penalty for sequence in chosen])
    presence = _column(logits, [sequence.sampling.presence_penalty for sequence in chosen])
    frequency = _column(logits, [sequence.sampling.frequency_penalty for sequence in chosen])
    index = _rows(logits, rows)
    penalized = logits[index]
    repeated = torch.where(penalized > 0, penalized / repetition, penalized * repetition)
    penalized = torch.where(prompt + generated > 0, repeated, penalized)
    logits[index] = penalized - frequency * generated - presence * (generated > 0)


def _counts(logits: torch.Tensor, token_lists: list[list[int]]) -> torch.Tensor:
    """[rows, vocabulary]: how often each token occurs in each list."""
    rows = [row for row, tokens in enumerate(token_lists) for _ in tokens]
    tokens = [token for tokens in token_lists for token in tokens]
    counts = torch.zeros(len(token_lists), logits.shape[1], device=logits.device)
    index = _rows(logits, rows), _rows(logits, tokens)
    return counts.index_put_(index, torch.ones((), device=logits.device), accumulate=True)


def _draw(logits: torch.Tensor, sequences: list[Sequence]) -> torch.Tensor:
    """One token a row [rows], drawn from what temperature, min-p, top-k and top-p leave."""
    settings = [sequence.sampling for sequence in sequences]
    logits = logits / _column(logits, [max(s.temperature, COLDEST) for s in settings])
    if any(s.min_p > 0 for s in settings):
        floor = logits.amax(-1, keepdim=True) + _column(logits, [s.min_p for s in settings]).log()
        logits = logits.masked_fill(logits < floor, float("-inf"))
    limited = [row for row, s in enumerate(settings) if s.top_k > 0 or s.top_p < 1]
    if limited:
        rows, chosen = _rows(logits, limited), [settings[row] for row in limited]
        logits[rows] = _keep_best(logits[rows], [s.top_k for s in chosen], [s.top_p for s in chosen])
    uniform = _column(logits, [_uniform(sequence) for sequence in sequences], torch.float64)
    return _invert(logits.softmax(-1), uniform)


def _uniform(sequence: Sequence) -> float:
    """A number in (0, 1], so that the token found by `_invert` never has probability 0. Drawn on the host, because
    a generator for each sequence on a GPU would cost a launch for each row."""
    assert sequence.random is not None
    return 1.0 - sequence.random.random()


def _invert(probabilities: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The token at which the summed probability first reaches `uniform` of its total.

    It needs one random number per row; torch.multinomial needs one per token: 20 against 510 µs for 16 × 2,048. Summed
    in float64, because the tail of a large vocabulary would be lost in rounding. If every token is forbidden, all
    probabilities are NaN, and the result is the last token rather than one that doesn't exist.
    """
    summed = probabilities.cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(summed, uniform * summed[:, -1:]).squeeze(1).clamp_(max=summed.shape[1] - 1)


def _keep_best(logits: torch.Tensor, top_k: list[int], top_p: list[float]) -> torch.Tensor:
    """logits with minus infinity for the tokens that a row's top-k cuts off, and then its top-p among the rest."""
    vocabulary = logits.shape[1]
    limit = _column(logits, [k if 0 < k < vocabulary else vocabulary for k in top_k], torch.long)
    share = _column(logits, top_p)
    enough = False
    if logits.device.type == "cpu":  # on a GPU, reading whether few were enough would be one more wait
        best, tokens = logits.topk(min(vocabulary, FEW_CANDIDATES))
        kept, all_kept = _nucleus(logits, best, limit, share)
        enough = bool(all_kept)
    if not enough:
        best, tokens = logits.sort(-1, descending=True)
        kept, _ = _nucleus(logits, best, limit, share)
    return torch.full_like(logits, float("-inf")).scatter_(1, tokens, kept)


def _nucleus(
    logits: torch.Tensor, best: torch.Tensor, limit: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`best` ([rows, candidates], best first) with minus infinity for tokens cut off, and whether it holds all that
    stay (bool [])."""
    candidates = best.shape[1]
    best = best.masked_fill(torch.arange(candidates, device=best.device) >= limit, float("-inf"))
    total = torch.where(limit <= candidates, best.logsumexp(-1, keepdim=True), logits.logsumexp(-1, keepdim=True))
    probabilities = (best - total).exp()
    summed = probabilities.cumsum(-1)
    cut = summed - probabilities >= share
    cut[:, 0] = False  # the best one always stays, even under top_p = 0
    enough = ((limit <= candidates) | (summed[:, -1:] >= share)).all()
    return best.masked_fill(cut, float("-inf")), enough


def _with_logprobs(raw: torch.Tensor, tokens: torch.Tensor, sequences: list[Sequence], reported: list[int]) -> Sampled:
    """Tokens, and `TokenLogprobs` for the rows in `reported`; raw is [len(reported), vocabulary], log-probabilities.

    Everything goes to the host in one tensor.
    """
    wanted = [sequences[row].sampling.logprobs or 0 for row in reported]
    columns = report(raw, tokens[_rows(raw, reported)], max(wanted))
    numbers = to_host(torch.cat([tokens.double(), columns.flatten()]))
    sampled = Sampled([int(number) for number in numbers[: len(sequences)]], [None] * len(sequences))
    assert sampled.logprobs is not None
    for place, (row, count) in enumerate(zip(reported, wanted, strict=True)):
        start = len(sequences) + place * columns.shape[1]
        sampled.logprobs[row] = read(numbers[start : start + columns.shape[1]], count)
    return sampled


def _rows(beside: torch.Tensor, numbers: list[int]) -> torch.Tensor:
    """int64 [len(numbers)] on a tensor's device, to index it. Given the list itself, torch would wait for its copy."""
    return to_device(numbers, torch.int64, beside.device)


def _column(logits: torch.Tensor, values: list[float] | list[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[len(values), 1] on the device of logits."""
    return to_device(values, dtype, logits.device).unsqueeze(1)

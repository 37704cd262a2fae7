"""Greedy answers of the engine, without sockets, and whether transformers would have given them."""

import random
from pathlib import Path

import torch

from lab_support.config import ServerConfig
from lab_support.engine.request import Request
from lab_support.engine.runner import Runner
from lab_support.engine.scheduler import Scheduler
from lab_support.generation import SamplingParams
from tests.engine.folders import oracle_logits

# If the two best logits differ by less than this, either token is right.
NEAR_TIE = 1e-4


def config(folder: Path, **changes) -> ServerConfig:
    return ServerConfig(**(dict(model=folder, device="cpu", num_gpu_blocks_override=256) | changes))


def prompts(count: int, vocabulary: int, longest: int = 80) -> list[list[int]]:
    rng = random.Random(count)
    return [[rng.randrange(vocabulary) for _ in range(rng.randrange(1, longest))] for _ in range(count)]


def generate(
    runner: Runner, questions: list[list[int]], max_tokens: int, sampling: SamplingParams | None = None, **sizes
) -> list[list[int]]:
    """Answers to all questions at once, greedy ones unless `sampling` says otherwise."""
    sampling = sampling or SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
    return [[token for token, _ in answer] for answer in _outputs(runner, questions, sampling, sizes)]


def generate_with_logprobs(
    runner: Runner, questions: list[list[int]], max_tokens: int, **sizes
) -> list[list[tuple[int, float]]]:
    """Greedy answers to all questions at once: each token and how likely the engine found it."""
    sampling = SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True, logprobs=0)
    return _outputs(runner, questions, sampling, sizes)


def scheduler_for(runner: Runner, **sizes) -> Scheduler:
    """One that asks for as much as the runner has, except for `sizes`."""
    usual = dict(
        block_size=16,
        num_blocks=runner.num_blocks,
        max_num_seqs=64,
        max_num_batched_tokens=512,
        max_model_len=runner.max_model_len,
        end_token_ids=runner.end_token_ids,
    )
    return Scheduler(**usual | sizes)


def _outputs(runner: Runner, questions: list[list[int]], sampling: SamplingParams, sizes: dict) -> list[list]:
    scheduler = scheduler_for(runner, **sizes)
    answers = outputs_of(scheduler, runner, questions, sampling)
    assert (scheduler.stats.preemptions > 0) == ("num_blocks" in sizes)
    return answers


def outputs_of(
    scheduler: Scheduler, runner: Runner, questions: list[list[int]], sampling: SamplingParams
) -> list[list]:
    """For each question, asked at once with all others, its tokens and how likely they are, if that was asked."""
    for number, tokens in enumerate(questions):
        scheduler.add(Request(number, tokens, sampling))
    answers: list[list] = [[] for _ in questions]
    while scheduler.has_work():
        step = scheduler.schedule()
        for output in scheduler.update(step, runner.run(step)):
            logprobs = [one.logprob for one in output.logprobs] if output.logprobs else [None] * len(output.token_ids)
            answers[output.request_id] += zip(output.token_ids, logprobs, strict=True)
    return answers


def assert_greedy(
    model, questions: list[list[int]], answers: list[list[int]], near_tie: float = NEAR_TIE
) -> list[torch.Tensor]:
    """Each token is the best by transformers' logits, or ties with it; says how many ties there were.

    Returns transformers' logits, [tokens, vocabulary] for each answer.
    """
    ties, found = 0, []
    for question, answer in zip(questions, answers, strict=True):
        found.append(oracle_logits(model, question + answer)[len(question) - 1 : -1])
        best = found[-1].topk(2)
        for token, values, tokens in zip(answer, best.values.tolist(), best.indices.tolist(), strict=True):
            tied = values[0] - values[1] < near_tie
            ties += tied
            assert token in tokens if tied else token == tokens[0]
    print(f"near-ties: {ties} of {sum(map(len, answers))} tokens")
    return found

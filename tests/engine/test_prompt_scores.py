"""Log-probabilities of prompts' own tokens equal transformers', in any chunks and in any batch."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lab_support.engine import prompt_scores
from lab_support.engine.request import Request
from lab_support.engine.runner import Runner
from lab_support.engine.scheduler import MOST_TOLD, Output, Scheduler
from lab_support.engine.step import ROWS_AT_ONCE, Sampled, Scored
from lab_support.generation import FinishReason, SamplingParams, TokenLogprobs
from tests.engine.devices import CPU, CUDA, PRETENDED, Device
from tests.engine.folders import make_folder, oracle, oracle_logits
from tests.engine.greedy import config, prompts, scheduler_for
from tests.proofs.pytests import in_full

BATCHES = {
    "all at once": {},
    "in chunks of 7 tokens": dict(max_num_batched_tokens=7),
    "preempted in the prompt": dict(num_blocks=12, max_num_batched_tokens=5, max_num_seqs=4),
}
SLOWEST = ("preempted in the prompt", PRETENDED)  # 10 s
TOP = 3


def each_on_all() -> Iterator[object]:
    for name, sizes in BATCHES.items():
        for device in (CPU, PRETENDED, CUDA):
            marks = [pytest.mark.gpu] * (device == CUDA) + [in_full] * ((name, device) == SLOWEST)
            yield pytest.param(sizes, device, id=f"{name}-{device}", marks=marks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model"))


def told(runner: Runner, questions: list[list[int]], max_tokens: int, **sizes) -> tuple[list[list[Output]], Scheduler]:
    """All outputs by question. Every second one asks for its prompt's log-probabilities."""
    scheduler = scheduler_for(runner, **sizes)
    for number, tokens in enumerate(questions):
        asked = TOP if number % 2 == 0 else None
        sampling = SamplingParams(max_tokens, temperature=0.0, ignore_eos=True, prompt_logprobs=asked)
        scheduler.add(Request(number, tokens, sampling))
    outputs: list[list[Output]] = [[] for _ in questions]
    while scheduler.has_work():
        step = scheduler.schedule()
        for output in scheduler.update(step, runner.run(step)):
            outputs[output.request_id].append(output)
    return outputs, scheduler


def of_prompt(outputs: list[Output]) -> list[TokenLogprobs]:
    """In the order in which they came, which is the prompt's; none comes after a token."""
    with_token = [index for index, output in enumerate(outputs) if output.prompt_logprobs is None]
    assert with_token == list(range(with_token[0], len(outputs)))
    return [each for output in outputs for each in output.prompt_logprobs or []]


@pytest.mark.parametrize(("sizes", "device"), list(each_on_all()), indirect=["device"])
def test_prompts_log_probabilities_are_those_of_transformers(sizes: dict, device: Device, folder: Path) -> None:
    runner = Runner(config(folder, device=device.flag, dtype="float32"))
    model = oracle(folder)
    questions = [*prompts(7, 307), [5], [*range(2, 2 + 2 * ROWS_AT_ONCE)] if "num_blocks" not in sizes else [5, 6]]
    outputs, scheduler = told(runner, questions, 50, **sizes)
    assert (scheduler.stats.preemptions > 0) == ("num_blocks" in sizes)
    for number, (question, own) in enumerate(zip(questions, outputs, strict=True)):
        assert sum(len(output.token_ids) for output in own) == 50
        found = of_prompt(own)
        assert len(found) == (len(question) - 1 if number % 2 == 0 else 0)
        expected = oracle_logits(model, question).log_softmax(-1)
        for position, entry in enumerate(found):
            row = expected[position]
            token = question[position + 1]
            assert entry.logprob == pytest.approx(row[token].item(), abs=device.near)
            assert entry.rank == pytest.approx(1 + int((row > row[token]).sum()), abs=1)
            best = row.topk(TOP).values.tolist()
            assert [value for _, value in entry.top] == pytest.approx(best, abs=device.near)


def test_no_token_is_made_where_none_is_asked_for(folder: Path) -> None:
    outputs, scheduler = told(Runner(config(folder)), [[3, 4, 5]], 0)
    assert len(of_prompt(outputs[0])) == 2
    assert outputs[0][-1] == Output(0, [], FinishReason.LENGTH, None)
    stats = scheduler.stats
    assert (stats.prompt_tokens, stats.generation_tokens, stats.running) == (3, 0, 0)
    assert stats.free_blocks == stats.total_blocks


def test_few_rows_of_logits_exist_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only the sampled ones if no request asks for them."""
    seen: list[int] = []
    report = prompt_scores.report

    def counted(raw: torch.Tensor, tokens: torch.Tensor, most: int) -> torch.Tensor:
        seen.append(raw.shape[0])
        return report(raw, tokens, most)

    monkeypatch.setattr(prompt_scores, "report", counted)
    runner = Runner(config(folder))
    long = [number % 300 for number in range(200)]
    told(runner, [long], 1)
    assert len(long) * (1 + TOP) < MOST_TOLD
    assert seen == [ROWS_AT_ONCE] * 6 + [199 - 6 * ROWS_AT_ONCE]
    seen.clear()
    told(runner, [[1], long], 1)
    assert seen == []


def test_a_step_tells_so_many_and_no_more() -> None:
    """A request for many is slow, and no other is."""
    scheduler = Scheduler(
        block_size=16, num_blocks=999, max_num_seqs=9, max_num_batched_tokens=900, max_model_len=999, end_token_ids=[]
    )
    for number, asked in enumerate((20, 20, None, 0)):
        scheduler.add(Request(number, list(range(200)), SamplingParams(1, prompt_logprobs=asked)))
    steps = []
    while scheduler.has_work():
        step = scheduler.schedule()
        steps.append({chunk.sequence.request_id: chunk.num_tokens for chunk in step.chunks})
        scored = [Scored(chunk.sequence, [TokenLogprobs(-1.0, 1, [])] * len(chunk.scored)) for chunk in step.chunks]
        scheduler.update(step, Sampled([7] * len(step.sampling), prompts=scored))
    assert steps[0] == {0: MOST_TOLD // 21, 1: 1, 2: 200, 3: 1}
    for number in range(4):
        assert sum(step.get(number, 0) for step in steps) in (199, 200), "the last token may be computed as a decode"
    told = [21 * (step.get(0, 0) + step.get(1, 0)) + step.get(3, 0) for step in steps]
    assert max(told) <= MOST_TOLD + 21 + 1


def test_an_abort_in_the_midst_of_a_prompt_is_the_end_of_it(folder: Path) -> None:
    runner = Runner(config(folder))
    scheduler = Scheduler(
        block_size=16, num_blocks=64, max_num_seqs=8, max_num_batched_tokens=8, max_model_len=512, end_token_ids=[2]
    )
    scheduler.add(Request("a", list(range(20)), SamplingParams(prompt_logprobs=0)))
    step = scheduler.schedule()
    sampled = runner.run(step)
    scheduler.abort(["a"])
    assert sampled.prompts
    assert scheduler.update(step, sampled) == []
    assert not scheduler.has_work()

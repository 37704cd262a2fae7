"""Decode steps by graphs: which sizes there are, what lies where a graph reads it, and that nothing stale is read."""

import random

import pytest
import torch

from lab_support.engine import decode_graphs
from lab_support.engine.decode_inputs import DecodeInputs
from lab_support.engine.device import graph_sizes
from lab_support.engine.request import Request, Sequence
from lab_support.engine.runner import Runner
from lab_support.generation import SamplingParams
from tests.engine.devices import ON_GPUS, PRETENDED
from tests.engine.folders import make_folder, oracle
from tests.engine.greedy import assert_greedy, config, generate, prompts
from tests.engine.pretended_gpu import pretended_gpu

SIZE, SCRATCH = 4, 99


def sequence(name: object, tokens: int, blocks: list[int]) -> Sequence:
    """One that decodes: all but its last token are computed."""
    made = Sequence(Request(name, list(range(100, 100 + tokens)), SamplingParams()))
    made.num_computed, made.block_table = tokens - 1, blocks
    return made


def inputs(most: int = 6) -> DecodeInputs:
    return DecodeInputs(most, 40, SIZE, SCRATCH, torch.device("cpu"))


def read(made: DecodeInputs, rows: int) -> list[tuple[int, int, int, list[int]]]:
    """(token, position, slot, blocks that a kernel would read) of each row."""
    token_ids, slots, decodes = made.first(rows)
    return [
        (token, position, slot, decodes.tables[: position // SIZE + 1, place].tolist())
        for token, position, slot, place in zip(
            token_ids.tolist(), decodes.positions.tolist(), slots.tolist(), decodes.table_rows.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 7, 8, 9, 64, 100, 256, 1024])
def test_every_number_of_rows_has_a_graph_and_little_padding(most):
    sizes = graph_sizes(most)
    assert sizes == sorted(set(sizes)) and sizes[-1] == most
    for rows in range(1, most + 1):
        size = next(size for size in sizes if size >= rows)
        assert size - rows < max(8, rows / 8)
    assert len(sizes) <= 40, "each takes time at the start, and memory"


def test_rows_and_padding():
    made = inputs()
    made.put([sequence("a", 3, [7]), sequence("b", 9, [5, 1, 8])], 4)
    padding = (0, 0, SCRATCH * SIZE, [SCRATCH])
    assert read(made, 4) == [(102, 2, 7 * SIZE + 2, [7]), (108, 8, 8 * SIZE, [5, 1, 8]), padding, padding]


def test_a_block_table_that_grew_moved_or_was_exchanged():
    made = inputs()
    one, other = sequence("a", 4, [7]), sequence("b", 9, [5, 1, 8])
    made.put([one, other], 2)
    one.token_ids.append(1)
    one.num_computed += 1
    one.block_table += [2]
    made.put([other, one], 2)
    assert [row[3] for row in read(made, 2)] == [[5, 1, 8], [7, 2]]
    other.block_table = [3, 4, 6]  # preempted and back: as long as before, in other blocks
    made.put([one, other], 2)
    assert [row[3] for row in read(made, 2)] == [[7, 2], [3, 4, 6]]


@pytest.mark.parametrize("seed", range(20))
def test_any_coming_and_going_reads_each_sequence_s_blocks(seed):
    """More sequences in all than there are places, so places are used again."""
    rng = random.Random(seed)
    made, live, count = inputs(5), [], 0
    for _ in range(60):
        live = [one for one in live if rng.random() < 0.9]
        while len(live) < 5 and rng.random() < 0.6:
            count += 1
            blocks = rng.randrange(1, 6)
            live.append(sequence(count, blocks * SIZE, [rng.randrange(90) for _ in range(blocks)]))
        for one in live:
            if len(one.block_table) < 9 and rng.random() < 0.3:
                one.token_ids.append(1)
                one.block_table.append(rng.randrange(90))
                one.num_computed = len(one.block_table) * SIZE - 1
                one.token_ids += [1] * (one.num_computed + 1 - len(one.token_ids))
            elif rng.random() < 0.1:
                one.block_table = [rng.randrange(90) for _ in one.block_table]
        rng.shuffle(live)
        if live:
            made.put(live, rng.randrange(len(live), 6))
            assert [row[3] for row in read(made, len(live))] == [one.block_table for one in live]


@pytest.mark.parametrize("device", ON_GPUS, indirect=True)
@pytest.mark.parametrize("most", [1, 9])
def test_batches_of_every_size_and_their_graphs(most, device, tmp_path):
    """Requests end one by one, so each number of rows occurs, and with it each graph, filled and with padding."""
    folder = make_folder(tmp_path)
    runner, questions = (
        Runner(config(folder, device=device.flag, dtype="float32", max_num_seqs=most)),
        prompts(9, 307, 20),
    )
    answers = generate(runner, questions, 5, max_num_seqs=most)
    assert_greedy(oracle(folder), questions, answers, device.near)


@pytest.mark.parametrize("device", ON_GPUS, indirect=True)
def test_a_step_of_decodes_is_one_graph(device, tmp_path, monkeypatch):
    """Counted: after the start no kernel is launched by itself in a step without prompts."""
    runner = Runner(config(make_folder(tmp_path), device=device.flag, dtype="float32"))
    forwards: list[int] = []
    forward = runner._model.forward
    monkeypatch.setattr(runner._model, "forward", lambda batch: forwards.append(len(batch.token_ids)) or forward(batch))
    generate(runner, [[1, 2, 3]], 6)
    decodes = 0 if device.name != PRETENDED else 5
    assert len(forwards) == 1 + decodes, "the prompt, and what a pretended graph computes each time"


@pytest.mark.parametrize("device", ON_GPUS, indirect=True)
def test_enforce_eager_records_no_graph_and_changes_no_token(device, tmp_path, monkeypatch):
    folder, questions = make_folder(tmp_path), prompts(4, 307)
    recorded: list[object] = []
    monkeypatch.setattr(decode_graphs, "_record", lambda *what: recorded.append(what))
    runner = Runner(config(folder, device=device.flag, dtype="float32", enforce_eager=True))
    assert not recorded
    assert_greedy(oracle(folder), questions, generate(runner, questions, 8), device.near)


@pytest.mark.parametrize("device", [PRETENDED], indirect=True)
def test_a_gpu_without_a_compiler_computes_all_the_same(device, tmp_path, caplog):
    """Triton needs one; without it everything is plain PyTorch, as it was before there were kernels."""
    folder, questions = make_folder(tmp_path), prompts(4, 307)
    with pretended_gpu(kernels=False):
        runner = Runner(config(folder, device=device.flag, dtype="float32"))
        answers = generate(runner, questions, 5)
    assert_greedy(oracle(folder), questions, answers)

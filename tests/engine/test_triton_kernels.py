"""The Triton kernels against plain PyTorch: by Triton's interpreter on a CPU, compiled on a GPU.

The interpreter (TRITON_INTERPRET=1) runs each program in NumPy: it shows what a kernel computes, not how fast, and it
does not show races.
"""

import importlib.util
import random
from dataclasses import dataclass
from types import ModuleType

import numpy
import pytest
import torch

from lab_support.engine import runner
from lab_support.engine.kernels import DecodeRows
from tests.engine.devices import CPU, ON_REAL, Device
from tests.engine.folders import make_folder, oracle
from tests.engine.greedy import assert_greedy, config, generate, prompts
from tests.engine.plain_kernels import PlainKernels

ERROR = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
SHAPES = [  # query heads, key-value heads, head dim, dtype
    (1, 1, 16, torch.float32),
    (2, 1, 24, torch.float32),
    (4, 2, 64, torch.float32),
    (8, 1, 80, torch.bfloat16),
    (9, 3, 64, torch.bfloat16),
    (6, 2, 128, torch.float16),
    (8, 2, 128, torch.bfloat16),
    (32, 1, 64, torch.bfloat16),
]
LENGTHS = {
    "one token": [1],
    "around a block": [15, 16, 17],
    "around a tile": [63, 64, 65, 127, 129],
    "far apart": [1, 700, 33, 5, 512],
}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton, which comes with PyTorch's CUDA wheels alone"
)


@pytest.fixture
def triton_kernels(device: Device, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if device.name == CPU:
        from triton import knobs

        if not knobs.runtime.interpret:
            pytest.skip("needs TRITON_INTERPRET=1 before triton is imported (conftest.py sets it where no GPU is)")
        _mend_interpreter(monkeypatch)
    return importlib.import_module("lab_support.engine.triton_kernels")


def _mend_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two faults of Triton 3.6's: it reads a loop's bounds with int(array of one number), which NumPy 2.4 refuses, and
    multiplies the bits of bfloat16 matrices as if they were integers."""
    import triton.language as tl
    from triton.runtime import interpreter

    patch, dot = interpreter._patch_lang_tensor, interpreter.InterpreterBuilder.create_dot

    def patched(tensor, scope) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    def widened(matrix):
        if matrix.data.dtype != numpy.uint16:
            return matrix
        return interpreter.TensorHandle((matrix.data.astype(numpy.uint32) << 16).view(numpy.float32), tl.float32)

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patched)
    monkeypatch.setattr(
        interpreter.InterpreterBuilder, "create_dot", lambda self, a, b, *rest: dot(self, widened(a), widened(b), *rest)
    )


@dataclass
class Case:
    """Random queries, and a KV cache in which the sequences' blocks lie in any order."""

    qkv: torch.Tensor
    layer: torch.Tensor
    rows: DecodeRows
    slots: torch.Tensor
    rotations: torch.Tensor
    block_size: int


def make_case(
    device: Device, lengths: list[int], heads: int, kv_heads: int, head_dim: int, dtype, block_size=16
) -> Case:
    rng = random.Random(len(lengths) * head_dim + heads)
    torch.manual_seed(0)
    columns = -(-max(lengths) // block_size)
    blocks = list(range(sum(-(-length // block_size) for length in lengths) + 3))
    rng.shuffle(blocks)
    places = rng.sample(range(len(lengths) + 3), len(lengths))
    tables = torch.full((columns + 1, len(lengths) + 4), -(10**6), dtype=torch.int32)  # an address that nobody may read
    slots = []
    for place, length in zip(places, lengths, strict=True):
        mine = [blocks.pop() for _ in range(-(-length // block_size))]
        tables[: len(mine), place] = torch.tensor(mine, dtype=torch.int32)
        slots.append(mine[-1] * block_size + (length - 1) % block_size)
    total = sum(-(-length // block_size) for length in lengths) + 3
    angles = torch.rand(max(lengths), 1, head_dim // 2) * 6

    def there(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device.torch)

    def integers(numbers: list[int]) -> torch.Tensor:
        return there(torch.tensor(numbers, dtype=torch.int32))

    return Case(
        there(torch.randn(len(lengths), heads + 2 * kv_heads, head_dim).to(dtype)),
        there(torch.randn(2 * kv_heads, total, block_size * head_dim).to(dtype)),
        DecodeRows(integers([length - 1 for length in lengths]), integers(places), there(tables)),
        integers(slots),
        there(torch.polar(torch.ones_like(angles), angles)),
        block_size,
    )


def masked(case: Case) -> DecodeRows:
    """The same rows for the oracle, which looks at every column: blocks that are not there are block 0."""
    return DecodeRows(case.rows.positions, case.rows.table_rows, case.rows.tables.clamp(min=0))


def assert_near(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    torch.testing.assert_close(found.float(), expected.float(), atol=ERROR[dtype], rtol=ERROR[dtype])


def assert_attends(kernels, case: Case, dtype: torch.dtype) -> None:
    expected = PlainKernels().attend(case.qkv, case.layer, masked(case), case.block_size)
    found = kernels.attend(case.qkv, case.layer, case.rows, case.block_size)
    assert found.dtype == dtype and found.shape == expected.shape
    assert_near(found, expected, dtype)


@pytest.mark.parametrize("device", ON_REAL, indirect=True)
@pytest.mark.parametrize("num_programs", [1, 24], ids=["whole", "split"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=list(LENGTHS))
def test_attention_reads_each_sequence_s_own_blocks(lengths, num_programs, device, triton_kernels):
    """With few programs each row is one program's, otherwise shared by several, some without any token."""
    kernels = triton_kernels.TritonKernels(num_programs)
    assert_attends(kernels, make_case(device, lengths, 4, 2, 64, torch.bfloat16), torch.bfloat16)


@pytest.mark.parametrize("device", ON_REAL, indirect=True)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "dtype"), SHAPES)
def test_attention_of_every_shape(heads, kv_heads, head_dim, dtype, device, triton_kernels):
    case = make_case(device, [1, 100, 17], heads, kv_heads, head_dim, dtype)
    assert_attends(triton_kernels.TritonKernels(12), case, dtype)


@pytest.mark.parametrize("device", ON_REAL, indirect=True)
@pytest.mark.parametrize("block_size", [1, 16, 48])
def test_attention_over_blocks_of_every_size(block_size, device, triton_kernels):
    case = make_case(device, [40, 300], 4, 2, 32, torch.float32, block_size)
    assert_attends(triton_kernels.TritonKernels(12), case, torch.float32)


@pytest.mark.parametrize("device", ON_REAL, indirect=True)
def test_attention_over_thousands_of_tokens(device, triton_kernels):
    case = make_case(device, [4096, 2999], 4, 1, 128, torch.bfloat16)
    assert_attends(triton_kernels.TritonKernels(), case, torch.bfloat16)


@pytest.mark.parametrize("device", ON_REAL, indirect=True)
@pytest.mark.parametrize(("heads", "kv_heads", "head_dim", "dtype"), SHAPES)
def test_rotation_and_what_is_written(heads, kv_heads, head_dim, dtype, device, triton_kernels):
    """Queries are rotated, values untouched, and of the KV cache only the rows' own slots change."""
    case = make_case(device, [1, 100, 17], heads, kv_heads, head_dim, dtype)
    queries, layers = [], []
    for kernels in (PlainKernels(), triton_kernels.TritonKernels()):
        qkv, layer = case.qkv.clone(), case.layer.clone()
        kernels.rotate_and_write(qkv, layer, case.rotations, case.rows.positions, case.slots)
        queries.append(qkv[:, :heads])
        layers.append(layer)
    assert_near(queries[1], queries[0], dtype)
    assert_near(layers[1], layers[0], dtype)
    assert not torch.equal(layers[1], case.layer)
    changed = (layers[1] != case.layer).view(2 * kv_heads, -1, head_dim).any(-1).any(0).nonzero().flatten()
    assert set(changed.tolist()) == set(case.slots.tolist())


@pytest.mark.parametrize("device", ON_REAL, indirect=True)
@pytest.mark.parametrize("dtype", ERROR, ids=str)
@pytest.mark.parametrize("inner", [2, 688, 3000])
def test_the_gate(inner, dtype, device, triton_kernels):
    gate_up = device.put(torch.randn(5, 2 * inner).to(dtype) * 4)
    assert_near(triton_kernels.TritonKernels().gate(gate_up), PlainKernels().gate(gate_up), dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
def test_a_layer_of_more_numbers_than_32_bits_count(device, triton_kernels):
    """The model in the box has 2.6 million blocks on a GPU: 2.6 · 10⁹ numbers lie between one head and the next."""
    head_dim, blocks = 64, (1 << 31) // (16 * 64) + 100
    if torch.cuda.mem_get_info()[0] < 3 * 4 * blocks * 16 * head_dim:
        pytest.skip("needs 26 GB of the GPU's memory")
    layer = torch.zeros(4, blocks, 16 * head_dim, dtype=torch.bfloat16, device="cuda")
    case = make_case(device, [20, 40], 4, 2, head_dim, torch.bfloat16)
    last = blocks - 1 - case.rows.tables[:3].clamp(min=0)
    small = torch.zeros_like(case.layer)
    rows = DecodeRows(case.rows.positions, case.rows.table_rows, last.int().contiguous())
    slots = (blocks - 1 - case.slots // 16) * 16 + case.slots % 16
    kernels, qkv = triton_kernels.TritonKernels(), case.qkv.clone()
    kernels.rotate_and_write(case.qkv, small, case.rotations, case.rows.positions, case.slots)
    kernels.rotate_and_write(qkv, layer, case.rotations, case.rows.positions, slots.int())
    expected = kernels.attend(case.qkv, small, case.rows, 16)
    torch.testing.assert_close(kernels.attend(qkv, layer, rows, 16), expected, atol=0, rtol=0)


# ---- the whole engine over them --------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [CPU], indirect=True)
def test_the_engine_computes_with_them_what_transformers_does(triton_kernels, tmp_path, monkeypatch):
    """On a CPU, so by the interpreter: a few steps of a small model, mixed ones and padded ones among them."""
    monkeypatch.setattr(runner, "open_kernels", lambda device: triton_kernels.TritonKernels(8))
    folder = make_folder(tmp_path, initializer_range=0.5)
    engine, questions = runner.Runner(config(folder, max_num_seqs=6)), prompts(3, 307, 40)
    answers = generate(engine, questions, 4, max_num_batched_tokens=25)
    assert_greedy(oracle(folder), questions, answers)

"""Every way to compute a linear layer against float64."""

import os
import subprocess
import sys

import pytest
import torch

from lab_support.engine.linear import (
    HalfLinear,
    LinearKind,
    PackedLinear,
    PlainLinear,
    choose,
    fits_half,
    make,
    pad_rows,
)


def random_weight(outputs: int = 48, inputs: int = 32, std: float = 0.05) -> torch.Tensor:
    """As a bfloat16 checkpoint has them, in float32."""
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(1)) * std
    return weight.bfloat16().float()


@pytest.mark.parametrize("rows", [1, 2, 3, 16, 100])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("kind", LinearKind)
def test_products_and_sums(kind, biased, rows):
    weight, x = random_weight(), torch.randn(rows, 32, generator=torch.Generator().manual_seed(2))
    bias = torch.arange(48.0) if biased else None
    residual = torch.randn(rows, 48)
    expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    with torch.inference_mode():
        layer = make(kind, weight, bias)
        before = residual.clone()
        torch.testing.assert_close(layer(x).double(), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(layer.add_to(residual, x).double(), before.double() + expected, atol=1e-5, rtol=0)


def test_each_kind_has_its_class():
    kinds = [type(make(kind, random_weight(), None)) for kind in LinearKind]
    assert kinds == [PlainLinear, PackedLinear, HalfLinear]


def test_ordinary_weights_fit_in_16_bits():
    assert all(fits_half(random_weight(256, 256, std)) for std in (1.0, 0.05, 0.005))
    assert fits_half(torch.zeros(4, 4))


@pytest.mark.parametrize("size", [1e5, 1e38, 1e-7, 1e-30])
def test_a_weight_that_float16_cannot_hold_is_computed_the_plain_way(size):
    """A large one would be cut off at 65504, a whole column of tiny ones would be rounded away."""
    weight = random_weight()
    weight[:, 3] = torch.tensor(size).bfloat16().float() * torch.linspace(0.5, 1, 48).bfloat16().float()
    x = torch.zeros(2, 32)
    x[:, 3] = 1.0
    layer = make(LinearKind.HALF, weight, None)
    torch.testing.assert_close(layer(x), x @ weight.T, rtol=1e-6, atol=0)


def test_16_bits_only_where_the_checkpoint_has_no_more():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert choose(cpu, torch.float32, from_16_bits=False) is not LinearKind.HALF
    assert choose(cpu, torch.bfloat16, from_16_bits=True) is not LinearKind.HALF
    assert choose(gpu, torch.float32, from_16_bits=True) is LinearKind.PLAIN


def test_on_a_cpu_without_avx_512_16_bits_are_computed_the_plain_way():
    """oneDNN refuses to pack them there. It reads its environment once, so the other CPU is pretended to a process."""
    program = """
import torch
from lab_support.engine.linear import choose, make
for dtype in (torch.bfloat16, torch.float16):
    kind = choose(torch.device("cpu"), dtype, from_16_bits=True)
    print(kind.name, make(kind, torch.ones(8, 8, dtype=dtype), None)(torch.ones(1, 8, dtype=dtype)).sum().item())
"""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["PLAIN 64.0"] * 2, done.stderr


def test_rows_are_padded_to_few_counts():
    counts = {pad_rows(rows) for rows in range(1, 513)}
    assert all(pad_rows(rows) >= rows for rows in range(1, 2000))
    assert len(counts) <= 24, "oneDNN compiles for each, at about 3 MB"
    assert pad_rows(513) == 768

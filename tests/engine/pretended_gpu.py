"""A stand-in for a GPU: tensors of another device, computed on the CPU, by which every crossing and wait shows.

So the code for a GPU runs here: without the device, but by its rules. Mixing a tensor of the host with one of the
device is an error, as on a GPU; operations that would wait for the device are listed in `waits`. A GPU's speed,
rounding and memory are not simulated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from lab_support.engine import runner
from tests.engine.plain_kernels import PlainKernels

aten = torch.ops.aten
DEVICE = torch.device("meta")  # the one other device whose name a CPU build of torch lets pass
# Operators that read a result in order to go on, and so wait for it.
WAITING = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default,
    aten.is_nonzero.default, aten.unique_dim.default, aten._unique2.default,
}  # fmt: skip
MATH = 0  # torch.nn.attention.SDPBackend.MATH: the one way to compute attention that needs no kernel of a GPU's


class OnDevice(torch.Tensor):
    """A tensor of the pretended GPU. `inner` holds its numbers, on the CPU."""

    inner: torch.Tensor  # type: ignore[assignment]  # TensorBase has a method of this name

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE,
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise AssertionError(f"{function} outside of a PretendedGpu")


class PretendedGpu(TorchDispatchMode):
    """While it is entered, everything for "cuda" happens as said above. waits: what waited, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self._pinned: list[torch.Tensor] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd"):
            with self:  # under inference_mode what is made of other operators comes here in one piece
                return function.decompose(*args, **kwargs)
        if function is aten._pin_memory.default:
            self._pinned.append(args[0].clone())
            return self._pinned[-1]
        if function in (aten._to_copy.default, aten.copy_.default):
            return self._copy(function, args, kwargs)
        tensors = _tensors((args, kwargs))
        there = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        makes = kwargs.get("device") is not None and torch.device(kwargs["device"]) == DEVICE
        if not there and not makes:
            return function(*args, **kwargs)
        strangers = [tensor for tensor in tensors if not isinstance(tensor, OnDevice) and tensor.dim()]
        assert not strangers, f"{function}: a tensor of the host beside one of the device"
        if function in WAITING:
            self.waits.append(str(function))
        if function is aten._fused_sdp_choice.default:
            return MATH
        return self._compute(function, args, kwargs)

    def _copy(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """From one side to the other, or within one."""
        wanted = kwargs.get("device")
        source = args[1] if function is aten.copy_.default else args[0]
        if function is aten.copy_.default:
            to_device = isinstance(args[0], OnDevice)
        else:
            to_device = torch.device(wanted) == DEVICE if wanted is not None else isinstance(source, OnDevice)
        if to_device != isinstance(source, OnDevice):
            non_blocking = kwargs.get("non_blocking") or (function is aten.copy_.default and len(args) > 2 and args[2])
            if not (to_device and non_blocking and self._is_pinned(source)):
                self.waits.append("copy to the device" if to_device else "copy to the host")
        if not to_device:
            return function(*tree_map(_inner, args), **_on_cpu(tree_map(_inner, kwargs)))
        return self._compute(function, args, kwargs)

    def _is_pinned(self, source: torch.Tensor) -> bool:
        return any(source.untyped_storage().data_ptr() == one.untyped_storage().data_ptr() for one in self._pinned)

    def _compute(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """On the CPU; the result is the device's, and a tensor that was changed in place stays itself."""
        known = {id(tensor.inner): tensor for tensor in _tensors((args, kwargs)) if isinstance(tensor, OnDevice)}
        result = function(*tree_map(_inner, args), **_on_cpu(tree_map(_inner, kwargs)))
        return tree_map(lambda one: known.get(id(one), _wrap(one)), result)


def _tensors(tree: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    tree_map(lambda one: found.append(one) if isinstance(one, torch.Tensor) else None, tree)
    return found


def _inner(one: Any) -> Any:
    return one.inner if isinstance(one, OnDevice) else one


def _wrap(one: Any) -> Any:
    return OnDevice(one) if isinstance(one, torch.Tensor) and not isinstance(one, OnDevice) else one


def _on_cpu(kwargs: dict[str, Any]) -> dict[str, Any]:
    return kwargs | ({"device": torch.device("cpu")} if kwargs.get("device") is not None else {})


class HostGenerator(torch.Generator):
    """The pretended GPU's random numbers are the CPU's."""

    def __new__(cls, device: object = None) -> "HostGenerator":
        return super().__new__(cls, device="cpu")  # type: ignore[call-arg]


@contextmanager
def pretended_gpu(kernels: bool = True) -> Iterator[PretendedGpu]:
    """Within it, `--device cuda` opens the pretended GPU, with or without kernels; a graph of its is just computed."""
    with pytest.MonkeyPatch.context() as patch, PretendedGpu() as gpu:
        patch.setattr(runner, "open_device", lambda name, index: DEVICE)
        patch.setattr(runner, "open_kernels", lambda device: PlainKernels() if kernels else None)
        patch.setattr(torch, "Generator", HostGenerator)
        yield gpu

"""5. Take torch's guard away in a forked child of a CUDA parent: an error, a hang or a crash?

In each case a fresh parent does a first operation, puts a tensor of 1s on the device and forks one child. The threads
and stacks of a hanging child are recorded. Samples: `parent`, `forked child`, `parent afterwards`.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch

from lab_support.experiments.child import in_forked_child
from lab_support.experiments.first_operation import first_operation, guard
from lab_support.experiments.program import attempt, emit, exit_code, run_cases, start

CHILD_SECONDS = 15.0


def bypass(*, as_new: bool) -> None:
    """Runs in the child. as_new: also make torch initialise CUDA again."""
    torch.cuda._is_in_bad_fork = lambda: False
    if as_new:
        torch.cuda._initialized = False


def tries(device: str, tensor: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """The child's action, by case."""

    def after(action: Callable[[], Any], *, as_new: bool = False) -> Callable[[], Any]:
        def bypassed() -> Any:
            bypass(as_new=as_new)
            return action()

        return bypassed

    synchronize = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    return {
        "guard in place": lambda: first_operation(device),
        "first operation": after(lambda: first_operation(device)),
        "first operation, initialised again": after(lambda: first_operation(device), as_new=True),
        "read the parent's tensor": after(lambda: tensor.sum().item()),
        "write the parent's tensor": after(lambda: tensor.add_(1).sum().item()),
        "copy the parent's tensor to the host": after(lambda: tensor.cpu()[0].item()),
        "synchronise": after(synchronize),
        "guard in place, read the parent's tensor": lambda: tensor.sum().item(),
    }


def main() -> int:
    options = start(__doc__ or "")
    if options.case:
        return run_case(options.case, options.device)
    names = tries("cpu", torch.ones(1))
    seconds = options.seconds - 5
    ended = run_cases("lab_support.experiments.guard_bypassed", {case: {} for case in names}, options, seconds)
    return exit_code(ended)


def run_case(case: str, device: str) -> int:
    tensor = torch.ones(1024, device=device)
    emit("parent", **attempt(lambda: tensor.sum().item()), guard=guard())
    emit("forked child", **in_forked_child(tries(device, tensor)[case], CHILD_SECONDS, native_stacks=True))
    emit("parent afterwards", tensor=attempt(lambda: tensor.sum().item()), **attempt(lambda: first_operation(device)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

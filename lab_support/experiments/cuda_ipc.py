"""7. A CUDA tensor through a queue to another process: what travels, and who must stay alive?

Cases: a spawned receiver (same bytes, a write seen on the other side, the handle's size, memory on both sides); a
forked receiver; a sender that ends before its tensor is fetched, and one that ends after that but before the receiver.
Samples: `sender`, `receiver`, `sender sees`, `handle`, `receiver after the sender`, `case ended` with what was written
to stderr.
"""

import ctypes
import hashlib
import sys
from multiprocessing.queues import Queue
from typing import Any

import torch
import torch.multiprocessing as torch_multiprocessing

from lab_support.experiments.gpu_memory import look, open_gpu_memory
from lab_support.experiments.program import attempt, emit, exit_code, run_cases, start

COUNT = 1 << 20  # int32 elements: 4 MiB
WAIT = 40.0
MODULE = "lab_support.experiments.cuda_ipc"
CASES = ("spawned receiver", "forked receiver", "sender ends before the fetch", "sender ends after the fetch")


def main() -> int:
    options = start(__doc__ or "")
    if not options.case:
        return exit_code(run_cases(MODULE, {case: {} for case in CASES}, options, options.seconds - 5))
    if options.case.startswith("sender ends"):
        sender_ends_first(options.case, options.device)
    else:
        to_a_receiver("spawn" if options.case.startswith("spawned") else "fork", options.device)
    return 0


def facts(tensor: torch.Tensor) -> dict[str, Any]:
    """The hash of the bytes, and this process's memory by torch and by the driver."""
    here = tensor.cpu()  # without numpy, which torch does not require
    found: dict[str, Any] = {"sha256": hashlib.sha256(ctypes.string_at(here.data_ptr(), here.nbytes)).hexdigest()}
    if tensor.device.type == "cuda":
        found |= {"allocated": torch.cuda.memory_allocated(), "reserved": torch.cuda.memory_reserved()}
    return found | {"gpu": look(open_gpu_memory(tensor.device.type))}


# ---- a receiver by spawn or fork -------------------------------------------------------------------------------------


def to_a_receiver(method: str, device: str) -> None:
    tensor = torch.arange(COUNT, dtype=torch.int32, device=device)
    emit("sender", method=method, **facts(tensor))
    context = torch_multiprocessing.get_context(method)
    there, back = context.Queue(), context.Queue()
    process = context.Process(  # type: ignore[attr-defined]
        target=receive_and_write, args=(there, back)
    )
    process.start()
    there.put(tensor)
    emit("receiver", method=method, **attempt(lambda: back.get(timeout=WAIT)))
    emit("sender sees", **attempt(lambda: {"first": tensor[0].item(), "last": tensor[-1].item(), **facts(tensor)}))
    there.put("leave")
    process.join(10)
    if process.is_alive():
        process.kill()
        process.join(5)
    emit("receiver left", exit_code=process.exitcode, **facts(tensor))
    # With another tensor, and last, because asking shares the tensor, and a shared one waits for a receiver.
    emit("handle", **attempt(lambda: handle_facts(torch.zeros(COUNT, device=device))))


def handle_facts(tensor: torch.Tensor) -> dict[str, Any]:
    """The sizes of the parts that torch would send; sends nothing. Empty on a CPU."""
    if tensor.device.type != "cuda":
        return {}
    names = ("device", "handle", "size", "offset", "counter_file", "counter_offset", "event", "event_sync")
    parts = tensor.untyped_storage()._share_cuda_()
    return {
        name: {"bytes": len(part)} if isinstance(part, bytes) else part for name, part in zip(names, parts, strict=True)
    }


def receive_and_write(there: "Queue[Any]", back: "Queue[Any]") -> None:
    """Runs in the receiver: fetch, hash, add 1 to each element, report, and stay until told to leave."""

    def receive() -> tuple[torch.Tensor, dict[str, Any]]:
        tensor = there.get(timeout=WAIT)
        found = facts(tensor)
        tensor.add_(1)
        if tensor.device.type == "cuda":
            torch.cuda.synchronize()
        return tensor, found

    outcome = attempt(receive)
    tensor, outcome["value"] = outcome.get("value") or (None, None)
    back.put(outcome)
    attempt(lambda: there.get(timeout=10))
    del tensor


# ---- a sender that leaves --------------------------------------------------------------------------------------------


def sender_ends_first(case: str, device: str) -> None:
    context = torch_multiprocessing.get_context("spawn")
    there, fetched = context.Queue(), context.Event()
    after_fetch = case.endswith("after the fetch")
    process = context.Process(target=send_and_leave, args=(there, fetched, after_fetch, device))
    process.start()
    held: list[torch.Tensor] = []

    def fetch(wait: float) -> dict[str, Any]:
        held.append(there.get(timeout=wait))
        return facts(held[0])

    if after_fetch:
        emit("receiver", **attempt(lambda: fetch(WAIT)))
        fetched.set()
    process.join(WAIT)
    emit("sender left", exit_code=process.exitcode)
    if not after_fetch:
        emit("receiver", **attempt(lambda: fetch(10)))
    emit("receiver after the sender", **attempt(lambda: facts(held[0])))


def send_and_leave(there: "Queue[Any]", fetched: Any, after_fetch: bool, device: str) -> None:
    """Runs in the sender. The process ends only after its queue's thread has written everything."""
    tensor = torch.arange(COUNT, dtype=torch.int32, device=device)
    emit("sender", **facts(tensor))
    there.put(tensor)
    if after_fetch:
        fetched.wait(WAIT)


if __name__ == "__main__":
    sys.exit(main())

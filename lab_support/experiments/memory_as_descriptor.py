"""8. GPU memory as a descriptor: can another process map it, as it could map a file?

One process makes memory with the driver's virtual memory API, exports it as a POSIX file descriptor and sends that over
a Unix socket (SCM_RIGHTS). This one receives, imports and maps it, reads, writes, and uses it after the maker was
killed. No torch. Samples: `call` (every call with its code), `descriptor`, `bytes`, `memory`.
"""

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab_support.experiments.cuda.cuda_declarations import HAS_POSIX_DESCRIPTORS, HAS_VIRTUAL_MEMORY
from lab_support.experiments.cuda.cuda_driver import Answer, Driver
from lab_support.experiments.gpu_memory import GpuMemory, look, open_gpu_memory
from lab_support.experiments.program import MIB, attempt, emit, start

WANTED_BYTES = 256 * MIB
PATTERN_BYTES = 4 * MIB
WAIT = 30.0
MODULE = "lab_support.experiments.memory_as_descriptor"


class CallFailed(RuntimeError):
    """A driver call answered with a code other than 0; its sample has the code."""


class Side:
    """One of the two processes: its driver. Each answer is recorded as a sample."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.driver = Driver()

    def must(self, answer: Answer) -> int:
        """The answer's value. Raises `CallFailed`."""
        emit("call", side=self.name, answer=answer)
        if not answer.ok:
            raise CallFailed(f"{answer.call}: {answer.code} {answer.name}")
        return answer.value or 0

    def open_device(self) -> None:
        self.must(self.driver.init())
        self.must(self.driver.retain_primary_context())
        for attribute in (HAS_VIRTUAL_MEMORY, HAS_POSIX_DESCRIPTORS):
            emit("call", side=self.name, attribute=attribute, answer=self.driver.attribute(attribute))

    def map(self, handle: int, size: int) -> int:
        """Map the memory of `handle`; returns its address in this process, readable and writable."""
        address = self.must(self.driver.reserve_addresses(size))
        self.must(self.driver.map_memory(address, size, handle))
        self.must(self.driver.allow_access(address, size))
        return address

    def read(self, address: int) -> str:
        answer, data = self.driver.copy_out(address, PATTERN_BYTES)
        self.must(answer)
        return hashlib.sha256(data).hexdigest()

    def write(self, address: int, seed: int) -> str:
        data = random.Random(seed).randbytes(PATTERN_BYTES)
        self.must(self.driver.copy_in(address, data))
        return hashlib.sha256(data).hexdigest()


def main() -> int:
    options = start(__doc__ or "", socket=-1)
    if options.case == "maker":
        return be_the_maker(socket.socket(fileno=options.socket))
    ours, theirs = socket.socketpair()
    # Start the maker before this process touches CUDA: afterwards exec would be safe, fork alone would not.
    command = [sys.executable, "-m", MODULE, "--case", "maker", "--socket", str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL) as maker:
        theirs.close()
        try:
            with ours:
                ours.settimeout(WAIT)
                be_the_receiver(ours, maker, open_gpu_memory(options.device))
        finally:
            maker.kill()
    return 0


# ---- the maker -------------------------------------------------------------------------------------------------------


def be_the_maker(channel: socket.socket) -> int:
    """Make memory, send its descriptor, report the bytes after the other side has written, wait to be killed."""
    side = Side("maker")
    side.open_device()
    granularity = side.must(side.driver.granularity())
    size = -(-WANTED_BYTES // granularity) * granularity
    handle = side.must(side.driver.create_memory(size))
    address = side.map(handle, size)
    written = side.write(address, seed=1)
    descriptor = side.must(side.driver.export_memory(handle))
    emit("descriptor", side="maker", **about(descriptor), granularity=granularity, size=size)
    socket.send_fds(channel, [json.dumps({"size": size, "sha256": written}).encode()], [descriptor])
    channel.recv(1)
    side.must(side.driver.synchronize())
    channel.send(side.read(address).encode())
    channel.recv(1)
    return 1


def about(descriptor: int) -> dict[str, Any]:
    """The kernel's name and facts of the descriptor."""
    status, info = os.fstat(descriptor), Path(f"/proc/self/fdinfo/{descriptor}")
    return {
        "target": os.readlink(f"/proc/self/fd/{descriptor}"),
        "inode": status.st_ino,
        "mode": oct(status.st_mode),
        "size_by_fstat": status.st_size,
        "fdinfo": attempt(info.read_text),
    }


# ---- the receiver ----------------------------------------------------------------------------------------------------


def be_the_receiver(channel: socket.socket, maker: "subprocess.Popen[bytes]", memory: GpuMemory) -> None:
    emit("memory", when="before", gpu=look(memory))
    message, descriptors, _, _ = socket.recv_fds(channel, 4096, 1)
    if not descriptors:
        raise CallFailed("the maker ended without sending a descriptor; its own samples say why")
    sent, descriptor = json.loads(message), descriptors[0]
    emit("descriptor", side="receiver", **about(descriptor))
    emit("memory", when="made, not imported", gpu=look(memory))
    side = Side("receiver")
    side.open_device()
    emit("memory", when="a second context", gpu=look(memory))
    handle = side.must(side.driver.import_memory(descriptor))
    address = side.map(handle, sent["size"])
    emit("memory", when="imported and mapped", gpu=look(memory))
    emit("bytes", who="receiver", sees=side.read(address), written=sent["sha256"])
    written = side.write(address, seed=2)
    side.must(side.driver.synchronize())
    channel.send(b"!")
    emit("bytes", who="maker", sees=channel.recv(64).decode(), written=written)
    outlive(side, maker, memory, address, written)
    let_go(side, memory, address, sent["size"], handle, descriptor)


def outlive(side: Side, maker: "subprocess.Popen[bytes]", memory: GpuMemory, address: int, written: str) -> None:
    """Kill the maker and check whether the memory is still there."""
    maker.kill()
    emit("maker killed", signal=signal.Signals(-maker.wait()).name, gpu=look(memory))
    emit("bytes", who="receiver, after the maker's end", sees=side.read(address), written=written)


def let_go(side: Side, memory: GpuMemory, address: int, size: int, handle: int, descriptor: int) -> None:
    """Drop one hold after another: with which is the memory freed?"""
    side.must(side.driver.unmap_memory(address, size))
    emit("memory", when="unmapped", gpu=look(memory))
    side.must(side.driver.release_memory(handle))
    emit("memory", when="handle released", gpu=look(memory))
    os.close(descriptor)
    emit("memory", when="descriptor closed", gpu=look(memory))


if __name__ == "__main__":
    sys.exit(main())

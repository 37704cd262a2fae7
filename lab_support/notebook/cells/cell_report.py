"""The report of a cell's supervisor to the kernel. Runs in the supervisor; standard library only."""

import json
import os
import select
from typing import Any

_WRITTEN_AT_ONCE = 1 << 16  # bytes
HELD_BACK = 4 << 20  # bytes of report that may wait for the kernel; beyond that, the script has to wait too


class Report:
    """JSON lines to the kernel. Never blocks; lines are kept until the pipe takes them."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        os.set_inheritable(descriptor, False)  # the kernel passed it to this process, not to the script
        self.descriptor = descriptor
        self.waiting = bytearray()

    def tell(self, kind: str, **fields: Any) -> None:
        self.waiting += json.dumps({"kind": kind, **fields}).encode() + b"\n"
        self.push()

    def push(self) -> None:
        try:
            while self.waiting:
                del self.waiting[: os.write(self.descriptor, self.waiting[:_WRITTEN_AT_ONCE])]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # the kernel is gone; its pidfd ends this process
            self.waiting.clear()

    def finish(self, kernel: int) -> None:
        """Wait until the kernel has taken all, or is gone."""
        while self.waiting:
            if kernel in select.select([kernel], [self.descriptor], [])[0]:
                return
            self.push()

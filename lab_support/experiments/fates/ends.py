"""Ends of processes, each with its time: the kernel makes a pidfd readable at that moment."""

import os
import select
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Self


class Ends:
    """Waits for them in a thread of its own. A context manager.

    pids: by name. at: time.monotonic() of each end. codes: exit codes, negative for a signal, of orphans that became
    this process's children.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.pids = dict(pids)
        self.at: dict[str, float] = {}
        self.codes: dict[str, int] = {}
        self._names = {os.pidfd_open(pid): name for name, pid in pids.items()}
        self._closed, self._close = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="ends")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._close)
        self._thread.join()
        for descriptor in (*self._names, self._closed):
            os.close(descriptor)

    @property
    def running(self) -> list[str]:
        return [name for name in self.pids if name not in self.at]

    def _watch(self) -> None:
        waiting = select.poll()
        for descriptor in (*self._names, self._closed):
            waiting.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in waiting.poll():
                if descriptor == self._closed:
                    return
                waiting.unregister(descriptor)
                self._note(self._names[descriptor], descriptor)

    def _note(self, name: str, descriptor: int) -> None:
        now = time.monotonic()
        if name != "launcher":
            with suppress(ChildProcessError):  # its own parent waits for it
                if found := os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG):
                    by_signal = found.si_code != os.CLD_EXITED
                    self.codes[name] = -found.si_status if by_signal else found.si_status
        self.at[name] = now

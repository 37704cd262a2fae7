"""Real kernels, as JupyterLab and nbclient start them, for tests that need one."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

KERNEL = "LAB_TEST_KERNEL"  # environment variable: another kernel to test, by name
LOAD = "%load_ext lab_support.notebook"


class Kernel:
    """A kernel that knows `%%python_process`."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Also again, after `close`."""
        self.manager = KernelManager(kernel_name=os.environ.get(KERNEL, "python3"))
        self.manager.start_kernel()
        self.client = self._connect()

    def _connect(self) -> BlockingKernelClient:
        client = self.manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        return client

    @property
    def pid(self) -> int:
        return self.manager.provisioner.process.pid

    def run(self, code: str, timeout: float = 60) -> tuple[str, str]:
        """(what it printed and returned, the error's text or "")."""
        self.client.execute(code)
        shown, error = "", ""
        while (message := self.client.get_iopub_msg(timeout=timeout))["content"].get("execution_state") != "idle":
            content = message["content"]
            if message["msg_type"] == "stream":
                shown += content["text"]
            elif message["msg_type"] == "execute_result":
                shown += content["data"]["text/plain"]
            elif message["msg_type"] == "error":
                error = "\n".join(content["traceback"])
        self.client.get_shell_msg(timeout=timeout)
        return shown, error

    def run_until(self, code: str, word: str, timeout: float = 20) -> str:
        """Start `code` and return the line with `word`; it goes on running."""
        self.client.execute(code)
        deadline, shown = time.monotonic() + timeout, ""
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except Empty:
                continue
            shown += message["content"].get("text", "") + "\n".join(message["content"].get("traceback", []))
            for line in shown.splitlines():
                if word in line:
                    return line
        raise AssertionError(f"got {shown!r}")

    def await_idle(self, timeout: float = 30) -> str:
        """Wait for the running cell to end; the name of the error that it ended with, or ""."""
        error = ""
        while (message := self.client.get_iopub_msg(timeout=timeout))["content"].get("execution_state") != "idle":
            error = message["content"].get("ename", error)
        return error

    def reconnect(self) -> None:
        self.client.stop_channels()
        self.client = self._connect()

    def close(self) -> None:
        with suppress(Empty):
            while self.client.get_iopub_msg(timeout=0):
                pass
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self.client.context.destroy()


@contextmanager
def running_kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    try:
        kernel.run(LOAD)
        yield kernel
    finally:
        kernel.close()

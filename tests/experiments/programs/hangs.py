"""Writes a sample, starts a child that waits indefinitely, and waits indefinitely itself."""

import subprocess
import sys
import threading

from lab_support.experiments.program import emit


def wait_for_ever() -> None:
    held.acquire()


emit("before the hang")
held = threading.Lock()
held.acquire()
subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
wait_for_ever()

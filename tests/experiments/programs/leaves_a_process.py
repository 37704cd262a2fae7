"""Ends well, and leaves behind a process in a session of its own."""

import subprocess
import sys

from lab_support.experiments.program import emit

stray = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
emit("left", pid=stray.pid)
stray.returncode = 0  # so that Popen's own destructor is silent

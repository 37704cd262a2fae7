"""Writes two samples, from itself and from a forked child, and some output with paths in it."""

import os
import sys
import tempfile

from lab_support.experiments.program import emit, start

options = start("")
emit("parent", asked=options.seconds, visible=os.environ["CUDA_VISIBLE_DEVICES"])
if os.fork() == 0:
    emit("child", group=os.getpgrp() == os.getppid())
    os._exit(0)
os.wait()
print("ran", __file__, sys.executable, tempfile.gettempdir())

"""vLLM's engine core in the place of ours: starts it, shakes hands with it, and sees that nothing of it is left.

Runs as:     lab:engine-0; below it vLLM's own processes, `… serve FOLDER --headless` and its children, whose lines in
             the log begin with `(MainProcess pid=…)`, `(EngineCore pid=…)` and `(Worker pid=…)`
Started by:  launcher, by --start-method, under --engine-core vllm
Receives:    Addresses from the launcher; HELLO and READY from vLLM's engine core, over TCP on loopback
Sends:       the addresses to vLLM's engine core; Hello, Ready, Fatal to the launcher. Requests and tokens go past it,
             between the API servers and vLLM's engine core
Holds:       the handshake's socket until vLLM's engine core is ready; vLLM's processes, as their reaper
Dies when:   SIGTERM (sent once the API servers are gone; vLLM gets it, too), launcher gone, the end of vLLM's first
             process. That one gets SIGTERM by the kernel whenever this process ends, and ends its children
"""

import ctypes
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from lab_support.boundary.lifeline import ExitCode, describe_exit
from lab_support.boundary.messages import Addresses, Fatal, FromLauncher, Hello, Ready, decoder, encode
from lab_support.boundary.start_method import start_tied
from lab_support.boundary.vllm.handshake import Handshake
from lab_support.config import ConfigError, ServerConfig
from lab_support.log import set_up_log
from lab_support.supervision import vllm_python
from lab_support.tracing.trace import Trace

log = logging.getLogger("lab.engine")

PATIENCE = 3  # seconds that vLLM gets to end after SIGTERM: it kills its own children at once, and unloads for long
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def main(name: str, trace: Trace, control: Connection, config: ServerConfig, index: int) -> int:
    """Returns only once every process of vLLM's has ended and has been waited for."""
    set_up_log(config.log_level, name)
    trace.milestone("HELLO")
    control.send_bytes(encode(Hello()))
    addresses = decoder(FromLauncher).decode(control.recv_bytes())
    assert isinstance(addresses, Addresses), addresses
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of vLLM's become children of this process
    program = Program()
    try:
        ready, why = serve(addresses, program, control, config, trace)
    except (ConfigError, OSError) as error:
        control.send_bytes(encode(Fatal(name, f"vLLM's engine core can't be started: {error}", ExitCode.REFUSED)))
        return ExitCode.REFUSED
    except Exception as error:
        log.exception("the watch over vLLM's engine core failed")
        control.send_bytes(encode(Fatal(name, f"{type(error).__name__}: {error}")))
        return ExitCode.FAILED
    if program.told_to_end:
        return ExitCode.STOPPED
    control.send_bytes(encode(Fatal(name, f"vLLM's engine core {'' if ready else 'never got ready: it '}{why}")))
    return ExitCode.FAILED


def serve(
    addresses: Addresses, program: "Program", control: Connection, config: ServerConfig, trace: Trace
) -> tuple[bool, str]:
    """Start vLLM's engine core, and wait for its end: whether it had been ready, and how it ended. Raises `OSError`."""
    with Handshake(addresses) as handshake:
        program.start(config, handshake.port, os.path.dirname(addresses.inputs[0].removeprefix("ipc://")))
        ready = await_ready(handshake, program, trace)
    if ready:
        where = {"device": "vLLM's engine core", "dtype": config.dtype}
        control.send_bytes(encode(Ready({**where, "pid": program.pid})))
    return ready, program.wait()


def await_ready(handshake: Handshake, program: "Program", trace: Trace) -> bool:
    """False: it ended first."""
    while status := handshake.said([program.pidfd]):
        trace.milestone(f"vLLM's {status}")
        log.info("vLLM's engine core says %s", status)
        if status == "READY":
            return True
    return False


class Program:
    """vLLM's first process, and the group of all that it starts. Used by the main thread only."""

    def __init__(self) -> None:
        self.pid = 0
        self.pidfd = -1
        self.told_to_end = False

    def start(self, config: ServerConfig, port: int, directory: str) -> None:
        """directory: for its files and sockets. Raises `OSError`."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGALRM, self._on_late)
        environment = vllm_python.environment(config, directory, dict(os.environ))
        self.pid = start_tied(vllm_python.command(config, port), environment)
        self.pidfd = os.pidfd_open(self.pid)
        if self.told_to_end:  # before there was a process to be told
            self._on_sigterm()

    def _on_sigterm(self, *_: object) -> None:
        self.told_to_end = True
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            signal.alarm(PATIENCE)

    def _on_late(self, *_: object) -> None:
        log.warning("vLLM did not end within %d s of SIGTERM, and is killed", PATIENCE)
        self._kill()

    def wait(self) -> str:
        """Wait until its first process has ended, kill what that has left, wait for all. How it ended, in words."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        code = 0
        while True:
            self._kill()  # the ended process is not waited for yet, so the group's number is nobody else's
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return describe_exit(code)
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)

    def _kill(self) -> None:
        for pid in members(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def members(group: int) -> Iterator[int]:
    """The living processes of a process group, but for Python's resource trackers: each removes the shared memory that
    the killed ones have left, and then ends by itself."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, found = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(found) == group and state != "Z" and b"resource_tracker" not in (entry / "cmdline").read_bytes():
                yield int(entry.name)

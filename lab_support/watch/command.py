"""`lab watch PID|URL`: a page on loopback that shows a server while it works. See `page.html` for what it shows.

This file is the command. `sampler.py` looks, `hub.py` hands out, `site.py` serves, `door.py` decides who may come in.
It changes nothing, unless `--allow-signals` lets the page's buttons do so. Linux only.
"""

import argparse
import ctypes
import os
import select
import signal
import sys
from contextlib import closing, suppress
from types import FrameType
from typing import Any, NoReturn

from lab_support.api_key import ApiKeyError, find_api_keys
from lab_support.instruments.proc import NotLinux
from lab_support.watch.buttons import Clients, Signals
from lab_support.watch.engine_figures import EngineFigures, EngineWatch
from lab_support.watch.hub import Hub
from lab_support.watch.sampler import Sampler
from lab_support.watch.site import Act, Site
from lab_support.watch.target import NoTarget, Target, find_target

_NO_URL = "the engine cores' figures come from /metrics: give `lab watch` the server's URL in place of its pid"
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_FAREWELL = 0.5  # seconds for the tabs to be told that it is over


def add_watch_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `lab watch`."""
    parser.description = "Serve a page on this machine that shows a server, ours or any other, while it works."
    parser.add_argument("server", metavar="PID|URL", help="the first process, or http://127.0.0.1:PORT of the server")
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        metavar="INT",
        help="of the page (default: 0, a free one); over ssh, forward the same number",
    )
    parser.add_argument(
        "--allow-signals", action="store_true", help="give the page buttons that send signals and start clients"
    )
    parser.add_argument(
        "--api-key-file", metavar="FILE", help="the server's key, for its /metrics (or LAB_API_KEY, VLLM_API_KEY)"
    )


def run_watch_command(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, or until the server and all tabs are gone. Returns the exit code.

    Runs in `lab watch`'s process, which ends with the shell that started it.
    """
    _end_with_the_parent()
    try:
        key = next(iter(find_api_keys([], arguments.api_key_file, os.environ)), None)
        target = find_target(arguments.server)
        watch = Watch(target, key, arguments.port, allow_signals=arguments.allow_signals)
    except (ApiKeyError, NoTarget, NotLinux, OSError, OverflowError) as error:
        print(f"lab watch: {error}", file=sys.stderr)
        return 1
    with closing(watch):
        print(f"Watching {target.name} ({target.root.pid}). Ctrl-C ends this, and not the server.")
        print("Its page may send signals." if arguments.allow_signals else "It only reads.")
        watch.start()
        return watch.wait()


class Watch:
    """The sampler, the page's server and what belongs to them, for one target. `close` ends all."""

    def __init__(self, target: Target, key: str | None, port: int, *, allow_signals: bool) -> None:
        self._target, self._hub = target, Hub()
        self._running = select.poll()
        self._pidfd = os.pidfd_open(target.root.pid)
        self._running.register(self._pidfd, select.POLLIN)
        self._engines = EngineWatch(target.url, key, self._hub.await_tabs) if target.url else None
        self._sampler = Sampler(target.root, self._hub, self._more, self._engines.ours if self._engines else tuple)
        self._clients = Clients(target.url, key, self._sampler.tell) if target.url and allow_signals else None
        facts = {"name": target.name, "pid": target.root.pid, "url": target.url, "signals": allow_signals}
        self._wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._running.register(self._wakes[0], select.POLLIN)
        self._site = Site(port, self._hub, facts, self._acts() if allow_signals else {}, self._offer)

    def start(self) -> None:
        """Listen, and print the address. Called in the main thread.

        A signal may be delivered to any thread. Its handler runs in the main one, which a byte in this pipe wakes.
        """
        signal.set_wakeup_fd(self._wakes[1], warn_on_full_buffer=False)
        self._sampler.start()
        if self._engines:
            self._engines.start()
        self._site.start()
        self._offer()

    def wait(self) -> int:
        """Until the server has ended and no tab is open; returns 0. A signal's handler raises here."""
        while self._pidfd not in dict(self._running.poll()):
            with suppress(BlockingIOError):
                os.read(self._wakes[0], 4096)
        print(f"{self._target.name} ({self._target.root.pid}) has ended.")
        self._hub.await_no_tabs()
        return 0

    def close(self) -> None:
        """Tell the tabs, and stop listening. Open streams end with the process. Further signals are ignored."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._hub.close("`lab watch` was ended. This is its last picture.")
        self._hub.await_no_tabs(_FAREWELL)
        if self._clients:
            self._clients.close()
        if self._site.started:  # otherwise shutdown() would wait for ever
            self._site.shutdown()
        self._site.server_close()
        signal.set_wakeup_fd(-1)
        for descriptor in (self._pidfd, *self._wakes):
            os.close(descriptor)

    def _offer(self) -> None:
        """A token is good once, so there is a new address as soon as one was used."""
        print(f"Open this in a browser, once: {self._site.door.address()}", flush=True)

    def _more(self) -> dict[str, Any]:
        figures = self._engines.figures if self._engines else EngineFigures(reason=_NO_URL)
        return {"engine_figures": figures.as_data()}

    def _acts(self) -> dict[str, Act]:
        acts: dict[str, Act] = {"signal": Signals(lambda: self._sampler.look, self._sampler.tell).send}
        if self._clients:
            acts["clients"] = self._clients.start
        return acts


def _end_with_the_parent() -> None:
    """A watcher must not outlive its terminal: neither after SIGHUP, nor where the shell was killed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)

# ruff: noqa: RUF009 (flag() makes dataclass fields)
"""The plan of a load: how often to ask, how long, with which requests. It is checked before anything is sent."""

import argparse
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lab_support.flags import as_flag, flag
from lab_support.instruments.load.workload import LengthRange, WorkloadError, length_range
from lab_support.plural import counted


def _lengths(text: str) -> LengthRange:
    """Raises `ArgumentTypeError`, which argparse turns into a sentence about the flag."""
    try:
        return length_range(text)
    except WorkloadError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Load:
    """The plan of a load. Checked when made: raises `WorkloadError`.

    Without `rate` and `trace` it is a closed loop of `clients`. It is bounded in count (`requests`) and in
    time: nothing is sent after `duration` seconds, and each request takes at most `timeout` seconds.
    """

    url: str
    clients: int = flag(8, "closed loop: number of clients, each with one request at a time", group="arrivals")
    rate: float | None = flag(None, "open loop: requests a second, at random (Poisson)", type=float, group="arrivals")
    trace: Path | None = flag(
        None, "open loop: file of arrival times in seconds, one a line", type=Path, metavar="FILE", group="arrivals"
    )
    requests: int = flag(100, "most requests to send", group="arrivals")
    duration: float = flag(30.0, "seconds after which no new request is sent", group="arrivals")
    timeout: float = flag(30.0, "most seconds for one request", group="arrivals")

    prompts: Path | None = flag(
        None,
        "file or folder of prompts in JSON lines; data/prompts by default",
        type=Path,
        metavar="FILE",
        group="requests",
    )
    prompt_words: LengthRange | None = flag(
        None,
        "make up prompts of so many words instead: 10 or 5-200",
        type=_lengths,
        metavar="LENGTHS",
        group="requests",
    )
    output_tokens: LengthRange | None = flag(
        None,
        "max_tokens instead of the prompts' own: 16 or 4-64",
        type=_lengths,
        metavar="LENGTHS",
        group="requests",
    )
    ignore_eos: bool = flag(False, "ask the server to generate the full length, past end tokens", group="requests")
    temperature: float | None = flag(
        None, "sampling temperature; by default the server's own", type=float, group="requests"
    )
    model: str | None = flag(None, "model name to send; none is sent by default", group="requests")
    hangup_share: float = flag(0.0, "share of requests that hang up early, 0 to 1", group="requests")
    stream: bool = flag(True, "ask for streamed answers (server-sent events)", group="requests")
    keep_alive: bool = flag(
        True, "reuse connections; with --no-keep-alive each request opens its own", group="requests"
    )
    api_key: str | None = flag(
        None,
        "send `Authorization: Bearer KEY`; other users can read it in the process table; to hide it, use LAB_API_KEY "
        "or VLLM_API_KEY in the environment",
        metavar="KEY",
        group="requests",
    )
    seed: int = flag(0, "the same seed gives the same requests at the same times", group="requests")

    def __post_init__(self) -> None:
        address_of(self.url)
        if not (self.api_key or "").isascii() or not (self.api_key or "").isprintable():
            raise WorkloadError("--api-key: got characters that a header can't carry, expected printable ASCII")
        for name in ("clients", "rate", "requests", "duration", "timeout"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise WorkloadError(f"{as_flag(name)}: got {value}, expected more than 0")
        if not 0 <= self.hangup_share <= 1:
            raise WorkloadError(f"--hangup-share: got {self.hangup_share}, expected 0 to 1")
        if self.rate is not None and self.trace is not None:
            raise WorkloadError("--rate and --trace: got both, expected one of them")

    @property
    def open_loop(self) -> bool:
        return self.rate is not None or self.trace is not None

    @property
    def description(self) -> str:
        """The arrivals of requests, in words."""
        if self.rate is not None:
            return f"open loop, {self.rate:g} requests/s (Poisson)"
        if self.trace is not None:
            return f"open loop, trace {self.trace.name}"
        return f"closed loop, {counted(self.clients, 'client')}"


def address_of(url: str) -> tuple[str, int]:
    """(host, port) of `url`. Raises `WorkloadError` for anything but plain HTTP on this machine's loopback."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
    except ValueError as error:
        raise WorkloadError(f"{url}: {error}, expected such as http://127.0.0.1:8000") from error
    host = parts.hostname or ""
    if parts.scheme != "http":
        raise WorkloadError(f"{url}: got {parts.scheme}, expected http:// and a loopback address")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
        port = parts.port or 80
    except ValueError:
        loopback, port = False, 0
    if not loopback or not port:
        raise WorkloadError(
            f"{url}: got the host {host or 'nothing'}, expected 127.0.0.1, ::1 or localhost with a port. "
            "This load generator only asks servers on its own machine: start the server here, or run it there."
        )
    return host, port

"""The process to watch, from a pid or a URL on this machine. Runs in the process of `lab watch`."""

import ipaddress
import urllib.parse
from dataclasses import dataclass

from lab_support.instruments import proc
from lab_support.instruments.proc import Identity
from lab_support.instruments.process_name import short_name

_MOST_DIGITS = 10  # of a pid


class NoTarget(LookupError):
    """There is no such process, or none that listens there. The text says what to give."""


@dataclass(frozen=True, slots=True)
class Target:
    """The first process of a server. url: for questions by HTTP, None if a pid was given."""

    root: Identity
    name: str
    url: str | None


def find_target(given: str) -> Target:
    """The process `given` by pid, or the first process of the tree that listens at a URL. Raises `NoTarget`."""
    if given.isascii() and given.isdigit() and len(given) < _MOST_DIGITS:
        process = proc.read_process(int(given))
        if process is None or process.ended:
            raise NoTarget(f"got pid {given}, expected a running process: `ps -ef` lists them")
        return Target(process.identity, short_name(process), None)
    url, port = _url_and_port(given)
    holders = {holder.process.pid: holder.process for holder in proc.holders_of_listening_socket(port)}
    if not holders:
        raise NoTarget(f"got {given}, expected the URL of a server on this machine: no process of yours listens there")
    # The first one holds the socket of its descendants: a launcher, a master. Of several servers it is the oldest.
    first = [process for process in holders.values() if process.parent_pid not in holders]
    root = min(first, key=lambda process: process.identity.start_ticks)
    return Target(root.identity, short_name(root), f"http://{url.netloc.rpartition('@')[2]}")


def _url_and_port(given: str) -> tuple[urllib.parse.SplitResult, int]:
    """No name but localhost is looked up: a server elsewhere has no processes here, and must not be sent a key."""
    try:
        url = urllib.parse.urlsplit(given if "://" in given else f"http://{given}")
        port, host = url.port or 80, url.hostname or ""
    except ValueError as error:
        raise NoTarget(f"got {given!r}, expected a pid or a URL like http://127.0.0.1:8000 ({error})") from None
    if url.scheme != "http" or not (host == "localhost" or _is_loopback(host)):
        raise NoTarget(f"got {given!r}, expected a pid, or http:// and an address of this machine, such as 127.0.0.1")
    return url, port


def _is_loopback(host: str) -> bool:
    """Of an address in digits; a name such as 127.example.org is none."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""The kernel's limits on this user's processes, checked before the first one starts: descriptors, threads, files.

A library that hits one of these limits later ends its process with an obscure error: libzmq aborts, Python says "can't
start new thread". So the launcher compares the limits with the least that a server needs, and refuses with a sentence
that names the limit; `lab doctor` prints the same sentences beforehand.

The figures are counted from servers that have just become ready (`tests/server/limits/test_limits.py` counts again),
and leave room for one replaced API server and for a few connections. With many clients more is needed. So a low soft
limit on descriptors is raised as far as the hard one allows, which any process may do; the children inherit it.
"""

import logging
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import suppress

from lab_support.config import ConfigError, ServerConfig
from lab_support.metric_files import metric_files

log = logging.getLogger("lab.launcher")

ENOUGH = 65536  # descriptors; with millions, programs that try every possible number become slow
_CONNECTIONS = 16  # of clients to one API server, at least
_SPARE = 16  # descriptors of an API server for files that it opens for a moment: its metrics, its log
_ON_A_GPU = 64  # descriptors that NVIDIA's driver opens in an engine core, by a wide margin
_SMALL_STACK = 128 * 1024  # bytes; of threads that do nothing


def raise_limits(config: ServerConfig) -> None:
    """Raise the limits as far as allowed. Raises `ConfigError` if that is less than this server needs."""
    _raise_descriptors()
    for shortfall in _shortfalls(config, descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        raise ConfigError(shortfall)


def shortfalls(config: ServerConfig) -> list[str]:
    """The reasons why such a server, started by this process, would refuse to start; a sentence each, [] if none.

    Changes nothing, but makes threads for a moment.
    """
    return list(_shortfalls(config, descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _shortfalls(config: ServerConfig, *, descriptors: int) -> Iterator[str]:
    """descriptors: how many a process may have once the soft limit has been raised."""
    yield from _too_few_descriptors(descriptors, descriptors_needed(config), config)
    yield from _too_small_files(max(metric_files(config).values()))
    yield from _too_few_threads(threads_needed(config))


def descriptors_needed(config: ServerConfig) -> int:
    """The descriptors needed by the process that needs most of them."""
    servers, engines = config.api_server_count, config.data_parallel_size
    launcher = 28 + 8 * servers + 4 * engines
    api_server = 38 + 2 * servers + 2 * engines + 2 * (engines > 1) + _CONNECTIONS + _SPARE
    engine_core = 18 + 8 * servers + _ON_A_GPU * _may_use_a_gpu(config)
    return max(launcher, api_server, engine_core)


def threads_needed(config: ServerConfig) -> int:
    """The threads of all processes together, main threads included, but not the launcher's."""
    engines = config.data_parallel_size
    coordinator, tracker, fork_server = 4 * (engines > 1), 1, 1
    return 5 * config.api_server_count + engines * (5 + 2 * config.torch_threads) + coordinator + tracker + fork_server


def _may_use_a_gpu(config: ServerConfig) -> bool:
    return config.device in ("auto", "cuda") and os.path.exists("/dev/nvidiactl")


def _raise_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < goal:
        with suppress(OSError, ValueError):  # macOS has a further limit behind this one
            resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
            log.info("open files: raised the limit from %d to %d for this server's processes", soft, goal)


def _too_few_descriptors(got: int, least: int, config: ServerConfig) -> Iterator[str]:
    if got != resource.RLIM_INFINITY and got < least:
        yield (
            f"open files: got a limit of {got} for each process, expected at least {least} for {config.processes}; "
            f"raise the hard limit to that or more (`ulimit -n {least}`)"
        )


def _too_small_files(least: int) -> Iterator[str]:
    got = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if got != resource.RLIM_INFINITY and got < least:
        yield (
            f"file size: got a limit of {got} bytes, expected at least {least} for the metrics; raise it (`ulimit -f`)"
        )


def _too_few_threads(least: int) -> Iterator[str]:
    room = _room_for_threads(least)
    if room < least:
        yield (
            f"processes and threads: got room for {room} more, expected at least {least}; "
            "raise the limit (`ulimit -u`, or pids.max of the control group)"
        )


def _room_for_threads(most: int) -> int:
    """The number of further threads, at most `most`, that the kernel allows, counted by making them for a moment.

    Several limits apply (the user's, those of control groups), and only the kernel knows all of them.
    """
    release, made = threading.Event(), []
    usual = threading.stack_size(_SMALL_STACK)
    try:
        for _ in range(most):
            thread = threading.Thread(target=release.wait, daemon=True)
            thread.start()
            made.append(thread)
    except RuntimeError:
        pass  # no more: the count is the answer
    finally:
        threading.stack_size(usual)
        release.set()
        for thread in made:
            thread.join()
    return len(made)

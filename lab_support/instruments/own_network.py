"""A network namespace for this process alone, where a setting can be tried without changing the machine's.

Needs root, or user namespaces that an ordinary user may create. Linux only.

Taught in: 04_who_gets_the_next_connection
"""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_SETTINGS = Path("/proc/sys/net/ipv4")


def own_network(**settings: int) -> str:
    """Move this process, and all that it starts from now on, into a new network namespace with its own loopback.

    settings: of net.ipv4, such as `tcp_migrate_req=1`. Returns "", or the reason for a failure; steps before it are not
    undone. Call it while the process has one thread only.
    """
    user, group = os.getuid(), os.getgid()
    if (refused := _unshare(_CLONE_NEWNET)) and (refused := _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)):
        return f"unshare: {refused}; a network of its own needs root or user namespaces"
    try:
        if os.getuid() != user:  # a new user namespace has no users until uid_map and gid_map are written
            for name, line in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
                Path("/proc/self", name).write_text(line)
        _loopback_up()
        for name, value in settings.items():
            (_SETTINGS / name).write_text(str(value))
    except OSError as error:
        return f"{error.filename or 'loopback'}: {error.strerror}"
    return ""


def _unshare(flags: int) -> str:
    """The error, or "". Python 3.12 and later have os.unshare for this."""
    libc = ctypes.CDLL(None, use_errno=True)
    return os.strerror(ctypes.get_errno()) if libc.unshare(flags) else ""


def _loopback_up() -> None:
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))

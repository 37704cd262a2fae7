"""One process of a server, in the form that figures and tables take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoleView:
    """One process of a server at one moment. Memory in MB (10⁶ bytes); parent is a role, or "".

    socket_numbers: its descriptor numbers of the server's listening socket; socket_inode: that kernel
    object's number, 0 if it holds none. maps_torch: whether a libtorch library is mapped in it.
    """

    role: str
    pid: int
    parent: str
    title: str
    threads: int
    resident_mb: float
    proportional_mb: float
    private_mb: float
    maps_torch: bool
    libraries: int
    socket_numbers: tuple[int, ...]
    socket_inode: int
    queued: int

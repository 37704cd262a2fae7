"""What breaks the claims of notebook 07: for each, its experiment with the effect taken away."""

from lab_support.notebook.moves.blanks import blank, filled
from lab_support.notebook.moves.exercises import cell, changed
from lab_support.notebook.moves.verdicts import broken_claim

RACE, WAYS = cell("07", "race"), blank("07.b1").reference

# ---- 07.1 ------------------------------------------------------------------------------------------------------------

_NEW_PORTS = changed(RACE, "create_server((host, port))", "create_server((host, 0))")

# ---- 07.2 ------------------------------------------------------------------------------------------------------------

_BOUND_ANEW = filled(blank("07.b1").skeleton, ("sock.listen()", "receiver.setsockopt(zmq.LINGER, 0)"))
_DEAF = filled(blank("07.b1").skeleton, ("sock.setblocking(False)", "receiver.setsockopt(zmq.USE_FD, sock.fileno())"))

BROKEN_CLAIMS = (
    broken_claim(
        "07.1",
        "One launcher at a time loses no start, four at once lose some, and sixteen lose several times as many",
        RACE,
        _NEW_PORTS,
    ),
    broken_claim("07.2", "Of the ways that never let go of an address, none loses a start", WAYS, _BOUND_ANEW),
    broken_claim(
        "07.2",
        "A client of the passed socket is connected before the child runs, and answered by the child",
        WAYS,
        _DEAF,
    ),
)

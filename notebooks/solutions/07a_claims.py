"""The claims of appendix 07a, each with an experiment in which it is false."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left
from lab_support.notebook.moves.verdicts import broken_claim

ROUTED, FULL, WEIGHED = (cell("07a", name) for name in ("routed", "full", "weighed"))
SCORED, REFUSED, RECEIVED = (blank(f"07a.b{number}").reference for number in (1, 2, 3))

# ---- a second engine core

_NOBODY_HANGS = changed(ROUTED, "        cores.stop(0)\n", "")
_COUNTS_IN_BOTH = changed(
    ROUTED, "lambda client, in_flight: client % 2", "lambda client, in_flight: in_flight.index(min(in_flight))"
)
_IN_TURN_IN_BOTH = changed(ROUTED, "in_flight.index(min(in_flight))", "client % 2")
_COUNTS_ITS_OWN = changed(
    SCORED, "lambda published, in_flight: published,", "lambda published, in_flight: in_flight + published,"
)

# ---- nobody reads

_OTHER_SOCKETS = changed(
    FULL,
    '("DEALER", zmq.DEALER, zmq.DEALER, (zmq.SNDHWM, 1000), 0)',
    '("DEALER", zmq.DEALER, zmq.DEALER, (zmq.SNDHWM, 0), 0)',
    "zmq.DEALER, zmq.DEALER, (zmq.SNDHWM, 1000), zmq.NOBLOCK",
    "zmq.DEALER, zmq.DEALER, (zmq.SNDHWM, 0), zmq.NOBLOCK",
    '"DEALER, high-water mark 0", zmq.DEALER, zmq.DEALER, (zmq.SNDHWM, 0)',
    '"DEALER, high-water mark 0", zmq.DEALER, zmq.DEALER, (zmq.SNDHWM, 1000)',
    '"ROUTER", zmq.ROUTER, zmq.DEALER, (zmq.SNDHWM, 1000)',
    '"ROUTER", zmq.ROUTER, zmq.DEALER, (zmq.SNDHWM, 0)',
    "(zmq.ROUTER_MANDATORY, 1)",
    "(zmq.SNDHWM, 1000)",
    "zmq.XPUB, zmq.XSUB, (zmq.SNDHWM, 1000)",
    "zmq.XPUB, zmq.XSUB, (zmq.SNDHWM, 0)",
)
_DROPS = changed(REFUSED, "zmq.ROUTER_MANDATORY", "zmq.ROUTER_HANDOVER")

# ---- messages

_IN_LETTERS = changed(WEIGHED, "pickle.dumps, pickle.loads", "lambda it: pickle.dumps(it, 0), pickle.loads")
_MSGSPEC_TWICE = changed(WEIGHED, '("pickle", pickle.dumps, pickle.loads)', '("pickle", encode, read)')
_HARMLESS = changed(RECEIVED, 'return os.mkdir, (f"{folder}/made by the receiver",)', 'return str, ("nothing",)')
_ANYTHING = changed(RECEIVED, "decode(frame, type=Abort)", "decode(frame)")


def _waiting(result: ProcessResult, way: str) -> list[int]:
    return list(result.by("way")[way]["waiting"])


def _of_row(row: str, option: str) -> BrokenClaim:
    return BrokenClaim(f"{row}: {option}", FULL, _OTHER_SOCKETS, lambda result: _fate(result, row) == option)


def _fate(result: ProcessResult, row: str) -> str:
    seen = result.by("row")[row]
    if seen["stopped"]:
        return "it waits" if seen["waited"] else "it gets an error"
    kept = seen["arrived"] == seen["sent"]
    return f"it goes on, and {'all arrive later' if kept else 'most are lost'}"


def _loses_nothing(result: ProcessResult) -> bool:
    told = result.told
    return bool(told["served"] > told["taken"] == told["answered"] and told["full"] > 0)


BROKEN_CLAIMS = (
    BrokenClaim(
        "In turn, half of the clients go to the core that hangs",
        ROUTED,
        _COUNTS_IN_BOTH,
        lambda result: sum(_waiting(result, "in turn")) == 20,
    ),
    BrokenClaim(
        "A front end that counts its own sends one client there",
        ROUTED,
        _IN_TURN_IN_BOTH,
        lambda result: _waiting(result, "the fewest in flight") == [1, 1],
    ),
    BrokenClaim(
        "In turn, half of the clients go to the core that hangs",
        ROUTED,
        _NOBODY_HANGS,
        lambda result: sum(_waiting(result, "in turn")) == 20,
    ),
    BrokenClaim(
        "A front end that counts its own sends one client there",
        ROUTED,
        _NOBODY_HANGS,
        lambda result: _waiting(result, "the fewest in flight") == [1, 1],
    ),
    BrokenClaim(
        "By old news alone, two front ends send a whole burst to one core",
        SCORED,
        _COUNTS_ITS_OWN,
        lambda result: max(result.by("row")["published load, 0"]["got"]) == 16,
    ),
    _of_row("DEALER", "it waits"),
    _of_row("DEALER, sends with NOBLOCK", "it gets an error"),
    _of_row("DEALER, high-water mark 0", "it goes on, and all arrive later"),
    _of_row("ROUTER", "it goes on, and most are lost"),
    _of_row("ROUTER, MANDATORY, with NOBLOCK", "it gets an error"),
    _of_row("XPUB", "it goes on, and most are lost"),
    BrokenClaim(
        "With a high-water mark of 0, the sender's memory grows by all that nobody reads",
        FULL,
        _OTHER_SOCKETS,
        lambda result: result.by("row")["DEALER, high-water mark 0"]["grown_mb"] > 15,
    ),
    BrokenClaim(
        "A front end that refuses loses nothing, and goes on with the other core", REFUSED, _DROPS, _loses_nothing
    ),
    broken_claim("07a.3", "A long prompt takes about as many bytes either way", WEIGHED, _IN_LETTERS),
    broken_claim("07a.3", "A step's tokens take far more as a pickle", WEIGHED, _MSGSPEC_TWICE),
    broken_claim("07a.3", "Packing and unpacking them takes pickle more than twice the time", WEIGHED, _MSGSPEC_TWICE),
    broken_claim("07a.4", "pickle.loads has run the sender's function before any check", RECEIVED, _HARMLESS),
    broken_claim(
        "07a.4",
        "msgspec, told the class, refuses the same frame and a wrong field, and runs nothing",
        RECEIVED,
        _ANYTHING,
    ),
    nothing_left("No process of this appendix is left", ROUTED),
)

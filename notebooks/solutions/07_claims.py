"""What breaks the claims of notebook 07: for each, its experiment with the effect taken away."""

from collections.abc import Iterable
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank, filled
from lab_support.notebook.moves.exercises import cell, changed, nothing_left
from lab_support.notebook.moves.verdicts import broken_claim, broken_rows

RACE, WAYS = cell("07", "race"), blank("07.b1").reference

# ---- 07.1 ------------------------------------------------------------------------------------------------------------

_NEW_PORTS = changed(RACE, "create_server((host, port))", "create_server((host, 0))")

# ---- 07.2 ------------------------------------------------------------------------------------------------------------

_BOUND_ANEW = filled(blank("07.b1").skeleton, ("sock.listen()", "receiver.setsockopt(zmq.LINGER, 0)"))
# Each way gets the launch of another: the passed socket does not listen, and the probed one is kept and listens.
_OTHER_WAYS = changed(
    filled(blank("07.b1").skeleton, ("sock.setblocking(False)", "receiver.setsockopt(zmq.USE_FD, sock.fileno())")),
    '"probe and close": ports.probe',
    '"probe and close": kept',
    '"port 0, reported": lambda: ["tcp://127.0.0.1:*"]',
    '"port 0, reported": ports.probe',
    'lambda: [f"ipc://{folder}/{uuid.uuid4()}"]',
    'lambda: ["tcp://127.0.0.1:*"]',
    "ports = PortRange.of(200)\n",
    "def kept():\n    sock = ports.bind()\n    sock.listen()\n    return address_of(sock), sock\n\n"
    "ports = PortRange.of(200)\n",
)

# ---- 07.3: three parents, two children -------------------------------------------------------------------------------

_PARENTS = cell("07", "parents")
# The sleeper sleeps longer and looks, the poller looks and never asks, the waiter waits for neither.
_OTHERWISE = changed(
    _PARENTS,
    '    time.sleep(1)\n    return "ready"\n',
    '    time.sleep(2)\n    return "ready" if child.is_alive() else "dead"\n',
    '        if child.answers_health():\n            return "ready"\n',
    '        if not child.is_alive():\n            return "dead"\n',
    'if __name__ == "__main__":\n',
    'def waiter(child):\n    time.sleep(LIMIT)\n    return "late"\n\nif __name__ == "__main__":\n',
)


# ---- 07.4: the message alone -----------------------------------------------------------------------------------------

_WAITS = blank("07.b2").reference
_CLOSED = changed(_WAITS, "    try:\n", "    child.theirs.close()\n    try:\n")
_NO_SENTINEL = changed(_WAITS, "[child.pipe, child.sentinel]", "[child.pipe]")


# ---- the start: a cell of the kernel, as a program

EARLY = """\
from lab_support.notebook.script import emit
from lab_support.notebook.servers.live_server import live_server
from lab_support.notebook.stages.early_client import EarlyClient

client = EarlyClient()
with live_server(api_server_count=2, at_port_open=client.connect) as server:
    emit(client=client.answer(), milestones=server.trace.milestones())
"""
_LATE = changed(
    EARLY,
    "at_port_open=client.connect",
    "trace=True",
    "    emit(",
    '    client.connect(("127.0.0.1", server.port), server.api_key)\n    emit(',
)

# ---- one request, alone: the same

ALONE = """\
import os, signal, time
from lab_support.instruments import proc
from lab_support.notebook.script import emit
from lab_support.notebook.servers.live_server import live_server
from lab_support.notebook.servers.traced import times_of

def sleeps():
    return {role: sum(each.voluntary for each in proc.read_thread_switches(pid).values())
            for role, pid in pids.items()}

def ask():
    return server.session.post(f"{server.url}/v1/completions", json=question).headers["x-request-id"]

question = {"prompt": "Once upon a time", "max_tokens": 48, "ignore_eos": True, "stream": True}
with live_server(api_server_count=2, trace=True) as server:
    pids = dict(server.pids)
    ask(), ask()
    before = sleeps()
    name = ask()
    woken = {role: count - before[role] for role, count in sleeps().items()}
    emit(told=times_of(server.trace.request(name)), woken=woken)
"""
_API_SERVERS_STAND_STILL = changed(
    ALONE,
    "    name = ask()\n",
    """\
    question["max_tokens"] = 200                        # so that it is in the middle when its client has the first one
    def until_idle():
        begun, count = time.monotonic(), 0
        while sleeps()["engine-0"] - count > 20:
            count = sleeps()["engine-0"]
            time.sleep(0.5)
        return time.monotonic() - begun
    with server.session.post(f"{server.url}/v1/completions", json=question, stream=True) as answer:
        lines = answer.iter_lines()
        next(lines)
        for role in server.api_servers:
            os.kill(server.pids[role], signal.SIGSTOP)
        time.sleep(2 * until_idle())
        for role in server.api_servers:
            os.kill(server.pids[role], signal.SIGCONT)
        list(lines)
    name = answer.headers["x-request-id"]
""",
)
_LAUNCHER_AT_WORK = changed(ALONE, "    ask(), ask()\n", '    pids["launcher"] = pids["engine-0"]\n    ask(), ask()\n')

# ---- among 16

CROWD = blank("07.b3").reference
_TWO_AT_A_TIME = changed(CROWD, "api_server_count=2", "api_server_count=2, max_num_seqs=2")


def _emitted(result: ProcessResult) -> Iterable[Any]:
    return result.told.values()


BROKEN_CLAIMS = (
    broken_claim(
        "07.1",
        "One launcher at a time loses no start, four at once lose some, and sixteen lose several times as many",
        RACE,
        _NEW_PORTS,
    ),
    broken_claim(
        "07.2",
        "None of the three ways without a probe loses a start, and the child answers each client that connects",
        WAYS,
        _BOUND_ANEW,
    ),
    *broken_rows("07.2", WAYS, _OTHER_WAYS),
    *broken_rows("07.3", _PARENTS, _OTHERWISE),
    broken_claim(
        "07.4",
        "With the message alone, the parent waits to its limit for both dead children, and holds their ends",
        _WAITS,
        _CLOSED,
    ),
    broken_claim("07.4", "With the sentinel as well, it is late for the stuck child alone", _WAITS, _NO_SENTINEL),
    broken_claim(
        "07.start",
        "The client connected before the first child was ready, and was answered without any retry",
        EARLY,
        _LATE,
        given=_emitted,
    ),
    broken_claim(
        "07.5",
        "More than half of a request's time is steps of the engine core",
        ALONE,
        _API_SERVERS_STAND_STILL,
        given=_emitted,
    ),
    broken_claim(
        "07.5",
        "An API server and the engine core are woken at least once for four tokens, and the launcher is not",
        ALONE,
        _LAUNCHER_AT_WORK,
        given=_emitted,
    ),
    broken_claim("07.6", "Most of a request's extra time among 16 lies in steps", CROWD, _TWO_AT_A_TIME),
    nothing_left("Nothing that this notebook started is running", RACE),
)

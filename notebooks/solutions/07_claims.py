"""The claims of notebook 07, each with an experiment in which it is false."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.answer_files import modules_of
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, changed
from lab_support.notebook.moves.verdicts import Found, broken_claim

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


def _claim_of(number: str, words: str, experiment: str, broken: str) -> BrokenClaim:
    def holds(result: ProcessResult) -> bool:
        (module,) = modules_of("07", "verdicts")
        found: Found = next(each for each in module.JUDGES if each.number == number).find(*result.told.values())
        return next(each.holds for each in found.claims if each.words == words)

    return BrokenClaim(words, experiment, broken, holds)


BROKEN_CLAIMS = (
    _claim_of(
        "07.start",
        "The client connected before the first child was ready, and was answered without any retry",
        EARLY,
        _LATE,
    ),
    _claim_of(
        "07.5",
        "More than half of a request's time is steps of the engine core",
        ALONE,
        _API_SERVERS_STAND_STILL,
    ),
    _claim_of(
        "07.5",
        "For every fourth token at least, an API server and the engine core are woken, and the launcher is not",
        ALONE,
        _LAUNCHER_AT_WORK,
    ),
    broken_claim("07.6", "Most of what a request takes longer among 16 lies in steps", CROWD, _TWO_AT_A_TIME),
)

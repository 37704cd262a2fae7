"""The claims of appendix 08a, each with an experiment in which it is false."""

from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left, on_recording
from lab_support.notebook.moves.verdicts import broken_claim, judge_of

STOPPED, LITTLE, BATCHED = (blank(f"08a.b{number}").reference for number in (1, 2, 3))
CHUNKED, ONE_TOKEN = (cell("08a", name) for name in ("chunked", "one_token"))

# ---- one second of standing still

_NO_STOP = changed(STOPPED, "after=2, seconds=1", "after=2, seconds=0")
_FEW_REQUESTS = changed(
    STOPPED,
    "        await asker.ask(8)\n        in_a_row.append",
    "        await asker.ask(800)\n        in_a_row.append",
)
_FROM_DUE = changed(STOPPED, "from_sent.append(time.monotonic() - sent)", "from_sent.append(time.monotonic() - due)")

# ---- three numbers that must fit

_NOBODY_STAYS = changed(
    LITTLE,
    "randint(16, 48))\n\nasync def gives_up",
    "randint(16, 48))\n        await asker.ask(48, leave_after=24)\n\nasync def gives_up",
)
_ALL_STAY = changed(LITTLE, ", leave_after=24", "")

# ---- the longest answer of a batch

_ALL_CONTINUOUS = changed(BATCHED, "batching=batching) as", 'batching="continuous") as')

# ---- a long prompt

_SAME_BUDGET = changed(CHUNKED, "max_num_batched_tokens=budget", "max_num_batched_tokens=512")

# ---- one token

_NOTHING_TO_COMPUTE = changed(
    ONE_TOKEN,
    "from lab_support.notebook.servers.askers import askers\n",
    "from lab_support.notebook.servers.askers import askers, paced_server\n",
    "from lab_support.notebook.servers.live_server import live_server\n",
    "",
    "live_server(api_server_count=1, trace=True)",
    "paced_server(0.001, rows=16, trace=True)",
)
_ALWAYS_ALONE = changed(ONE_TOKEN, "asyncio.run(ask(server, clients))", "asyncio.run(ask(server, 1))")


def _of_row(row: str, option: str) -> BrokenClaim:
    return BrokenClaim(
        f"{row}: {option}",
        CHUNKED,
        _SAME_BUDGET,
        lambda result: judge_of("08a.4").find(result).rows[row] == option,
    )


BROKEN_CLAIMS = (
    broken_claim(
        "08a.1", "From the due time, one request in a hundred takes longer than half of the stop", STOPPED, _NO_STOP
    ),
    broken_claim(
        "08a.1",
        "By the closed loop, 99 of 100 requests take less than half of the stop",
        STOPPED,
        _FEW_REQUESTS,
    ),
    broken_claim(
        "08a.1",
        "Counted from the sending, 99 of 100 requests on schedule take less than half of it, too",
        STOPPED,
        _FROM_DUE,
    ),
    broken_claim(
        "08a.2", "While all stay, the law's L is within a fifth of what the engine core reports", LITTLE, _NOBODY_STAYS
    ),
    broken_claim(
        "08a.2",
        "Where half are abandoned, the histogram's L is less than four fifths of what the engine core reports",
        LITTLE,
        _ALL_STAY,
    ),
    broken_claim(
        "08a.3", "Continuous batching gives more than 1.7 times as many tokens per second", BATCHED, _ALL_CONTINUOUS
    ),
    broken_claim(
        "08a.3", "Each static batch takes the steps of its longest answer, within 15 %", BATCHED, _ALL_CONTINUOUS
    ),
    broken_claim(
        "08a.3",
        "With continuous batching, a short answer ends in less than 0.7 of the time, on average",
        BATCHED,
        _ALL_CONTINUOUS,
    ),
    _of_row("the longest pause of a running answer", "less"),
    _of_row("the time to the long prompt's first token", "more"),
    _of_row("tokens of running answers while the prompt is computed", "more"),
    broken_claim(
        "08a.token",
        "On a CPU, more than half of a token's time is computing it, alone and among 16",
        ONE_TOKEN,
        _NOTHING_TO_COMPUTE,
    ),
    broken_claim(
        "08a.token",
        "Among 16, a token is on its two ways at least 1.2 times as long as alone",
        ONE_TOKEN,
        _ALWAYS_ALONE,
    ),
    broken_claim(
        "08a.token",
        "Among 16, an API server makes and sends the text of a token in less than half of the time",
        ONE_TOKEN,
        _ALWAYS_ALONE,
    ),
    on_recording(
        "Answers that come as a whole have their first token over five times later, from the same server",
        "peers",
        "a_whole_answer_is_late",
        '"peer": "mosec"',
        '"peer": "streamed"',
        '"peer": "mosec-whole"',
        '"peer": "mosec"',
        '"peer": "streamed"',
        '"peer": "mosec-whole"',
        module="peers",
    ),
    on_recording(
        "With one request at a time in each worker, the first token comes over ten times later than here",
        "peers",
        "without_batches_all_wait",
        '"peer": "litserve"',
        '"peer": "ours"',
        module="peers",
    ),
    nothing_left("No process of this appendix is left", CHUNKED),
)

"""The time of one token, by stages: from the step that computes it to its client. Runs in the client's process.

Taught in: 08a_which_numbers_are_true
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from lab_support.instruments.trace.requests import Request
from lab_support.notebook.servers.askers import Got
from lab_support.notebook.servers.traced import ServerTrace

TOKEN_STAGES = ("scheduled", "computed", "to the API server", "text, event, send", "to its client")


def time_of_a_token(trace: ServerTrace, answers: Sequence[Got]) -> dict[str, float]:
    """The time of one further token of these answers, in seconds by stage: the median over all such tokens.

    The engine core schedules and computes it. It is on its way to the API server until that takes it, after those of
    other sequences in the same message. The API server makes text and an event of it, and sends that. It is on its way
    to its client until that has read it; where that is before the API server is back from sending, it counts as no
    time. All processes have one clock. Raises `LookupError` if the trace does not have them.
    """
    requests = trace.requests([answer.id for answer in answers])
    tokens = [token for each in zip(requests, answers, strict=True) for token in _further_tokens(*each)]
    if not tokens:
        raise LookupError("got no answer of several tokens with text in each, expected one; ask for more tokens")
    return {stage: median(column) for stage, column in zip(TOKEN_STAGES, zip(*tokens, strict=True), strict=True)}


def _further_tokens(request: Request, answer: Got) -> Iterator[tuple[float, ...]]:
    """The seconds of each stage, for every token but the first, whose step has the prompt. Each has its own step."""
    [sequence] = request.sequences
    if len(answer.times) != len(sequence.streamed):  # a token without text of its own came with the next one
        return
    further = sequence.streamed[1:]
    steps = [share.step for share in sequence.steps[len(sequence.steps) - len(further) :]]
    for step, out, arrived_at in zip(steps, further, answer.times[1:], strict=True):
        sent_at = min(out.written_at, arrived_at)
        times = (step.at, step.scheduled_at, step.ran_at, out.at, sent_at, arrived_at)
        yield tuple(later - earlier for earlier, later in pairwise(times))

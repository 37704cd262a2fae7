"""Every event of a trace, listed by the process that writes it: one line of JSON each, `["step", 12.5, …]`.

`Milestone` is about a process; all others are about requests. A client's request has one sequence for each of its
choices. `sequence` numbers them within one API server; an engine core knows a sequence by (`client`, `sequence`), where
`client` is the slot of the API server. Field names that end in `_at`, and `at`, are times: see `tracing/__init__.py`.
"""

import msgspec

MOST_TEXT = 200  # characters of any text in an event


class Event(msgspec.Struct, array_like=True, tag=str.lower, frozen=True, gc=False):
    """Base of all events."""


# ---- every process --------------------------------------------------------------------------------------------------


class Process(Event):
    """The first line of each file: the process that writes it. wall: seconds since 1970 at `at`; slot: -1 if none."""

    at: float
    wall: float
    run: str
    role: str
    pid: int
    slot: int


class Milestone(Event):
    """A point in the life of a process: a stage of its start, or its end. about: another process, or ""."""

    at: float
    stage: str
    about: str = ""
    detail: str = ""


class Lost(Event):
    """So many events before this line could not be written: the disk was full or too slow."""

    at: float
    events: int


# ---- API servers ----------------------------------------------------------------------------------------------------


class Received(Event):
    """The head of a request for text is complete. accepted_at: when its connection was accepted."""

    at: float
    request: int
    path: str
    accepted_at: float
    trace_id: str
    parent_id: str


class Parsed(Event):
    """Its body has arrived and every field is checked. id: its x-request-id."""

    at: float
    request: int
    id: str


class Tokenised(Event):
    """Its prompts are token ids."""

    at: float
    request: int
    prompt_tokens: int


class Sent(Event):
    """One of its sequences is sent to an engine core."""

    at: float
    request: int
    sequence: int
    engine: int


class Streamed(Event):
    """New tokens of a sequence: received from the engine core, turned into text, written to the client (or kept for an
    answer that is not streamed)."""

    at: float
    sequence: int
    tokens: int
    decoded_at: float
    written_at: float


class Finished(Event):
    """A sequence has ended. reason: stop, length, or aborted."""

    at: float
    sequence: int
    reason: str


class Closed(Event):
    """A request has ended. status: of its answer; 499 if its client left before. left: the sign of that, in words."""

    at: float
    request: int
    status: int
    left: str


# ---- engine cores ---------------------------------------------------------------------------------------------------


class Arrived(Event):
    """The input thread has read a sequence from the socket."""

    at: float
    client: int
    sequence: int


class Queued(Event):
    """The loop has given a sequence to the scheduler, between two steps."""

    at: float
    client: int
    sequence: int


class Abandoned(Event):
    """The loop has aborted a sequence: its API server asked for it, or has ended."""

    at: float
    client: int
    sequence: int


class Step(Event):
    """One step: begun at `at`, then scheduled, run on the device, and ended, with its tokens in the hands of the output
    thread, which may send them a moment before `ended_at`.

    decodes: client, sequence, client, sequence, …; prefills: client, sequence, tokens of its prompt, client, …
    """

    at: float
    scheduled_at: float
    ran_at: float
    ended_at: float
    decodes: list[int]
    prefills: list[int]


ANY = (
    Process
    | Milestone
    | Lost
    | Received
    | Parsed
    | Tokenised
    | Sent
    | Streamed
    | Finished
    | Closed
    | Arrived
    | Queued
    | Abandoned
    | Step
)


def shortened(text: str) -> str:
    """`text` in at most MOST_TEXT characters, all of them encodable in UTF-8."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"

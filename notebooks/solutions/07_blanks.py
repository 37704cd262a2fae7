"""The blanks of notebook 07: a socket handed over, a wait, a trace, and three steps of the reader's server."""

from collections.abc import Callable
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import (
    Blank,
    Verdict,
    WrongFilling,
    could_not_be_measured,
    failed,
    line_in_words,
    passed,
    stopped_by,
)
from lab_support.notebook.moves.steps import Step
from lab_support.plural import counted

# ---- 07.b1: the bound socket is handed over --------------------------------------------------------------------------

ABORTED = "ended by SIGABRT"
DEAF = (
    "the socket has its port and doesn't listen, so clients are refused; and libzmq, which only accepts, ends the "
    "child by SIGABRT"
)
LATE = "the socket listens only once the child runs, so whoever comes before it is refused"
ANEW = (
    "the child binds the address anew while its launcher still holds it, because its ZeroMQ socket was not told of the "
    "one that was passed on"
)
ELSEWHERE = "the child listens at another address than the one that its clients were told"


def judge_the_handover(ways: ProcessResult) -> Verdict:
    way = ways.by("way")["bound, passed on"]
    starts, met, answers = way["starts"], way["clients"], way["answers"]
    aborted = way["came"].get(ABORTED, 0)
    found = f"children {ABORTED}: {aborted} of {starts}" if aborted else f"lost starts: {way['lost']} of {starts}"
    measured = (
        f"{found}; clients connected before the child: {met.get('connected', 0)}, answered by it: "
        f"{answers.get('answered', 0)}"
    )
    broken = [came for came in way["came"] if came not in ("bound", "lost", ABORTED)]
    findings = (
        ("refused" in met, DEAF if aborted else LATE),
        (way["lost"], ANEW),
        ("not answered" in answers, ELSEWHERE),
    )
    if broken:
        return stopped_by(broken[0])
    cause = next((cause for found, cause in findings if found), "")
    if cause:
        return failed(measured, "no start is lost, and every client is connected at once and answered", cause)
    return passed(measured)


# ---- b2: message and sentinel ----------------------------------------------------------------------------------------

EXPECTED = {"slow": "ready", "killed": "dead", "raises": "dead", "stuck": "late"}
NO_ANSWER = (
    "it waits beyond its limit: no message comes from a child that is dead or stuck, and recv() on its own has no limit"
)
NOT_THE_MESSAGE = "the slow child said READY, and the wait did not end: the list lacks the pipe, which brings messages"
NOT_THE_END = "a child is dead, and the wait did not end: the list lacks what tells of the end of a process"
ANY_IS_READY = "it takes whatever came for READY: ask whether the pipe is among what came"
NOTHING_IS_READY = "it says ready for the stuck child, from which nothing came: not to have ended is not to be ready"
READY_IS_DEAD = "the slow child said READY, and it is taken for dead: ask whether the pipe is among what came"


def judge_both(waits: ProcessResult) -> Verdict:
    rows = [event.fields for event in waits.events if event.fields.get("parent") == "message_and_end"]
    said = {row["child"]: row["said"] for row in rows}
    for row in rows:
        if "line" in row:
            return stopped_by(row["said"], line_in_words(row["line"], waits.source))
    measured, expected = (", ".join(f"{child}: {each}" for child, each in told.items()) for told in (said, EXPECTED))
    dead = {said["killed"], said["raises"]}
    findings = (
        ("no answer" in said.values(), NO_ANSWER),
        (said["slow"] == "late", NOT_THE_MESSAGE),
        ("late" in dead, NOT_THE_END),
        (said["slow"] == "dead", READY_IS_DEAD),
        ("ready" in dead, ANY_IS_READY),
        (said["stuck"] == "ready", NOTHING_IS_READY),
    )
    cause = next((cause for found, cause in findings if found), "")
    return failed(measured, expected, cause) if cause else passed(measured)


# ---- your own request, by its trace id -------------------------------------------------------------------------------

NOT_OF_THE_FORM = (
    "the server read no trace id from the header, so it is not of the form: four parts joined by hyphens, which are "
    "00, the 32 digits of the trace id, the 16 digits of the parent id, and 01"
)
ANOTHER_ID = "the header is of the form, but it carries another trace id than yours, so yours is not in the trace"
NO_DURATION = "times of the clock were added up: a step lasts from its begin to its end, which is a difference"
BACKWARDS = "the seconds are negative: the end of a step comes after its begin"
MILLISECONDS = "these are milliseconds: the clock counts in seconds, and so does the engine core"
TOO_MUCH = "more seconds than the request lasted: add up each step once, not a longer time for each of them"
PART = (
    "only a part of each step was counted: every request in a step waits for all of it, from its begin to its end, "
    "however many share it"
)


def judge_my_request(result: ProcessResult) -> Verdict | None:
    expected = "your request is found in the trace, and the seconds of its steps are those that the engine core wrote"
    told = [event.fields for event in result.events]
    ids = [each for each in told if "trace_ids" in each]
    if ids[0]["sent"] not in ids[0]["trace_ids"]:
        found = ", ".join(filter(None, ids[0]["trace_ids"]))
        measured = f"the trace has the trace id {found}" if found else "the request in the trace has no trace id"
        return failed(measured, expected, ANOTHER_ID if found else NOT_OF_THE_FORM)
    rows = [each for each in told if "in_steps" in each]
    measured = f"your request was found; in steps: {_typical(rows, lambda row: row['in_steps'])}"
    cause = next((cause for each in rows if (cause := _cause(each))), "")
    if cause:
        return failed(measured, f"{expected}: {_typical(rows, _in_steps)}", cause)
    return passed(measured) if len(rows) == 6 else None


def _typical(rows: list[dict[str, Any]], seconds: Callable[[dict[str, Any]], float]) -> str:
    """Of the repeat of median length, alone and in the crowd, as in the figure."""
    said = []
    for clients in dict.fromkeys(row["clients"] for row in rows):
        repeats = sorted((row for row in rows if row["clients"] == clients), key=lambda row: row["total"])
        said.append(f"{1000 * seconds(repeats[len(repeats) // 2]):,.0f} ms with {counted(clients, 'client')}")
    return ", ".join(said)


def _in_steps(row: dict[str, Any]) -> float:
    return float(sum(ended - begun for begun, ended, _ in row["steps"]))


def _cause(row: dict[str, Any]) -> str:
    counted, truth = row["in_steps"], _in_steps(row)
    findings = (
        (abs(counted - truth) <= 0.02 * truth, ""),
        (counted < 0, BACKWARDS),
        (abs(counted - 1000 * truth) <= 20 * truth, MILLISECONDS),
        (counted > 100 * row["total"], NO_DURATION),
        (counted > row["total"], TOO_MUCH),
        (True, PART),
    )
    return next(cause for found, cause in findings if found)


_HEADER = 'f"00-{trace_id}-{parent_id}-01"'
_SECONDS = "share.step.ended_at - share.step.at"


# ---- the reader's server, steps 1 to 3 -------------------------------------------------------------------------------

ALL = 8
NEVER_READY = "the server has not said READY"
REPEATS = "each token is the same, because each is computed from the same text: give it the tokens before it, too"
STRANGERS = "the tokens don't belong to the client's prompt"
SEVERAL_TEXTS = (
    "a step was given several texts, and computed a token for each: put the prompt and the tokens together into one"
)
NO_PROMPT = "all clients get the same tokens, though each asks something else: the prompt is missing in the text"
EMPTY_FRAME = (
    "the tokens came after an empty one: an empty frame is what a REQ socket needs, but a DEALER gives its owner every "
    "frame, and here each is a token"
)
NOBODY = "no client got a single token"
NO_WAY_BACK = "a ROUTER drops a message whose first frame names nobody that is connected to it"
OTHER_SOCKET = "the API servers have a listening socket of their own, to which nobody connects"
TOO_EARLY = "READY came while the engine core was still loading"
NEVER = "READY never came, although every child had said so: the wait has to end when nobody is left"
NO_SENTINEL = "a dead process sends no message, and the launcher waited for one: it has to wait for the sentinels, too"


def own_tokens(told: dict[str, Any]) -> str:
    return f"{told['own']} of {ALL} clients got their own tokens, all of them"


def judge_step_1(result: ProcessResult) -> Verdict:
    told = result.told["measured"]
    measured, expected = own_tokens(told), own_tokens({"own": ALL})
    if not told["ready"]:
        return failed("no READY line", expected, NEVER_READY)
    if told["own"] == ALL:
        return passed(measured)
    findings = (
        (told["rows"] > 1, SEVERAL_TEXTS),
        (told["repeats"], REPEATS),
        (told["alike"], NO_PROMPT),
        (told["some"], STRANGERS),
    )
    return failed(measured, expected, next((cause for found, cause in findings if found), NOBODY))


def judge_step_2(result: ProcessResult) -> Verdict:
    told = result.told["measured"]
    holders = ", ".join(told["holders"]) or "no child"
    measured = f"{own_tokens(told)}; {holders} with the listening socket"
    expected = f"{own_tokens({'own': ALL})}; api-0, api-1 with the listening socket"
    if not told["ready"]:
        return failed("no READY line", expected, NEVER_READY)
    if told["elsewhere"]:
        return failed(measured, expected, OTHER_SOCKET)
    if told["empty"]:
        return failed(measured, f"{expected}; no empty token", EMPTY_FRAME)
    if told["own"] == ALL and told["holders"] == ["api-0", "api-1"]:
        return passed(measured)
    return failed(measured, expected, STRANGERS if told["some"] else NO_WAY_BACK)


def judge_step_3(result: ProcessResult) -> Verdict:
    told = result.told["measured"]
    if not told["held"]:
        return could_not_be_measured("the engine core did not come to load; try again")
    expected = "READY once all can answer"
    if told["too_early"]:
        return failed("READY while the engine core still loads", expected, TOO_EARLY)
    if not told["ready"]:
        return failed("no READY line", expected, NEVER)
    for name, death in told["deaths"].items():
        if not (death["ended"] and death["named"]):
            left = f"{len(death['left'])} processes go on" if death["left"] else "nobody says who has died"
            measured = f"{name if name == 'engine-0' else 'an API server'} has died while starting, and {left}"
            return failed(measured, "a death while starting is named, and ends all", NO_SENTINEL)
    measured = f"{expected}; {own_tokens(told)}; two deaths while starting were named, and left nothing running"
    return passed(measured) if told["own"] == ALL else failed(own_tokens(told), own_tokens({"own": ALL}), STRANGERS)


_WAIT_OF_STEP_3 = "line 10 of this cell: `for event in multiprocessing.connection.wait([*waiting, {}]):`"
_PROMPT, _ACCEPT = 'prompt + b"".join(tokens)', "listening_socket.accept()"


BLANKS = (
    Blank(
        name="07.b1",
        cell="ways",
        task="let the launcher's bound socket be ready for clients, and hand it over to the child's ZeroMQ socket",
        right=(
            ("sock.listen()", "receiver.setsockopt(zmq.USE_FD, sock.detach())"),
            ("sock.listen(128)", "receiver.set(zmq.USE_FD, sock.fileno())"),
            ("sock.listen(16)", "receiver.use_fd = sock.fileno()"),
        ),
        wrong=(
            WrongFilling(DEAF, ("sock.setblocking(False)", "receiver.setsockopt(zmq.USE_FD, sock.fileno())")),
            WrongFilling(
                LATE, ("sock.setblocking(False)", "sock.listen(); receiver.setsockopt(zmq.USE_FD, sock.detach())")
            ),
            WrongFilling(ANEW, ("sock.listen()", "receiver.setsockopt(zmq.LINGER, 0)")),
            WrongFilling(ANEW, ("sock.listen()", "sock.close()")),
            WrongFilling(ELSEWHERE, ("sock.listen()", 'address = "tcp://127.0.0.1:*"')),
        ),
        hints=(
            "Two things make a port answer: bind and … ? And which number stands for a socket that a process has?",
            "ZeroMQ has an option for a descriptor that is bound and listens already: USE_FD. bind() then adopts it.",
            "`sock.listen()`, and `receiver.setsockopt(zmq.USE_FD, …)` with the descriptor's number. `sock.detach()` "
            "gives it away, so that only ZeroMQ closes it; after `sock.fileno()` two objects have one descriptor.",
        ),
        judge=judge_the_handover,
    ),
    Blank(
        name="07.b2",
        cell="waits",
        task="wait for a message and for the end of the child at once, and tell which of the two came",
        right=(
            ("[child.pipe, child.sentinel]", "child.pipe in came"),
            ("(child.sentinel, child.pipe)", "child.pipe.poll()"),
            ("{child.pipe, child.sentinel}", "came and child.sentinel not in came"),
        ),
        wrong=(
            WrongFilling(NOT_THE_END, ("[child.pipe]", "child.pipe in came")),
            WrongFilling(NOT_THE_MESSAGE, ("[child.sentinel]", "child.pipe in came")),
            WrongFilling(ANY_IS_READY, ("[child.pipe, child.sentinel]", "came")),
            WrongFilling(NOTHING_IS_READY, ("[child.pipe, child.sentinel]", "child.sentinel not in came")),
            WrongFilling(READY_IS_DEAD, ("[child.pipe, child.sentinel]", "not came")),
            WrongFilling(NO_ANSWER, ("[child.pipe, child.sentinel]", 'child.pipe.recv() == "READY"')),
            WrongFilling(
                "your line failed with this error, in line 14 of your program: `came = "
                "connection.wait([child.pipe, child.process], LIMIT)`",
                ("[child.pipe, child.process]", "child.pipe in came"),
            ),
        ),
        hints=(
            "Two things can end the wait. What does a child have for each: `child.…`, and `child.…`?",
            "`connection.wait` takes a list, and returns those of it that are readable; none, if the limit has passed.",
            "`[child.pipe, child.sentinel]`, and `child.pipe in came`.",
        ),
        judge=judge_both,
    ),
    Blank(
        name="07.b3",
        cell="crowd",
        task="send your own trace id in the header `traceparent`, and add up the seconds of your request's steps",
        right=(
            (_HEADER, _SECONDS),
            (
                '"-".join(("00", trace_id, parent_id, "01"))',
                "(share.step.scheduled_at - share.step.at) + (share.step.ended_at - share.step.scheduled_at)",
            ),
        ),
        wrong=(
            WrongFilling(NOT_OF_THE_FORM, ("trace_id", _SECONDS)),
            WrongFilling(NOT_OF_THE_FORM, ('f"00-{parent_id}-{trace_id}-01"', _SECONDS)),
            WrongFilling(ANOTHER_ID, ('f"00-{parent_id + parent_id}-{trace_id[:16]}-01"', _SECONDS)),
            WrongFilling(NO_DURATION, (_HEADER, "share.step.ended_at")),
            WrongFilling(MILLISECONDS, (_HEADER, f"1000 * ({_SECONDS})")),
            WrongFilling(BACKWARDS, (_HEADER, "share.step.at - share.step.ended_at")),
            WrongFilling(TOO_MUCH, (_HEADER, "share.step.ended_at - own.received.at")),
            WrongFilling(PART, (_HEADER, f"({_SECONDS}) / len(traced + traced)")),
        ),
        hints=(
            "`traceparent` has four parts. Two of them you have drawn, and the comment has the other two.",
            "The W3C writes it as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01, with the trace id first. A "
            "step has a begin and an end on one clock.",
            '`f"00-{…}-{…}-01"`, and `share.step.ended_at - …`.',
        ),
        judge=judge_my_request,
    ),
    Step(
        name="07.s1",
        number=1,
        cell="step_1",
        task="accept a client, and give the stand-in the text of which the next token depends",
        right=((_PROMPT, _ACCEPT), ('b"".join([prompt, *tokens])', "socket.socket.accept(listening_socket)")),
        wrong=(
            WrongFilling(REPEATS, ("prompt", _ACCEPT)),
            WrongFilling(SEVERAL_TEXTS, ("prompt, *tokens", _ACCEPT)),
            WrongFilling(NO_PROMPT, ('b"".join(tokens)', _ACCEPT)),
            WrongFilling(STRANGERS, ('b"".join([*tokens, prompt])', _ACCEPT)),
            WrongFilling(NOBODY, (_PROMPT, "(listening_socket.dup(), None)")),
            WrongFilling(
                "it stops there, in line 15 of this cell: `connection, _ = listening_socket.accept()[0]`",
                (_PROMPT, "listening_socket.accept()[0]"),
            ),
        ),
        hints=(
            "What has the model seen when it computes the third token? And which call waits for a client?",
            "The text is the prompt and all tokens so far, and all of these are bytes. `man 2 accept`.",
            '`prompt + b"".join(tokens)` and `listening_socket.accept()`.',
        ),
        judge=judge_step_1,
    ),
    Step(
        name="07.s2",
        number=2,
        cell="step_2",
        task="address the answer to the one who asked, and hand over the listening socket",
        right=(("asker", "listening_socket"), ("bytes(asker)", "listening_socket.dup()")),
        wrong=(
            WrongFilling(NO_WAY_BACK, ('b"api-0"', "listening_socket")),
            WrongFilling(NO_WAY_BACK, ("prompt", "listening_socket")),
            WrongFilling(EMPTY_FRAME, ('asker, b""', "listening_socket")),
            WrongFilling(OTHER_SOCKET, ("asker", 'socket.create_server(("127.0.0.1", 0))')),
            WrongFilling(
                "it stops there, in my_server.py: `connection, _ = listening_socket.accept()`",
                ("asker", "listening_socket.fileno()"),
            ),
        ),
        hints=(
            "Which frame did the ROUTER add? And how did a socket get to a spawned child in notebook 03?",
            "The first frame names the asker. A socket may be an argument of a spawned process.",
            "`asker` and `listening_socket`.",
        ),
        judge=judge_step_2,
    ),
    Step(
        name="07.s3",
        number=3,
        cell="step_3",
        task="wait as long as someone has not said READY, for messages and for ends together",
        right=(("waiting", "*ends"), ("len(waiting) > 0", "*[child.sentinel for child in children]")),
        wrong=(
            WrongFilling(TOO_EARLY, ("False", "*ends")),
            WrongFilling(TOO_EARLY, ("len(waiting) > 1", "*ends")),
            WrongFilling(NEVER, ("True", "*ends")),
            WrongFilling(NO_SENTINEL, ("waiting", "*()")),
            WrongFilling(f"it stops there, in {_WAIT_OF_STEP_3.format('ends')}", ("waiting", "ends")),
            WrongFilling(
                f"it stops there, in {_WAIT_OF_STEP_3.format('*ends.values()')}", ("waiting", "*ends.values()")
            ),
            WrongFilling(
                f"it stops there, in {_WAIT_OF_STEP_3.format('*[child.pipe for child in children]')}",
                ("waiting", "*[child.pipe for child in children]"),
            ),
        ),
        hints=(
            "Who is in `waiting` at the end? And what becomes readable when a process dies?",
            "A set is true until it is empty. The sentinels are the keys of `ends`.",
            "`waiting` and `*ends`.",
        ),
        judge=judge_step_3,
    ),
)

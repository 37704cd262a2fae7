"""The blanks of notebook 07."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Verdict, WrongFilling, could_not_be_measured, failed, passed
from lab_support.notebook.moves.steps import Step

# ---- the reader's server, steps 1 to 3 -------------------------------------------------------------------------------

ALL = 8
NEVER_READY = "the server has not said READY"
REPEATS = "each token is the same, because each is computed from the same text: give it the tokens before it, too"
STRANGERS = "the tokens don't belong to the client's prompt"
NOBODY = "no client got a single token"
NO_WAY_BACK = "a ROUTER drops a message whose first frame names nobody that is connected to it"
OTHER_SOCKET = "the API servers have a listening socket of their own, to which nobody connects"
TOO_EARLY = "READY came while the engine core was still loading"
NEVER = "READY never came, although every child had said so: the wait has to end when nobody is left"
DEAF = "a dead process sends no message, and the launcher waited for one: it has to wait for the sentinels as well"


def own_tokens(told: dict[str, Any]) -> str:
    return f"{told['own']} of {ALL} clients got their own tokens, all of them"


def judge_step_1(result: ProcessResult) -> Verdict:
    told = result.told["measured"]
    measured, expected = own_tokens(told), own_tokens({"own": ALL})
    if not told["ready"]:
        return failed("no READY line", expected, NEVER_READY)
    if told["own"] == ALL:
        return passed(measured)
    cause = REPEATS if told["repeats"] else STRANGERS if told["some"] else NOBODY
    return failed(measured, expected, cause)


def judge_step_2(result: ProcessResult) -> Verdict:
    told = result.told["measured"]
    holders = ", ".join(told["holders"]) or "no child"
    measured = f"{own_tokens(told)}; {holders} with the listening socket"
    expected = f"{own_tokens({'own': ALL})}; api-0, api-1 with the listening socket"
    if not told["ready"]:
        return failed("no READY line", expected, NEVER_READY)
    if told["elsewhere"]:
        return failed(measured, expected, OTHER_SOCKET)
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
            return failed(measured, "a death while starting is named, and ends all", DEAF)
    measured = f"{expected}; {own_tokens(told)}; two deaths while starting were named, and left nothing running"
    return passed(measured) if told["own"] == ALL else failed(own_tokens(told), own_tokens({"own": ALL}), STRANGERS)


_PROMPT, _ACCEPT = 'prompt + b"".join(tokens)', "listening_socket.accept()"

BLANKS = (
    Step(
        name="07.s1",
        number=1,
        cell="step_1",
        task="accept a client, and give the stand-in the text of which the next token depends",
        right=((_PROMPT, _ACCEPT), ('b"".join([prompt, *tokens])', "socket.socket.accept(listening_socket)")),
        wrong=(
            WrongFilling(REPEATS, ("prompt", _ACCEPT)),
            WrongFilling(STRANGERS, ('b"".join(tokens)', _ACCEPT)),
            WrongFilling(NOBODY, (_PROMPT, "(listening_socket.dup(), None)")),
            WrongFilling(
                "it stops there, in line 15 of your program: `connection, _ = listening_socket.accept()[0]`",
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
            WrongFilling(DEAF, ("waiting", "*()")),
        ),
        hints=(
            "Who is in `waiting` at the end? And what becomes readable when a process dies?",
            "A set is true until it is empty. The sentinels are the keys of `ends`.",
            "`waiting` and `*ends`.",
        ),
        judge=judge_step_3,
    ),
)

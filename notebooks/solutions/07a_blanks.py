"""The blanks of notebook 07a: the last two steps of the reader's server, and what crosses between engine cores."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed, stopped_by
from lab_support.notebook.moves.steps import Step
from lab_support.notebook.stages.overfill import OFFERS
from lab_support.plural import counted

# ---- the reader's server, steps 4 and 5 ------------------------------------------------------------------------------

ALL, FEW_STEPS, MOST_SERVED_APART = 8, 1000, 4
NEVER_READY = "the server has not said READY"
IDLE = "the engine core waited for a message while rows waited for their next token"
SPINS = "the engine core never sleeps, even with nothing to compute: then it has to wait for a message"
NO_END = "the tokens came, but no end: the API server takes the last message for another token"
APART = "the clients were not computed together"
GOES_ON = "the engine core went on computing for a client that is gone: it has to be told"
ORPHANS = "processes outlive the launcher: an exception ends the thread that raises it, and not the process"
UNSEEN = "the launcher did not notice that a child has died: it has to wait for every sentinel"
OTHERWISE = "the clients did not get their own tokens"


def judge_step_4(result: ProcessResult) -> Verdict:
    told = result.told["measured"]
    idle = "sleeps" if told["sleeps"] else "spins"
    measured = (
        f"{told['own']} of {ALL} clients got their own tokens and an end; {told['begun']} had their first token before "
        f"anyone had the last; up to {told['rows']} rows in a step; idle, the engine core {idle}"
    )
    expected = f"all {ALL} with their tokens and an end, beginning together; several rows in a step; idle, it sleeps"
    if not told["ready"]:
        return failed("no READY line", expected, NEVER_READY)
    if not told["some"]:
        return failed(measured, expected, IDLE)
    if told["all_tokens"] > told["ended"]:
        return failed(measured, expected, NO_END)
    if not told["sleeps"]:
        return failed(measured, expected, SPINS)
    if told["own"] < ALL:
        return failed(measured, expected, OTHERWISE)
    together = told["rows"] > MOST_SERVED_APART and told["begun"] > MOST_SERVED_APART
    return passed(measured) if together else failed(measured, expected, APART)


def judge_step_5(result: ProcessResult) -> Verdict:
    told = result.told["measured"]
    left = {role: ", ".join(death["left"]) for role, death in told["deaths"].items() if not death["ended"]}
    survivors = "; ".join(f"after {role}'s death: {names}" for role, names in left.items()) or "nothing"
    measured = f"{counted(told['steps_after_hang_up'], 'step')} after a client hung up; left running: {survivors}"
    expected = "a few steps after a client hung up; left running: nothing"
    if not told["ready"]:
        return failed("no READY line", expected, NEVER_READY)
    if told["steps_after_hang_up"] > FEW_STEPS:
        return failed(measured, expected, GOES_ON)
    if "launcher" in left:
        return failed(measured, expected, ORPHANS)
    if left or not all(death["named"] for role, death in told["deaths"].items() if role != "launcher"):
        return failed(measured, expected, UNSEEN)
    return passed(measured) if told.get("own") == ALL else failed(measured, expected, OTHERWISE)


_ABORT, _EXIT, _ENDS = 'engine.send(b"")', "os._exit(1)", "ends"


# ---- 07a.b1: a score -------------------------------------------------------------------------------------------------

ALMOST_HALF = 6  # of 16
OLD_NEWS = (
    "both front ends send the whole burst to one core: until the next news the published load stays the same, whatever "
    "they send, so their own requests in flight must count as well"
)
BY_NEWS_FIRST = (
    "a single request more keeps the whole burst away: then only the published load counts, and the front end's own "
    "requests decide no more than ties; the lowest of one number should win, in which both are"
)
ONLY_ITS_OWN = (
    "the core with 40 requests gets as many as the idle one: a front end's own count knows nothing of others' requests"
)


def judge_the_score(scored: ProcessResult) -> Verdict:
    idle, one, busy = (scored.by("row")[f"yours, {load}"]["got"] for load in (0, 1, 40))
    told = (("both idle", idle), ("core 1 with one more", one), ("core 1 with 40", busy))
    measured = "; ".join(f"{who}: {got[0]} and {got[1]}" for who, got in told)
    findings = ((idle != [8, 8], OLD_NEWS), (busy != [16, 0], ONLY_ITS_OWN), (one[1] < ALMOST_HALF, BY_NEWS_FIRST))
    cause = next((cause for found, cause in findings if found), "")
    if cause:
        expected = f"8 and 8 if both were idle; at least {ALMOST_HALF} for core 1 with one more; 16 and 0 if it had 40"
        return failed(measured, expected, cause)
    return passed(measured)


# ---- 07a.b2: a sender that refuses -----------------------------------------------------------------------------------

WAITS = (
    "the front end waits for room in the queue of the core that hangs, and nobody else is served: a flag tells a send "
    "not to wait"
)
FULL_AS_GONE = (
    "core 1's queue was full, and `offer` says gone, so that its clients would not come again: a send that would "
    "have to wait raises zmq.Again, whose errno is EAGAIN"
)
GONE_AS_FULL = (
    "nobody is called core 2, and `offer` says full, so that its clients would come again for ever: ask which error it "
    "is"
)
DROPPED = (
    "messages were taken that nobody ever got: by default a ROUTER drops those for which there is no room, and an "
    "option of the socket makes it say so"
)


def judge_the_offers(refused: ProcessResult) -> Verdict:
    expected = (
        f"core 0 serves {OFFERS}; core 1 answers each request that was taken, and is full for others; core 2 is gone"
    )
    if refused.ended == "timeout":
        return failed("the front end did not come to an end", expected, WAITS)
    told = refused.told
    of_two = " and ".join(f"{count} times {word}" for word, count in told["two"].items())
    measured = (
        f"core 0 served {told['served']}; core 1 answered {told['answered']} of {told['taken']} that were taken, and "
        f"was full {counted(told['full'], 'time')}; core 2: {of_two}"
    )
    findings = (
        (told["served"] < OFFERS or told["answered"] < told["taken"] or "taken" in told["two"], DROPPED),
        (not told["full"], FULL_AS_GONE),
        ("full" in told["two"], GONE_AS_FULL),
    )
    cause = next((cause for found, cause in findings if found), "")
    return failed(measured, expected, cause) if cause else passed(measured)


# ---- 07a.b3: a receiver that checks ----------------------------------------------------------------------------------

RAN = "the folder was made, so this receiver ran the sender's function: it still reads frames by pickle"
UNCHECKED = (
    "an Abort of a text was taken: unless you tell it the class that you expect, msgspec takes any message, and checks "
    "no field"
)
TAKES_NONE = "it refuses a right message, too: the frame is msgpack, and an Abort"


def judge_the_receiver(received: ProcessResult) -> Verdict:
    by_row = received.by("row")
    good, text, gift = (by_row[f"by_msgspec: {what}"] for what in ("an Abort", "an Abort of a text", "the gift"))
    measured = f"an Abort: {good['said']}; an Abort of a text: {text['said']}; the gift: {gift['said']}"
    refuses_good, refuses_text = (_is_error(each["said"]) for each in (good, text))
    if refuses_good and not gift["made"] and not good["said"].startswith(("DecodeError", "ValidationError")):
        return stopped_by(good["said"])
    cause = RAN if gift["made"] else TAKES_NONE if refuses_good else "" if refuses_text else UNCHECKED
    if cause:
        return failed(measured, "an Abort is taken, and the two others are refused by an error", cause)
    return passed(measured)


def _is_error(said: str) -> bool:
    return ":" in said


BLANKS = (
    Step(
        name="07a.s4",
        number=4,
        cell="step_4",
        task="say when the engine core may wait for a message, and by what an API server knows the end of an answer",
        right=(("not batch", 'b""'), ("len(batch) == 0", "bytes()")),
        wrong=(
            WrongFilling(IDLE, ("batch", 'b""')),
            WrongFilling(IDLE, ("True", 'b""')),
            WrongFilling(SPINS, ("False", 'b""')),
            WrongFilling(NO_END, ("not batch", "None")),
        ),
        hints=(
            "When would a blocking call to `recv_multipart` keep nobody waiting? And what follows the last token?",
            "An empty batch is false. `iter(call, end)` calls until the result is `end`; an empty message is bytes.",
            '`not batch` and `b""`.',
        ),
        judge=judge_step_4,
    ),
    Step(
        name="07a.s5",
        number=5,
        cell="step_5",
        task="tell the engine core of a hang-up, end the process with the launcher, and wait for every child's end",
        right=((_ABORT, _EXIT, _ENDS), ('engine.send_multipart([b""])', "os.kill(os.getpid(), 9)", "[*ends]")),
        wrong=(
            WrongFilling(GOES_ON, ("pass", _EXIT, _ENDS)),
            WrongFilling(GOES_ON, ("engine.close()", _EXIT, _ENDS)),
            WrongFilling(ORPHANS, (_ABORT, "raise SystemExit(1)", _ENDS)),
            WrongFilling(UNSEEN, (_ABORT, _EXIT, "[children[0].sentinel]")),
            WrongFilling(
                "it stops there, in line 23 of this cell: `died, *_ = multiprocessing.connection.wait(children)`",
                (_ABORT, _EXIT, "children"),
            ),
            WrongFilling(
                """it stops there, in line 24 of this cell: `raise SystemExit(f"{ends[died]} has died, so the """
                """server ends")`""",
                (_ABORT, _EXIT, "[child.pipe for child in children]"),
            ),
        ),
        hints=(
            "An empty message from a client ends its row. Which call ends a process from any of its threads?",
            "`sys.exit` raises an exception, and only in its own thread; `os._exit` doesn't. `ends` has all sentinels.",
            '`engine.send(b"")`, `os._exit(1)` and `ends`.',
        ),
        judge=judge_step_5,
    ),
    Blank(
        name="07a.b1",
        cell="scored",
        task="write the score of an engine core, from its published load and from this front end's requests in flight",
        right=(
            ("max(2 * in_flight, published)",),
            ("published + in_flight",),
            ("max(published, in_flight)",),
        ),
        wrong=(
            WrongFilling(OLD_NEWS, ("published",)),
            WrongFilling(ONLY_ITS_OWN, ("in_flight",)),
            WrongFilling(OLD_NEWS, ("min(published, in_flight)",)),
            WrongFilling(OLD_NEWS, ("published * in_flight",)),
            WrongFilling(BY_NEWS_FIRST, ("(published, in_flight)",)),
        ),
        hints=(
            "What does a front end know that the published load does not have yet?",
            "The published load misses what was sent since; the own count misses what others have sent. Use both.",
            "`max(published, …)`, with this front end's own count. vLLM multiplies that by the number of front ends.",
        ),
        judge=judge_the_score,
    ),
    Blank(
        name="07a.b2",
        cell="refused",
        task="let the front end refuse a request that finds a full queue or no core: it neither waits nor drops",
        right=(
            ("zmq.NOBLOCK", "error.errno == zmq.EAGAIN", "zmq.ROUTER_MANDATORY"),
            ("flags=zmq.DONTWAIT", "isinstance(error, zmq.Again)", "zmq.SocketOption.ROUTER_MANDATORY"),
            ("zmq.NOBLOCK", "error.errno != zmq.EHOSTUNREACH", "zmq.ROUTER_MANDATORY"),
        ),
        wrong=(
            WrongFilling(DROPPED, ("zmq.NOBLOCK", "error.errno == zmq.EAGAIN", "zmq.ROUTER_HANDOVER")),
            WrongFilling(WAITS, ("0", "error.errno == zmq.EAGAIN", "zmq.ROUTER_MANDATORY")),
            WrongFilling(FULL_AS_GONE, ("zmq.NOBLOCK", "isinstance(error, BlockingIOError)", "zmq.ROUTER_MANDATORY")),
            WrongFilling(FULL_AS_GONE, ("zmq.NOBLOCK", "error.errno == zmq.EHOSTUNREACH", "zmq.ROUTER_MANDATORY")),
            WrongFilling(GONE_AS_FULL, ("zmq.NOBLOCK", "error", "zmq.ROUTER_MANDATORY")),
            WrongFilling(DROPPED, ("0", "error.errno == zmq.EAGAIN", "zmq.IMMEDIATE")),
            WrongFilling(DROPPED, ("zmq.NOBLOCK", "error.errno == zmq.EAGAIN", "zmq.SNDHWM")),
        ),
        hints=(
            "What did a ROUTER do with 20,000 messages, before and after it was made mandatory? And by which number "
            "does an error of the system say which one it is?",
            "A mandatory ROUTER's send has two errors: EAGAIN, if it would have to wait, and EHOSTUNREACH, if nobody "
            "has that identity. `error.errno` has the number.",
            "The flag of the table, `error.errno == zmq.…`, and the option `zmq.ROUTER_…`",
        ),
        judge=judge_the_offers,
    ),
    Blank(
        name="07a.b3",
        cell="received",
        task="read the frame by msgspec, as an Abort and nothing else",
        right=(
            ("msgspec.msgpack.decode(frame, type=Abort)",),
            ("msgspec.msgpack.Decoder(Abort).decode(frame)",),
        ),
        wrong=(
            WrongFilling(UNCHECKED, ("msgspec.msgpack.decode(frame)",)),
            WrongFilling(RAN, ("by_pickle(frame)",)),
            WrongFilling(TAKES_NONE, ("msgspec.json.decode(frame, type=Abort)",)),
            WrongFilling(TAKES_NONE, ("msgspec.msgpack.decode(frame, type=dict)",)),
        ),
        hints=(
            "Who should say which class a frame has to be: the sender or the receiver?",
            "`msgspec.msgpack.decode` has an argument for the class that you expect.",
            "`msgspec.msgpack.decode(frame, type=…)`",
        ),
        judge=judge_the_receiver,
    ),
)

"""The blanks of appendix 07a: a score, a sender that refuses, and a receiver that checks."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed, stopped_by

# ---- 07a.b1: a score -------------------------------------------------------------------------------------------------

OLD_NEWS = (
    "both front ends send the whole burst to one core: until the next news the published load stays the same, whatever "
    "they send, so their own requests in flight must count as well"
)
ONLY_ITS_OWN = (
    "the core with 40 requests gets as many as the idle one: a front end's own count knows nothing of others' requests"
)


def judge_the_score(scored: ProcessResult) -> Verdict:
    idle, busy = (scored.by("row")[f"yours, {load}"]["got"] for load in (0, 40))
    measured = f"both idle: {idle[0]} and {idle[1]} of the burst; core 1 with 40: {busy[0]} and {busy[1]}"
    cause = OLD_NEWS if idle != [8, 8] else "" if busy == [16, 0] else ONLY_ITS_OWN
    if cause:
        return failed(measured, "8 and 8 if both were idle, and 16 and 0 if core 1 had 40", cause)
    return passed(measured)


# ---- 07a.b2: a sender that refuses -----------------------------------------------------------------------------------

WAITS = (
    "the front end waits for room in the queue of the core that hangs, and nobody else is served: a flag tells a send "
    "not to wait"
)
NOT_CAUGHT = (
    "the error of a send that would have to wait is not the one that is caught: ZeroMQ raises zmq.Again, which is no "
    "OSError"
)
DROPPED = (
    "messages were taken that nobody ever got: by default a ROUTER drops those for which there is no room, and an "
    "option of the socket makes it say so"
)


def judge_the_offers(refused: ProcessResult) -> Verdict:
    expected = "core 0 serves all of its clients, and core 1 answers each request that was taken"
    if refused.ended == "timeout":
        return failed("the front end did not come to an end", expected, WAITS)
    if "zmq.error.Again" in refused.output:
        return failed("the front end ended by zmq.Again", expected, NOT_CAUGHT)
    told = refused.told
    measured = f"of {told['taken']} requests that were taken for core 1, it answered {told['answered']}"
    if told["answered"] < told["taken"]:
        return failed(measured, expected, DROPPED)
    return passed(f"{measured}; {told['refused']} were refused, and core 0 served {told['served']}")


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
        task="let the front end refuse a request that finds a full queue: it neither waits nor drops",
        right=(
            ("zmq.NOBLOCK", "zmq.Again", "zmq.ROUTER_MANDATORY"),
            ("flags=zmq.DONTWAIT", "zmq.ZMQError", "zmq.SocketOption.ROUTER_MANDATORY"),
        ),
        wrong=(
            WrongFilling(DROPPED, ("zmq.NOBLOCK", "zmq.Again", "zmq.ROUTER_HANDOVER")),
            WrongFilling(WAITS, ("0", "zmq.Again", "zmq.ROUTER_MANDATORY")),
            WrongFilling(NOT_CAUGHT, ("zmq.NOBLOCK", "BlockingIOError", "zmq.ROUTER_MANDATORY")),
            WrongFilling(DROPPED, ("0", "zmq.Again", "zmq.IMMEDIATE")),
        ),
        hints=(
            "What did a ROUTER do with 20,000 messages, before and after it was made mandatory?",
            "The flag is zmq.NOBLOCK, as in the table, and the error of a send that would wait is zmq.Again.",
            "`zmq.NOBLOCK`, `zmq.Again`, and the option `zmq.ROUTER_…`",
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

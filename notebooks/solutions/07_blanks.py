"""The blanks of notebook 07: a bound socket, handed over."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed, stopped_by

# ---- 07.b1: the bound socket is handed over --------------------------------------------------------------------------

DEAF = (
    "the socket has its port and doesn't listen, so clients are refused; and libzmq, which only accepts, ends the "
    "child by SIGABRT"
)
ANEW = (
    "the child binds the address anew while its launcher still holds it, because its ZeroMQ socket was not told of the "
    "one that was passed on"
)
ELSEWHERE = "the child listens at another address than the one that its clients were told"


def judge_the_handover(ways: ProcessResult) -> Verdict:
    way = ways.by("way")["bound, passed on"]
    starts, met, answers = way["starts"], way["clients"], way["answers"]
    measured = (
        f"lost starts: {way['lost']} of {starts}; clients connected before the child: {met.get('connected', 0)}, "
        f"answered by it: {answers.get('answered', 0)}"
    )
    broken = [came for came in way["came"] if came not in ("bound", "lost", "ended by SIGABRT")]
    findings = (("refused" in met, DEAF), (way["lost"], ANEW), ("not answered" in answers, ELSEWHERE))
    if broken:
        return stopped_by(broken[0])
    cause = next((cause for found, cause in findings if found), "")
    if cause:
        return failed(measured, "no start is lost, and every client is connected at once and answered", cause)
    return passed(measured)


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
            WrongFilling(ANEW, ("sock.listen()", "receiver.setsockopt(zmq.LINGER, 0)")),
            WrongFilling(ANEW, ("sock.listen()", "sock.close()")),
            WrongFilling(ELSEWHERE, ("sock.listen()", 'address = "tcp://127.0.0.1:*"')),
        ),
        hints=(
            "Two things make a port answer: bind and … ? And which number stands for a socket that a process has?",
            "ZeroMQ has an option for a descriptor that is bound and listens already: USE_FD. bind() then adopts it.",
            "`sock.listen()`, and `receiver.setsockopt(zmq.USE_FD, …)` with the descriptor's number.",
        ),
        judge=judge_the_handover,
    ),
)

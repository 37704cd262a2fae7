"""How the predictions of appendix 03a are judged, drawn and claimed."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.verdicts import Claim, Found, Judge
from lab_support.notebook.page.tables import Table

# ---- 03a.1: in flight ------------------------------------------------------------------------------------------------


def look_at_the_pipe(in_flight: ProcessResult) -> Found:
    told = in_flight.told
    state = "at its end" if told["at_its_end"] else "open"
    counted, read = told["counted"], told["read"]
    return Found(
        measured="close() waits" if in_flight.ended == "timeout" else state,
        shown=Table(("the pipe, with its write end in flight", "read once it was received"), ((state, read),)),
        claims=(
            Claim(
                "A descriptor in flight keeps its object alive, though no process holds it",
                state == "open" and read == "still there",
                got=read,
            ),
            Claim(
                "The socket at which it waits counts it",
                counted == 1,
                got=counted,
                untestable="this kernel does not count them" if counted is None else "",
            ),
        ),
    )


# ---- 03a.2: four roads -----------------------------------------------------------------------------------------------

OPEN, PULLED, NONE = "left open", "pulled by the receiver", "not at all"
ROADS = ("subprocess, pass_fds=", "systemd's socket activation", "pidfd_getfd", "ZMQ_USE_FD in a spawned child")


def find_the_roads(
    pass_fds: ProcessResult, activation: ProcessResult, pulled: ProcessResult, adopted: ProcessResult
) -> Found:
    has = {passed: seen["here"] == seen["there"] for passed, seen in pass_fds.by("passed").items()}
    answer, pull, received = activation.told["answer"], pulled.told, adopted.told["received"]
    same = pull["here"] == pull["there"]
    roads = (
        OPEN if has[1] and not has[0] else NONE,
        OPEN if answer == "served from descriptor 3" else NONE,
        PULLED if same else NONE,
        OPEN if received == "sent before anybody served" else NONE,
    )
    seen = (
        f"same socket there: {has[1]}; without it: {has[0]}",
        f"the client got: {answer}",
        pull["why"] or f"{pull['here']} here, {pull['there']} there",
        f"received: {received}",
    )
    return Found(
        rows=dict(zip(ROADS, roads, strict=True)),
        seen=dict(zip(ROADS, seen, strict=True)),
        claims=(
            Claim(
                "pidfd_getfd pulled the child's socket out of its table",
                same,
                untestable=f"pidfd_getfd: {pull['why']}" if pull["why"] else "",
            ),
        ),
    )


# ---- 03a.3: the bystander --------------------------------------------------------------------------------------------


def watch_the_end(leak: ProcessResult) -> Found:
    ways = leak.by("way")
    rows = tuple(
        (way, *("yes" if seen[key] else "no" for key in ("ended", "without_it"))) for way, seen in ways.items()
    )
    fork, spawn, careful = ways["fork"], ways["spawn"], ways["fork, careful"]
    return Found(
        measured=(fork["ended"], spawn["ended"]),
        shown=Table(("bystander", "the client sees the end", "once the bystander is gone"), rows),
        claims=(
            Claim(
                "A forked bystander keeps the client from seeing the end until it is gone, and a spawned one doesn't",
                (fork["ended"], fork["without_it"], spawn["ended"]) == (False, True, True),
            ),
            Claim("A forked bystander that lets go of the connection doesn't either", careful["ended"]),
        ),
    )


# ---- 03a.4: two traps ------------------------------------------------------------------------------------------------


def meet_the_traps(full: ProcessResult, on_arrival: ProcessResult) -> Found:
    sent, waits = full.told["sent"], "then" in full.told
    plain, marked = on_arrival.by("received").values()
    rows = tuple(
        (name, str(seen["inheritable"]), str(seen["in_the_next_program"]))
        for name, seen in on_arrival.by("received").items()
    )
    return Found(
        measured=sent if waits else "no end",
        shown=Table(("received", "inheritable", "the next program has it"), rows),
        claims=(
            Claim(
                "With no reader, a sender must wait after some hundred messages", waits and 30 < sent < 3000, got=sent
            ),
            Claim(
                "A descriptor arrives inheritable, and with MSG_CMSG_CLOEXEC it ends at the exec",
                (plain["in_the_next_program"], marked["in_the_next_program"]) == (True, False),
            ),
        ),
    )


def letter_of_messages(sent: int | str) -> str:
    if isinstance(sent, str):
        return "c"
    return "a" if sent < 2 else "d" if sent < 3000 else "b"


# ---- the path, and sockets that are closed or pickled ----------------------------------------------------------------


def list_what_is_left_open(left_open: ProcessResult) -> Found:
    *starts, last = (event.fields for event in left_open.events)
    rows = tuple((_program(start["command"]), str(start["left_open"])) for start in starts)
    return Found(
        shown=Table(("program", "left open"), rows),
        claims=(
            Claim(
                "The socket's number is on spawn's list of descriptors to leave open",
                last["socket"] in starts[-1]["left_open"],
                got=last["socket"],
            ),
        ),
    )


def _program(command: list[str]) -> str:
    return next(word for word in command if word.startswith("from ")).split()[1]


def compare_the_refusals(closed: ProcessResult, ticket: ProcessResult) -> Found:
    came = {way: seen["came"] for way, seen in closed.by("way").items()}
    kinds = [text.partition(":")[0] for text in came.values()]
    told = ticket.told
    return Found(
        shown=Table(("start method", "a socket that was closed before start()"), tuple(came.items())),
        claims=(
            Claim(
                "spawn and forkserver refuse a socket that is closed before start(), and fork does not notice",
                kinds == ["a socket with the number -1", "ValueError", "OSError"],
            ),
            Claim(
                "Pickling a socket on its own starts a thread, and keeps the socket open until the pickle is loaded",
                told["new_threads"] == 1 and told["open_though_closed"],
            ),
            Claim("Such a pickle can be loaded once, and no second time", told.get("loaded_again") == "EOFError"),
        ),
    )


JUDGES = (
    Judge(
        "03a.1",
        find=look_at_the_pipe,
        letter=lambda state: {"at its end": "a", "open": "b", "close() waits": "c"}[state],
        reached={"a": "at its end", "b": "open", "c": "close() waits"},
    ),
    Judge(
        "03a.2",
        find=find_the_roads,
        expected={road: OPEN for road in ROADS if road != "pidfd_getfd"},
        row_words="By {row}, the socket is {option}",
    ),
    Judge(
        "03a.3",
        find=watch_the_end,
        letter=lambda ended: {(True, True): "a", (False, True): "b", (True, False): "c", (False, False): "d"}[ended],
        reached={"a": (True, True), "b": (False, True), "c": (True, False), "d": (False, False)},
    ),
    Judge(
        "03a.4",
        find=meet_the_traps,
        letter=letter_of_messages,
        reached={"a": 0, "b": 16_000, "c": "no end", "d": 278},
    ),
    Judge("03a.path", find=list_what_is_left_open),
    Judge("03a.closed", find=compare_the_refusals),
)

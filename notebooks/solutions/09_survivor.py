"""09.2, should: the reader's server of 07 survives the death of an API server."""

from pathlib import Path

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

WATCH = '''\
import multiprocessing.connection


def watch(children, start_api_server):
    """In the launcher of your server, after READY. Ends it with SystemExit, which names the child that died.

    children: each has `name` and `sentinel`. When the launcher ends, those in this list are killed
    start_api_server: a function of a name. It returns a new child, which takes clients by itself
    """
    ends = {child.sentinel: child for child in children}
    died, *_ = multiprocessing.connection.wait(ends)
    raise SystemExit(f"{ends[died].name} has died, so the server ends")
'''
_BODY = WATCH[WATCH.index("    ends = {") :]


def _with(body: str) -> str:
    return changed(WATCH, _BODY, body)


WATCH_ALL = _with(
    """\
    ends = {child.sentinel: child for child in children}
    while True:
        for end in multiprocessing.connection.wait(ends):
            died = ends.pop(end)
            if not died.name.startswith("api-"):
                raise SystemExit(f"{died.name} has died, so the server ends")
            successor = start_api_server(died.name)
            children.append(successor)
            ends[successor.sentinel] = successor
"""
)
WATCH_IN_PLACE = _with(
    """\
    while True:
        ends = {child.sentinel: place for place, child in enumerate(children)}
        for end in multiprocessing.connection.wait(list(ends)):
            died = children[ends[end]]
            if died.name == "engine-0":
                raise SystemExit("engine-0 has died, so the server ends")
            children[ends[end]] = start_api_server(died.name)
"""
)
WATCH_BY_RECURSION = _with(
    """\
    end, *_ = multiprocessing.connection.wait([child.sentinel for child in children])
    died = next(child for child in children if child.sentinel == end)
    if "api" not in died.name:
        raise SystemExit(f"{died.name} has died, so the server ends")
    children.remove(died)
    children.append(start_api_server(died.name))
    watch(children, start_api_server)
"""
)

THE_SAME = "an API server was killed, and no other has taken its place: start one"
OVER = (
    "the server has ended because an API server had: `watch` has to start another one, and to go on waiting; it may "
    "end only with the engine core"
)
ONCE = "the successor was killed as well, and nobody noticed: watch its sentinel, too"
NOT_THE_ENGINE = (
    "without the engine core no token comes, and another API server does not help: the server has to end, and to name "
    "it"
)
NOT_IN_THE_LIST = (
    "the launcher waits for a successor that nobody has ended: `children` has those that are killed at its end"
)
OTHERWISE = "clients did not get their own tokens from the server with its successors"

WATCH_WRONG = (
    Wrong(
        THE_SAME,
        changed(
            WATCH_ALL,
            "            successor = start_api_server(died.name)\n"
            "            children.append(successor)\n"
            "            ends[successor.sentinel] = successor\n",
            "",
        ),
    ),
    Wrong(
        OVER,
        _with(
            """\
    ends = {child.sentinel: child for child in children}
    died, *_ = multiprocessing.connection.wait(ends)
    if not ends[died].name.startswith("api-"):
        raise SystemExit(f"{ends[died].name} has died, so the server ends")
    children.append(start_api_server(ends[died].name))
"""
        ),
    ),
    Wrong(
        ONCE,
        _with(
            """\
    ends = {child.sentinel: child for child in children}
    while True:
        for end in multiprocessing.connection.wait(ends):
            died = ends.pop(end)
            if not died.name.startswith("api-"):
                raise SystemExit(f"{died.name} has died, so the server ends")
            children.append(start_api_server(died.name))
"""
        ),
    ),
    Wrong(
        NOT_IN_THE_LIST,
        changed(WATCH_ALL, "            children.append(successor)\n", ""),
    ),
    Wrong(
        NOT_THE_ENGINE,
        changed(
            WATCH_ALL,
            '            if not died.name.startswith("api-"):\n'
            '                raise SystemExit(f"{died.name} has died, so the server ends")\n',
            "",
        ),
    ),
)

_SERVER = Path(__file__).with_name("my_server.py")
_TAKES_WATCH = (
    "        watch(children)\n",
    "        watch(children, lambda name: spawn(name, child, api_server, address, listening_socket))\n",
    'if __name__ == "__main__":\n',
    'from answer import watch  # noqa: E402, F811\n\nif __name__ == "__main__":\n',
)
MEASURE_WATCH = """
from pathlib import Path
import answer
from lab_support.notebook.script import emit, inputs
from lab_support.notebook.stages import server_trial

answer.watch  # so that a missing one is told
server = Path(answer.__file__).with_name("my_server.py")
server.write_text(inputs()["server"])
emit(measured=server_trial.survival(str(server)))
"""


def judge_watch(attempt: Attempt) -> Verdict:
    server = changed(_SERVER.read_text(encoding="utf-8"), *_TAKES_WATCH)
    seen = attempt.measure(MEASURE_WATCH, inputs={"server": server}, timeout=60.0)
    left = f"left running: {', '.join(seen['left']) or 'nothing'}" if "left" in seen else ""
    measured = "; ".join(
        filter(None, (f"{seen['replaced']} of 2 deaths made good", f"{seen['own']} of 8 clients served", left))
    )
    expected = "2 of 2 deaths made good; 8 of 8 clients served; after the engine core's death, left running: nothing"
    cause = _cause(seen)
    return failed(measured, expected, cause) if cause else passed(measured)


def _cause(seen: dict[str, object]) -> str:
    findings = (
        (bool(seen.get("over")), OVER),
        (seen["replaced"] == 0, THE_SAME),
        (seen["replaced"] == 1, ONCE),
        (seen["own"] != 8, OTHERWISE),
        (not seen.get("named"), NOT_THE_ENGINE),
        (not seen.get("ended"), NOT_IN_THE_LIST),
    )
    return next((cause for found, cause in findings if found), "")


EXERCISES = (
    Exercise(
        name="09.2",
        kind="should",
        task="let your server go on when an API server dies, and end when its engine core does",
        skeleton=WATCH,
        reference=WATCH_ALL,
        also_right=(WATCH_IN_PLACE, WATCH_BY_RECURSION),
        wrong=WATCH_WRONG,
        hints=(
            "Which of your processes can be replaced, and which has something that no other one has?",
            "`wait` has to go on, with the successor's sentinel in place of the dead one's.",
            "In a loop: an API server's end calls `start_api_server`, and its result goes into `ends` and `children`.",
        ),
        judge=judge_watch,
    ),
)

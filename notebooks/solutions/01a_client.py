"""01a.1, could: a client that can be used on both sides of a fork."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

CLIENT = '''\
%%python_process --name client --timeout 4 --expect any --into client
import os, socket
from lab_support.notebook.stages.line_server import line_server

class Client:
    """Asks a server. A question is a line, and so is its answer. It keeps its connection from one to the next."""

    def __init__(self, address):
        self.address = address
        self.connection = socket.create_connection(address)

    def ask(self, question):
        """Runs in the process that made the client, and in every child of it."""
        self.connection.sendall(question.encode() + b"\\n")
        answer = b""
        while not answer.endswith(b"\\n"):
            answer += self.connection.recv(1)
        return answer.decode().strip()

if __name__ == "__main__":
    with line_server() as address:              # it answers with the question itself
        client = Client(address)
        child = os.fork()
        print("answered:", client.ask("the parent's question" if child else "the child's question"))
        os.wait() if child else os._exit(0)
'''
_KEEP = "        self.connection = socket.create_connection(address)\n"
_SEND = '        self.connection.sendall(question.encode() + b"\\n")\n'
_CONNECT = "self.connection = socket.create_connection(self.address)"

CLIENT_BY_PID = changed(
    CLIENT,
    _KEEP,
    _KEEP + "        self.owner = os.getpid()\n",
    _SEND,
    f"""\
        if self.owner != os.getpid():
            {_CONNECT}
            self.owner = os.getpid()
"""
    + _SEND,
)
CLIENT_AT_FORK = changed(
    CLIENT,
    _KEEP,
    """\
        self.connect()
        os.register_at_fork(after_in_child=self.connect)

    def connect(self):
        self.connection = socket.create_connection(self.address)
""",
)
CLIENT_EACH_TIME = changed(CLIENT, _SEND, f"        {_CONNECT}\n" + _SEND)
CLIENT_IN_TURN = changed(
    CLIENT,
    "import os, socket\n",
    "import multiprocessing, os, socket\n",
    _KEEP,
    _KEEP + "        self.lock = multiprocessing.Lock()       # in shared memory: one lock for all\n",
    _SEND,
    "        self.lock.acquire()\n" + _SEND,
    "        return answer.decode().strip()\n",
    "        self.lock.release()\n        return answer.decode().strip()\n",
)

SHARED = (
    "parent and child read from one connection, and each piece goes to whoever reads first; after a fork, the child "
    "needs a connection of its own"
)
CUT = (
    "the child has ended the connection for its parent, too: shutdown() acts on the connection, which they share, and "
    "close() on the child's descriptor alone"
)

CLIENT_WRONG = (
    Wrong(
        SHARED,
        changed(
            CLIENT,
            "import os, socket\n",
            "import os, socket, threading\n",
            _KEEP,
            _KEEP + "        self.lock = threading.Lock()\n",
            _SEND,
            "        self.lock.acquire()\n" + _SEND,
            "        return answer.decode().strip()\n",
            "        self.lock.release()\n        return answer.decode().strip()\n",
        ),
    ),
    Wrong(
        SHARED,
        changed(
            CLIENT,
            "import os, socket\n",
            "import os, socket, threading\n",
            _KEEP,
            _KEEP + "        self.owner = threading.get_ident()\n",
            _SEND,
            f"""\
        if self.owner != threading.get_ident():
            {_CONNECT}
"""
            + _SEND,
        ),
    ),
    Wrong(
        SHARED,
        changed(
            CLIENT,
            _KEEP,
            _KEEP + "        self.owner = os.getpid()\n",
            _SEND,
            """\
        if self.owner != os.getpid():
            self.connection = self.connection.dup()
            self.owner = os.getpid()
"""
            + _SEND,
        ),
    ),
    Wrong(
        CUT,
        changed(
            CLIENT_BY_PID,
            f"            {_CONNECT}\n",
            f"            self.connection.shutdown(socket.SHUT_RDWR)\n            {_CONNECT}\n",
        ),
    ),
)

MEASURE_CLIENT = """
import json, os, signal
from lab_support.notebook.stages.line_server import line_server
from lab_support.notebook.script import emit
import answer

ROUNDS = 3

def ask_all(who):
    # What came for each question; a word for what went wrong ends the list.
    signal.signal(signal.SIGALRM, too_late)
    signal.alarm(3)
    heard = []
    try:
        for number in range(ROUNDS):
            heard.append(client.ask(f"question {number} of the {who}"))
    except TimeoutError:
        heard.append("waits")
    except (OSError, UnicodeDecodeError) as error:
        heard.append(type(error).__name__)
    signal.alarm(0)
    return heard

def too_late(*_):
    raise TimeoutError

with line_server() as address:
    client = answer.Client(address)
    first = client.ask("hello")
    reads, writes = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writes, json.dumps(ask_all("child")).encode())
        os._exit(0)
    os.close(writes)
    parent = ask_all("parent")
    os.waitpid(child, 0)
    told = os.read(reads, 65536)
emit(measured={"first": first, "parent": parent, "child": json.loads(told) if told else ["ended"]})
"""
_ROUNDS = 3


def judge_client(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_CLIENT, timeout=15.0)
    right = {who: sum(_as_asked(seen, who)) for who in ("parent", "child")}
    measured = f"answered as asked: the parent {right['parent']} of {_ROUNDS} times, the child {right['child']}"
    if right == {"parent": _ROUNDS, "child": _ROUNDS}:
        return passed(f"parent and child asked at once, and each got its own answers, {_ROUNDS} of {_ROUNDS}")
    expected = "parent and child ask at once, and each gets the answers to its own questions"
    cut = seen["parent"][-1] in ("IndexError", "BrokenPipeError", "ConnectionResetError") or (
        right["child"] == _ROUNDS and right["parent"] < _ROUNDS
    )
    return failed(measured, expected, CUT if cut else SHARED)


def _as_asked(seen: dict[str, list[str]], who: str) -> list[bool]:
    return [answer == f"question {number} of the {who}" for number, answer in enumerate(seen[who])]


EXERCISES = (
    Exercise(
        name="01a.1",
        kind="could",
        task="make `Client` safe: used by a parent and its forked child at once, each gets its own answers",
        skeleton=CLIENT,
        reference=CLIENT_BY_PID,
        also_right=(CLIENT_AT_FORK, CLIENT_EACH_TIME, CLIENT_IN_TURN),
        wrong=CLIENT_WRONG,
        hints=(
            "Which of the two processes has the connection: the parent, the child, or both?",
            "The client has to notice that it is in another process than before. What differs after a fork?",
            "Remember `os.getpid()` beside the connection. Where it has changed, connect anew before you ask.",
        ),
        judge=judge_client,
    ),
)

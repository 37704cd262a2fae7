"""00.2, should: a health check that the kernel answers, whatever the server does."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

HEALTHY = '''\
%%python_process --name healthy --timeout 60 --expect any --into healthy
import os, signal, socket
from lab_support.notebook.servers.live_server import live_server

def is_healthy(host, port):
    """Whether the server there works. Answers within three seconds."""
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False

if __name__ == "__main__":
    with live_server() as server:
        for role in server.api_servers:
            os.kill(server.pids[role], signal.SIGSTOP)
        print("all API servers stand still; healthy:", is_healthy("127.0.0.1", server.port))
        for role in server.api_servers:
            os.kill(server.pids[role], signal.SIGCONT)
'''
_BODY = """\
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False
"""
_ASK = 'b"GET /health HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n"'
HEALTHY_RIGHT = changed(
    HEALTHY,
    "import os, signal, socket",
    "import os, requests, signal",
    _BODY,
    """\
    try:
        return requests.get(f"http://{host}:{port}/health", timeout=2).status_code == 200
    except requests.RequestException:
        return False
""",
)
HEALTHY_BY_SOCKET = changed(
    HEALTHY,
    "            return True\n",
    "",
    "timeout=2):",
    f"""timeout=2) as connection:
            connection.sendall({_ASK})
            return b" 200 " in connection.recv(100).partition(b"\\r")[0]""",
)
HEALTHY_BY_URLLIB = changed(
    HEALTHY,
    "import os, signal, socket",
    "import os, signal, urllib.request",
    _BODY,
    """\
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
""",
)

BY_THE_KERNEL = (
    "the kernel completes a connection by itself and keeps it in the socket's queue, so a connection says that "
    "somebody listens, not that somebody works: ask a question, and wait for the answer"
)
ANY_STATUS = "an answer is not enough: a server that can't serve says so with another status, such as 503"
NO_END = "it waits without a limit for an answer that does not come: give the question a time limit"
RAISES = "an error of the connection means that the server does not work: answer False"
NEVER = "it says no to a server that answers with 200"

HEALTHY_WRONG = (
    Wrong(
        BY_THE_KERNEL,
        changed(
            HEALTHY,
            "            return True\n",
            f"            connection.sendall({_ASK})\n            return True\n",
            "timeout=2):",
            "timeout=2) as connection:",
        ),
    ),
    Wrong(BY_THE_KERNEL, changed(HEALTHY, "timeout=2):", "timeout=0.5):")),
    Wrong(ANY_STATUS, changed(HEALTHY_RIGHT, ".status_code == 200", ".status_code > 0")),
    Wrong(NO_END, changed(HEALTHY_RIGHT, ", timeout=2)", ")")),
    Wrong(RAISES, changed(HEALTHY_RIGHT, "except requests.RequestException:", "except requests.Timeout:")),
    Wrong(NEVER, changed(HEALTHY_RIGHT, "/health", "/healthy")),
)

# Servers of a few lines stand for one that works, one that drains and one that stands still.
MEASURE_HEALTHY = """
import os, signal, socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from lab_support.notebook.script import emit, in_child
import answer

def handler(status):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
        def log_message(self, *_):
            pass
    return Handler

def server(status):
    http = HTTPServer(("127.0.0.1", 0), handler(status))
    pid = os.fork()
    if pid == 0:
        http.serve_forever()
    return http.server_address[1], pid

def asked(port):
    said = in_child(lambda: answer.is_healthy("127.0.0.1", port), 4.0)
    return said if isinstance(said, bool) else str(said)

(works, first), (drains, second) = server(200), server(503)
still = socket.create_server(("127.0.0.1", 0))
with socket.create_server(("127.0.0.1", 0)) as gone:
    free = gone.getsockname()[1]
ports = {"works": works, "answers 503": drains, "stands still": still.getsockname()[1], "is gone": free}
emit(measured={name: asked(port) for name, port in ports.items()})
for pid in (first, second):
    os.kill(pid, signal.SIGKILL)
"""


def judge_healthy(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_HEALTHY, timeout=25.0)
    measured = "; ".join(f"a server that {name}: {said}" for name, said in seen.items())
    if seen == {"works": True, "answers 503": False, "stands still": False, "is gone": False}:
        return passed(measured)
    expected = "True for a server that works, False for all others"
    return failed(measured, expected, _cause_of_healthy(seen))


def _cause_of_healthy(seen: dict[str, object]) -> str:
    findings = (
        (seen["stands still"] is True, BY_THE_KERNEL),
        (seen["stands still"] == "stuck", NO_END),
        (seen["works"] is not True, NEVER),
        (seen["answers 503"] is True, ANY_STATUS),
        (True, RAISES),
    )
    return next(cause for holds, cause in findings if holds)


EXERCISES = (
    Exercise(
        name="00.2",
        kind="should",
        task="all API servers stand still, and `is_healthy` says True; find out who answered it, and mend it",
        skeleton=HEALTHY,
        reference=HEALTHY_RIGHT,
        also_right=(HEALTHY_BY_SOCKET, HEALTHY_BY_URLLIB),
        wrong=HEALTHY_WRONG,
        hints=(
            "Nobody called `accept()`, and the connection was made all the same. Who made it?",
            "The kernel puts a connection into the socket's queue. Only a process can answer a question on it.",
            "Ask for /health with a time limit, and look at the status: "
            '`requests.get(f"http://{host}:{port}/health", timeout=2).status_code == 200`.',
        ),
        judge=judge_healthy,
    ),
)

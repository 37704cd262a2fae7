"""04a.1, should: a worker's own listen() cuts the accept queue of all."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

FEW = '''\
%%python_process --name few --timeout 15 --expect any --into few
import asyncio, os
from lab_support.notebook.crew import crew

async def answer(reader, writer):
    writer.write(b"%d" % os.getpid())
    writer.close()

async def serve(listening_socket):
    """Runs in each worker. The launcher has called listen(512) on the socket."""
    server = await asyncio.start_server(answer, sock=listening_socket, backlog=1)   # be modest: one at a time
    await server.serve_forever()

if __name__ == "__main__":
    with crew(2, lambda listening_socket: asyncio.run(serve(listening_socket))) as workers:
        workers.stop()                              # both are busy for a moment
        clients = workers.connect(200, finished=False)
        print("connections in the accept queue:", *workers.queued())
        workers.go_on()
        print("after 1.5 s:", clients.outcome(1.5))
'''
_SERVER = (
    "    server = await asyncio.start_server(answer, sock=listening_socket, backlog=1)   # be modest: one at a time\n"
)
_CALL = "    server = await asyncio.start_server(answer, sock=listening_socket"
FEW_RIGHT = changed(FEW, _SERVER, f"{_CALL}, backlog=512)\n")
FEW_LISTENS_AGAIN = changed(FEW, _SERVER, f"{_CALL}, backlog=1)\n    listening_socket.listen(512)\n")
FEW_WITHOUT_LISTEN = changed(
    FEW,
    _SERVER + "    await server.serve_forever()\n",
    """\
    listening_socket.setblocking(False)
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(listening_socket)
        await loop.sock_sendall(connection, b"%d" % os.getpid())
        connection.close()
""",
)

CUT_TO = (
    "the queue is still cut: asyncio calls listen() on the socket that you give it, and a listen() counts for all "
    "holders; give it the launcher's backlog"
)
DEFAULT = "the queue is cut to 100: that is asyncio's own default, and it calls listen() with it, on the shared socket"
NOT_ANSWERED = "connections wait, and nobody takes them: each worker has to go on accepting"

FEW_WRONG = (
    Wrong(DEFAULT, changed(FEW, _SERVER, f"{_CALL})\n")),
    Wrong(CUT_TO, changed(FEW, _SERVER, f"{_CALL}, backlog=2)\n")),
    Wrong(CUT_TO, changed(FEW, _SERVER, f"{_CALL}, backlog=64)\n")),
    Wrong(CUT_TO, changed(FEW, _SERVER, f"    listening_socket.listen(512)\n{_CALL}, backlog=1)\n")),
    Wrong(
        NOT_ANSWERED,
        changed(FEW, _SERVER + "    await server.serve_forever()\n", "    await asyncio.sleep(3600)\n"),
    ),
)

MEASURE_FEW = """
import asyncio
import answer
from lab_support.instruments.kernel import accept_queues
from lab_support.notebook.crew import crew
from lab_support.notebook.script import emit

with crew(2, lambda listening_socket: asyncio.run(answer.serve(listening_socket))) as workers:
    workers.stop()
    clients = workers.connect(200, finished=False)
    queued, limit = workers.queued()[0], accept_queues(workers.port).queues[0].limit
    workers.go_on()
    emit(measured={"queued": queued, "limit": limit, **clients.outcome(2.0 if queued == 200 else 0.5)})
"""


def judge_few(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_FEW)
    measured = f"of 200 clients at once, {seen['queued']} were in the queue, and {seen['answered']} were answered soon"
    findings = (
        (seen["queued"] in (100, 101), DEFAULT),
        (seen["queued"] < 200, CUT_TO),
        (seen["answered"] < 200, NOT_ANSWERED),
    )
    cause = next((cause for found, cause in findings if found), "")
    if cause:
        return failed(measured, "all 200 are in the queue while the workers are busy, and all are answered", cause)
    return passed("all 200 clients were in the queue while the workers were busy, and all were answered")


EXERCISES = (
    Exercise(
        name="04a.1",
        kind="should",
        task="find out why most of the clients wait, and mend the workers so that all are answered at once",
        skeleton=FEW,
        reference=FEW_RIGHT,
        also_right=(FEW_LISTENS_AGAIN, FEW_WITHOUT_LISTEN),
        wrong=FEW_WRONG,
        hints=(
            "How many clients were in the queue while the workers stood still, and how many had the launcher allowed?",
            "The backlog belongs to the socket, and all workers have the same socket. Who called listen() last?",
            "`asyncio.start_server(answer, sock=listening_socket, backlog=512)`",
        ),
        judge=judge_few,
    ),
)

"""My server: a launcher, API servers and an engine core. Start it: python my_server.py"""

import multiprocessing.connection
import os
import socket
import threading

import zmq

from lab_support.notebook.stages.server_parts import (
    Batch,
    all_ended,
    read_request,
    say_ready,
    send_answer,
    spawn,
)

# ---- step 3 --------------------------------------------------------------------------------------


def await_ready(children):
    """Return once each child has sent READY. If one ends instead, end the launcher."""
    waiting = {child.pipe for child in children}
    ends = {child.sentinel: child.name for child in children}
    while waiting:
        for event in multiprocessing.connection.wait([*waiting, *ends]):
            if event in ends:
                raise SystemExit(f"{ends[event]} died while starting")
            waiting.remove(event)


def main():
    children, address = [], f"ipc://@my_server-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as listening_socket, all_ended(children):
        children += start_all(address, listening_socket)
        await_ready(children)
        say_ready(listening_socket, children)
        watch(children)


# ---- step 4 --------------------------------------------------------------------------------------


def engine_core(launcher, address):
    batch = Batch()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as inbox:
        inbox.bind(address)
        launcher.send("READY")
        while True:
            while not batch or inbox.poll(0):
                batch.take(*inbox.recv_multipart())
            for client, token in batch.step():
                inbox.send_multipart([client, token])


def api_server(launcher, address, listening_socket):
    launcher.send("READY")
    with zmq.Context() as context:
        while True:
            connection, _ = listening_socket.accept()
            threading.Thread(target=stream, args=(connection, context, address), daemon=True).start()


# ---- step 5 --------------------------------------------------------------------------------------


def stream(connection, context, address):
    with connection, context.socket(zmq.DEALER) as engine:
        engine.connect(address)
        if request := read_request(connection):
            engine.send_multipart([request.prompt, b"%d" % request.count])
            if not send_answer(connection, request, iter(engine.recv, b"")):
                engine.send(b"")  # the client has hung up


def child(launcher, work, *arguments):
    threading.Thread(target=end_with_launcher, daemon=True).start()
    work(launcher, *arguments)


def end_with_launcher():
    multiprocessing.parent_process().join()  # a pipe at its end, however the launcher ended
    os._exit(1)


def start_all(address, listening_socket):
    engine = spawn("engine-0", child, engine_core, address)
    names = ("api-0", "api-1")
    return [engine, *(spawn(name, child, api_server, address, listening_socket) for name in names)]


def watch(children):
    ends = {child.sentinel: child.name for child in children}
    died, *_ = multiprocessing.connection.wait(ends)
    raise SystemExit(f"{ends[died]} has died, so the server ends")


if __name__ == "__main__":
    main()

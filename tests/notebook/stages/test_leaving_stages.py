"""The small servers of notebook 09a: clients that leave, that do not read, and that come while a server stops."""

import asyncio
import socket

from lab_support.notebook.stages import leaving, not_reading, stopping


async def never_looks(reader, writer, tokens):
    while (token := await tokens.get()) is not None:
        writer.write(token)


async def looks(reader, writer, tokens):
    left = asyncio.ensure_future(reader.read())
    while not left.done():
        token = asyncio.ensure_future(tokens.get())
        await asyncio.wait([token, left], return_when=asyncio.FIRST_COMPLETED)
        if token.done() and token.result() is None:
            return
        writer.write(token.result() if token.done() else b"")
    tokens.abort()


def test_a_server_that_never_looks_computes_for_all():
    found = leaving.serve(never_looks)
    assert {each["computed"] for each in found.values()} == {leaving.TOKENS}


def test_a_server_that_looks_computes_for_those_who_stay():
    found = leaving.serve(looks)
    for name in (leaving.STAYS, leaving.PIPELINES):
        assert found[name] == {"computed": leaving.TOKENS, "read": leaving.TOKENS}
    assert found[leaving.LEAVES]["read"] == 2 <= found[leaving.LEAVES]["computed"] < leaving.TOKENS
    assert found[leaving.QUEUE] == {"computed": 0, "read": 0}


def test_what_nobody_reads_is_kept_in_the_process():
    async def step(clients, token):
        for client in clients:
            client.write(token)

    found = not_reading.stream(step)
    whole = not_reading.STEPS * found["token"]
    assert found["steps"] == not_reading.STEPS
    assert found["kept"][not_reading.NEVER] > 0.8 * whole
    assert found["most"][not_reading.SLOW] < not_reading.LIMIT
    assert found["read"] == {not_reading.READS: whole, not_reading.SLOW: whole, not_reading.NEVER: 0}


def test_a_loop_that_waits_for_its_clients_stands_still():
    async def step(clients, token):
        for client in clients:
            client.write(token)
            await client.drain()

    assert not_reading.stream(step)["steps"] < not_reading.STEPS


def accept_all(listening_socket, serve):
    listening_socket.setblocking(False)
    try:
        while True:
            serve(listening_socket.accept()[0])
    except BlockingIOError:
        listening_socket.close()


def test_both_have_to_close_a_listening_socket():
    served = {stopping.STREAM: stopping.SERVED, stopping.QUEUED: stopping.SERVED}
    assert stopping.stop(socket.socket.close, accept_all) == served | {stopping.LATE: stopping.REFUSED}
    assert stopping.stop(lambda listening_socket: None, accept_all) == served | {stopping.LATE: stopping.NEVER}


def test_a_shutdown_loses_the_queue_and_an_error_of_a_function_does_not_lose_the_stream():
    ends = stopping.stop(lambda listening_socket: listening_socket.shutdown(socket.SHUT_RDWR), accept_all)
    assert ends[stopping.QUEUED] == stopping.LOST
    assert ends[stopping.STREAM] == stopping.SERVED

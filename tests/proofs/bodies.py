"""300 bodies of 4 MB to each route at once: the API server stays within --api-server-memory-mib, and answers them all.

`python -m tests.proofs.bodies [--count N]`. Bodies of text, of token ids and of numbers, also to routes that read none.
"""

import argparse
import http.client
import sys
import threading
from collections import Counter

from tests.proofs import Row
from tests.running_server import RunningServer, running_server
from tests.server.limits.test_limits import address
from tests.server.limits.test_memory_flag import ALLOWED, BESIDE, memory

COUNT = 300
_TEXT, _IDS = b"a " * 2_000_000, b"1," * 240_000 + b"1"
BODIES = {
    "POST /v1/completions, text": b'{"prompt":"' + _TEXT + b'"}',
    "POST /v1/completions, ids": b'{"prompt":[' + _IDS + b'],"x":"' + _TEXT[:3_000_000] + b'"}',
    "POST /v1/chat/completions, text": b'{"messages":[{"role":"user","content":"' + _TEXT + b'"}]}',
    "POST /tokenize, text": b'{"prompt":"' + _TEXT + b'"}',
    "POST /detokenize, ids": b'{"tokens":[' + _IDS + b"]}",
    "GET /health, any": b"x" * 4_000_000,
    "POST /nowhere, any": b"x" * 4_000_000,
}
EXPECTED = {200, 400, 404, 413, 503}


def send(server: RunningServer, what: str, statuses: Counter[int]) -> None:
    method, path = what.partition(",")[0].split()
    connection = http.client.HTTPConnection(*address(server), timeout=120)
    try:
        connection.request(method, path, BODIES[what], {"content-type": "application/json"})
        statuses[connection.getresponse().status] += 1
    except OSError:  # it was refused, and closed, while the body was still being sent
        statuses[0] += 1
    finally:
        connection.close()


def one(what: str, count: int) -> Row:
    statuses: Counter[int] = Counter()
    with running_server(api_server_count=1, api_server_memory_mib=ALLOWED, log_level="warning") as server:
        before = memory(server, "VmRSS")
        clients = [threading.Thread(target=send, args=(server, what, statuses)) for _ in range(count)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        most = memory(server, "VmHWM") - before
        answers = server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}).ok
        said = server.said()
    met = most < ALLOWED + BESIDE and set(statuses) <= EXPECTED and answers and "Traceback" not in said
    told = f"{most} MiB more at most (allowed are {ALLOWED} and {BESIDE} besides), {dict(sorted(statuses.items()))}"
    return Row(f"{count} bodies of {len(BODIES[what]) / 1e6:.1f} MB to {what}: within the memory flag", told, met)


def prove(count: int = COUNT) -> list[Row]:
    rows = []
    for what in BODIES:
        rows.append(one(what, count))
        print(f"  {rows[-1].asked}: {rows[-1].measured}", file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=COUNT)
    rows = prove(parser.parse_args().count)
    sys.exit(0 if all(row.met for row in rows) else 1)

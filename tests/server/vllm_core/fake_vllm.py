"""Stands in for `vllm serve --headless`: vLLM's handshake and bytes, tokens invented. `MEANS`: what breaks it."""

import multiprocessing
import os
import signal
import struct
import sys
import time
from typing import Any

import msgspec
import zmq

MEANS = {7: "dies", 8: "fails", 9: "sends a pickle", 11: "never answers"}
pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
PICKLE = msgspec.msgpack.Ext(1, b"\x80\x04N.")
READY = {"max_model_len": 256, "num_gpu_blocks": 100, "vllm_version": "0.32.0", "data_parallel_rank": 0, "more": []}


def engine_core(port: int) -> None:
    context = zmq.Context()
    shaking = context.socket(zmq.DEALER)
    shaking.setsockopt(zmq.IDENTITY, b"\0\0")
    shaking.connect(f"tcp://127.0.0.1:{port}")
    for wrong in (b"\x80\x04N.", pack({"status": "HI"}), pack({"status": "HELLO", "local": True})):
        shaking.send(wrong)  # dropped
    shaking.send(pack({"status": "HELLO", "local": False, "headless": True}))
    addresses = unpack(shaking.recv())["addresses"]
    if os.environ.get("FAKE_VLLM") == "dies early":
        os._exit(5)
    pushes = [context.socket(zmq.PUSH) for _ in addresses["outputs"]]
    poller = zmq.Poller()
    for push, back, there in zip(pushes, addresses["outputs"], addresses["inputs"], strict=True):
        push.connect(back)
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.IDENTITY, b"\0\0")
        dealer.connect(there)
        dealer.send(pack(READY))
        poller.register(dealer, zmq.POLLIN)
    shaking.send(pack({"status": "READY", "local": False, "headless": True}))
    while True:
        for dealer, _ in poller.poll():
            kind, body = dealer.recv_multipart()
            print("fake vLLM got", kind, unpack(body), file=sys.stderr, flush=True)
            if kind == b"\0":
                answer(pushes[unpack(body)[11]], unpack(body))


def answer(push: zmq.Socket, request: list) -> None:
    name, prompt, _, asked, *_ = request
    way, count = MEANS.get(prompt[0], ""), asked["logprobs"]
    if way == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    for step in range(asked["max_tokens"] if way != "never answers" else 0):
        frames: list[bytes] = []
        values: Any = None
        if way == "sends a pickle":
            values = [["<i4", [1, 1], PICKLE]] * 3
        elif count is not None:  # the ids in a frame of their own, as vLLM sends big arrays
            frames = [struct.pack(f"<{1 + count}i", 100 + step, *range(count))]
            floats = msgspec.msgpack.Ext(3, struct.pack(f"<{1 + count}f", -1.0, *[-0.5] * count))
            ranks = msgspec.msgpack.Ext(3, struct.pack("<q", 2))
            values = [["<i4", [1, 1 + count], 1], ["<f4", [1, 1 + count], floats], ["<i8", [1], ranks], None]
        end = 3 if way == "fails" else 1 if step == asked["max_tokens"] - 1 else None
        prefill = {"num_prompt_tokens": len(prompt), "num_cached_tokens": 1} if step == 0 else None
        told: list[Any] = [name, [100 + step], values, None, None, end, *[None] * 5, prefill, None, 0]
        stats = {"num_running_reqs": 1, "kv_cache_usage": 0.25, "prefix_cache_stats": {"queries": 4, "hits": 1}}
        push.send_multipart([pack([0, [told], stats, time.monotonic(), *[None] * 5]), *frames])
        if end == 3:
            break


def main() -> None:
    print("fake vLLM started by", sys.argv[1:], file=sys.stderr, flush=True)
    port = int(sys.argv[sys.argv.index("--data-parallel-rpc-port") + 1])
    core = multiprocessing.get_context("spawn").Process(target=engine_core, args=(port,))
    core.start()
    signal.signal(signal.SIGTERM, lambda *_: (core.kill(), core.join(), os._exit(0)))
    core.join()

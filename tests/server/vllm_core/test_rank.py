"""Our engine core as a remote rank of vLLM: this test plays vLLM's launcher, its coordinator and an API server."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import zmq

from lab_support.boundary.vllm.layouts import ABORT, ADD
from tests.running_server import RunningServer
from tests.server.test_replacement import until
from tests.server.vllm_rs.frames import request_fields

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
RANK = b"\1\0"
WHO = {"local": False, "headless": True}


@dataclass
class Vllm:
    """The sockets of a `vllm serve` with two ranks, and the process that is to be the second. A context manager."""

    context: zmq.Context = field(default_factory=zmq.Context)
    process: Any = None

    def __enter__(self) -> "Vllm":
        kinds = {
            "launcher": zmq.ROUTER,
            "inputs": zmq.ROUTER,
            "outputs": zmq.PULL,
            "waves": zmq.XPUB,
            "loads": zmq.PULL,
        }
        self.sockets = {name: self.context.socket(kind) for name, kind in kinds.items()}
        for each in self.sockets.values():
            each.setsockopt(zmq.RCVTIMEO, 60_000)
            each.bind("tcp://127.0.0.1:*")
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def at(self, name: str) -> str:
        return self.sockets[name].getsockopt_string(zmq.LAST_ENDPOINT)

    def got(self, name: str) -> Any:
        return unpack(self.sockets[name].recv_multipart()[-1])

    def metadata(self, **other: object) -> dict[str, Any]:
        addresses = {"inputs": [self.at("inputs")], "outputs": [self.at("outputs")]}
        of_coordinator = {"coordinator_input": self.at("waves"), "coordinator_output": self.at("loads")}
        return {"addresses": {**addresses, **of_coordinator, **other}, "parallel_config": {}}

    def tell(self, answer: bytes) -> None:
        assert self.got("launcher") == {"status": "HELLO", **WHO}
        self.sockets["launcher"].send_multipart([RANK, answer])

    def let_in(self) -> dict[str, Any]:
        """The whole handshake; the rank's ready response."""
        self.tell(pack(self.metadata()))
        ready = self.got("inputs")
        assert self.sockets["waves"].recv() == b"\1"
        self.sockets["waves"].send(b"READY")
        assert self.got("launcher") == {"status": "READY", **WHO}
        return ready

    def ask(self, kind: bytes, body: object) -> None:
        self.sockets["inputs"].send_multipart([RANK, kind, pack(body)])

    def answers(self, until: str) -> list[Any]:
        """Outputs up to those that name a request as ended."""
        found = [self.got("outputs")]
        while until not in (found[-1][5:6] or [[]])[0]:
            found.append(self.got("outputs"))
        return found


def arguments(vllm: Vllm, *words: str) -> list[str]:
    port = vllm.at("launcher").rpartition(":")[2]
    flags = ["--headless", "-dp", "2", "-dpr", "1", "--data-parallel-rpc-port", port]
    return [sys.executable, "-m", "lab_support", "serve", *flags, *words]


@contextlib.contextmanager
def rank(*words: str) -> Iterator[Vllm]:
    with Vllm() as vllm, subprocess.Popen(arguments(vllm, *words), stderr=subprocess.PIPE, text=True) as process:
        vllm.process = process
        try:
            yield vllm
        finally:
            process.kill()


def test_it_joins_and_gives_the_same_tokens(server: RunningServer) -> None:
    ours = server.post("/v1/completions", {"model": "model", "prompt": [5, 6, 7], "max_tokens": 8, "temperature": 0})
    with rank() as vllm:
        ready = vllm.let_in()
        assert (ready["data_parallel_rank"], ready["data_parallel_size"], ready["block_size"]) == (1, 2, 16)
        vllm.ask(ADD, request_fields("a"))
        told = [each for each in vllm.answers("a") if each[1]]
        assert {each[0] for each in told} == {1}
        tokens = [token for each in told for output in each[1] for token in output[1]]
        text = server.post("/detokenize", {"model": "model", "tokens": tokens}).json()["prompt"]
        assert text == ours.json()["choices"][0]["text"]
        assert vllm.got("loads")[:2] == [1, []]
        vllm.process.send_signal(signal.SIGTERM)
        while (last := vllm.sockets["outputs"].recv()) != b"ENGINE_CORE_DEAD":
            assert unpack(last)[1] == []
        assert vllm.process.wait(30) == 0


def test_aborted_requests_are_named_as_ended_and_a_wave_is_nothing() -> None:
    with rank("--device", "paced:8B") as vllm:
        vllm.let_in()
        vllm.ask(ADD, request_fields("b", max_tokens=1500))
        vllm.got("outputs")
        vllm.sockets["waves"].send_multipart([b"\2", pack([0, 1])])
        vllm.ask(ABORT, ["b"])
        assert vllm.answers("b")[-1][1] == []
        refused = [*request_fields("c")]
        refused[2] = [msgspec.msgpack.Ext(1, b"\x80\x04N.")]  # a pickle in place of images
        vllm.ask(ADD, refused)
        [output] = vllm.answers("c")[-1][1]
        assert "generates text from text" in output[-1]["message"]


def test_hello_is_said_again_to_a_successor_and_once_to_each() -> None:
    with rank("--device", "paced:8B") as vllm:
        address = vllm.at("launcher")
        for _ in range(2):
            assert vllm.got("launcher") == {"status": "HELLO", **WHO}
            vllm.sockets["launcher"].close(linger=0)
            vllm.sockets["launcher"] = vllm.context.socket(zmq.ROUTER)
            vllm.sockets["launcher"].setsockopt(zmq.RCVTIMEO, 60_000)
            until(lambda: bound(vllm.sockets["launcher"], address), every=0.01)
        vllm.let_in()
        assert vllm.sockets["launcher"].poll(300) == 0


def bound(router: zmq.Socket, address: str) -> bool:
    """Whether it could be bound: libzmq closes the one before it in a thread of its own."""
    try:
        router.bind(address)
    except zmq.ZMQError:
        return False
    return True


def test_it_ends_with_vllm() -> None:
    with rank("--device", "paced:8B") as vllm:
        vllm.let_in()
        vllm.sockets["inputs"].close(linger=0)
        assert vllm.process.wait(30) == 3
        assert "vLLM's API server 0 has gone, and so this rank ends" in vllm.process.stderr.read()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x80\x04\x8c\x05posix\x94.", "what no vLLM launcher sends"),
        (pack({"addresses": {"inputs": ["tcp://10.0.0.1:5"], "outputs": []}}), "got the address tcp://10.0.0.1:5"),
        (pack({"addresses": {"inputs": [], "outputs": []}, "parallel_config": {"a": 1}}), "compute in lockstep"),
    ],
)
def test_what_it_can_t_follow_is_refused_in_a_sentence(answer, words):
    with rank("--device", "paced:8B") as vllm:
        vllm.tell(answer)
        assert vllm.process.wait(30) == 2
        assert words in vllm.process.stderr.read()


def test_it_does_not_wait_for_ever() -> None:
    with rank("--ready-timeout", "0.3", "--max-body-bytes", "9") as vllm:
        vllm.sockets["launcher"].close(linger=0)
        assert vllm.process.wait(30) == 2
        said = vllm.process.stderr.read()
        assert "within 0.3 s; is that the --data-parallel-rpc-port" in said
        assert "--max-body-bytes: accepted, but changes nothing under --headless" in said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--headless", "-dpr", "1"], "--data-parallel-start-rank: got 1 of --data-parallel-size 1, expected less"),
        (["-dpr", "1"], "--data-parallel-start-rank: got it without --headless"),
        (["--headless", "--data-parallel-address", "10.0.0.1"], "expected 127.0.0.1: all processes are on one machine"),
        (["--headless", "--frontend", "vllm-rs"], "--headless: got it together with"),
    ],
)
def test_flags_that_can_t_work_are_refused(flags, words):
    told = subprocess.run([sys.executable, "-m", "lab_support", "serve", *flags], capture_output=True, text=True)
    assert told.returncode == 2
    assert words in told.stderr

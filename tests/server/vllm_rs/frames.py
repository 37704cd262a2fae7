"""Messages of vLLM's front ends to an engine core: right ones, and each way of being wrong."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from lab_support.boundary.vllm.layouts import ABORT, ADD, START_DP_WAVE, UTILITY

pack = msgspec.msgpack.encode

# As vllm-rs 0.33.0 sends it.
SAMPLING: dict[str, Any] = {
    **{"temperature": 0.0, "watermarking": True, "top_p": 1.0, "top_k": 0, "max_tokens": 8, "min_tokens": 0},
    **{"min_p": 0.0, "frequency_penalty": 0.0, "presence_penalty": 0.0, "repetition_penalty": 1.0},
    **{"stop_token_ids": [], "_eos_token_id": 0, "_all_stop_token_ids": [0], "routed_experts_prompt_start": 0},
}
ANYTHING: tuple[Any, ...] = (
    *(None, True, 0, 1, -1, 2**31, 2**63, 2**64 - 1, -(2**63), 0.5, -1.0, 1e-310, 1e300, float("nan"), float("inf")),
    *("", "a", "\0", "ü" * 500, b"", b"\x80\x04N.", [], [1], [-1], ["a"], [[]], [None], {}, {"a": 1}, {1: 2}),
    *(msgspec.msgpack.Ext(1, b"\x80\x04N."), msgspec.msgpack.Ext(-1, b"\0" * 4), [7] * 3000, "x" * 100_000),
)
"""Values that a field may not expect; two of them are pickles."""


@dataclass(frozen=True)
class Sent:
    """A message as frames. request, call: the id that has to be answered, because it can be read."""

    frames: list[bytes]
    request: str | None = None
    call: int | None = None


def request_fields(name: object, prompt: object = (5, 6, 7), **sampling: object) -> list[Any]:
    return [name, prompt, None, SAMPLING | sampling, None, 1.5, None, None, None, None, None, 0, 0, 0, None, False]


def add(name: object = "a", prompt: object = (5, 6, 7), **sampling: object) -> list[bytes]:
    return [ADD, pack(request_fields(name, prompt, **sampling))]


# ---- one way of being wrong each; name: an id for a new request ------------------------------------------------------


def whole(dice: random.Random, name: str) -> list[bytes]:
    """A right message of either kind."""
    return dice.choice([add(name), [ABORT, pack([name])], [UTILITY, pack([0, 1, "sleep", []])]])


def cut(dice: random.Random, name: str) -> Sent:
    kind, body = whole(dice, name)
    return Sent([kind, body[: dice.randrange(len(body))]])


def flipped(dice: random.Random, name: str) -> Sent:
    kind, body = whole(dice, name)
    changed = bytearray(body)
    for _ in range(dice.randint(1, 3)):
        changed[dice.randrange(len(body))] = dice.randrange(256)
    return Sent([kind, bytes(changed)])


def of_a_foreign_kind(dice: random.Random, name: str) -> Sent:
    kind = dice.choice([bytes([dice.randrange(4, 256)]), b"", b"\0\0", dice.randbytes(300)])
    return Sent([kind, whole(dice, name)[1]])


def at_random(dice: random.Random, name: str) -> Sent:
    return Sent([dice.choice([ADD, ABORT, UTILITY, START_DP_WAVE]), dice.randbytes(dice.randrange(400))])


def long(dice: random.Random, name: str) -> Sent:
    """It says that it is longer than it is, or is very long."""
    head = (
        dice.choice([b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"]) + dice.choice([b"\xff", b"\x7f"]) + b"\xff\xff\xff"
    )
    kind, body = whole(dice, name)
    return Sent([kind, dice.choice([head, head + body, body + bytes(1_000_000)])])


def deep(dice: random.Random, name: str) -> Sent:
    """Arrays in arrays, as a whole message, as arguments of a call, or as sampling parameters."""
    nested = b"\x91" * dice.choice([500, 50_000]) + b"\xc0"
    parameters = pack(SAMPLING)
    kind, body = dice.choice(
        [
            (START_DP_WAVE, nested),
            (ADD, nested),
            (UTILITY, pack([0, 1, "sleep", 0])[:-1] + nested),
            (ADD, pack(request_fields(name)).replace(parameters, b"\x81" + pack("seed") + nested)),
        ]
    )
    return Sent([kind, body])


def in_other_frames(dice: random.Random, name: str) -> Sent:
    """Too few, or many more than two; those after the second are tensors' in vLLM."""
    frames = whole(dice, name)
    return Sent(dice.choice([frames[:1], [b""], [b"", b""], [frames[1]], frames + [b"x" * 9] * dice.randint(1, 500)]))


def of_other_types(dice: random.Random, name: str) -> Sent:
    """A request with a value in one field that doesn't belong there. Its id can be read."""
    fields = request_fields(name)
    fields[dice.randrange(1, len(fields))] = dice.choice(ANYTHING)
    return Sent([ADD, pack(fields[: dice.choice([len(fields), dice.randint(1, len(fields))])])], request=name)


def of_odd_parameters(dice: random.Random, name: str) -> Sent:
    names = [
        *SAMPLING,
        "seed",
        "logprobs",
        "prompt_logprobs",
        "n",
        "logit_bias",
        "stop",
        "structured_outputs",
        "never_heard",
    ]
    return Sent(
        add(name, **{dice.choice(names): dice.choice(ANYTHING) for _ in range(dice.randint(1, 3))}), request=name
    )


def of_odd_prompts(dice: random.Random, name: str) -> Sent:
    prompt = dice.choice([[], [2**63], [-1], [10**6], ["a"], [1.5], None, [5] * 5000, [5] * 2047, {"a": 1}, [[5]]])
    return Sent(add(name, prompt), request=name)


def of_unknown_ids(dice: random.Random, name: str) -> Sent:
    return Sent(
        [ABORT, pack(dice.choice([["never heard of"], [], [""], ["x" * 100_000], ["a"] * 1000, [5], {}, None]))]
    )


def calls(dice: random.Random, name: str) -> Sent:
    """Calls of methods, which vLLM's engine core looks up by name."""
    number, arguments = dice.randrange(2**31), dice.choice(ANYTHING)
    method = dice.choice(
        ["sleep", "__class__", "shutdown", "", "x" * 1000, "is_sleeping", "add_lora", "collective_rpc"]
    )
    return Sent([UTILITY, pack([0, number, method, arguments])], call=number)


def twice(dice: random.Random, name: str) -> Sent:
    """An id that others may have, too, so that no answer of its own can be told."""
    return Sent(add("of many"))


KINDS: tuple[Callable[[random.Random, str], Sent], ...] = (
    *(cut, flipped, of_a_foreign_kind, at_random, long, in_other_frames, of_other_types, of_odd_parameters),
    *(deep, of_odd_prompts, of_unknown_ids, calls, twice),
)

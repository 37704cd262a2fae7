"""07.1, must: an engine whose first socket is not front end 0's, so that each gets its neighbour's tokens, or none."""

from typing import Any

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

MAILBOXES = '''\
%%python_process --name mailboxes --timeout 15 --expect any --into mailboxes
import zmq
from lab_support.notebook.stages.front_ends import serve
def front_end(client_index, folder, prompts):
    """In a process of its own: send the prompts of my clients, and return all tokens that come."""
    tokens, requests = zmq.Context.instance().socket(zmq.PULL), zmq.Context.instance().socket(zmq.PUSH)
    tokens.bind(f"ipc://{folder}/tokens-{client_index}")
    requests.connect(f"ipc://{folder}/requests")
    for prompt in prompts:
        requests.send_json({"client_index": client_index, "prompt": prompt})
    return [tokens.recv_json() for _ in iter(lambda: tokens.poll(1000), 0)]

def engine(count, folder):
    """In a process of its own: answer each prompt by the socket of the front end that sent it."""
    requests = zmq.Context.instance().socket(zmq.PULL)
    requests.bind(f"ipc://{folder}/requests")
    names = ["statistics", *(f"tokens-{number}" for number in range(count))]
    outputs = [zmq.Context.instance().socket(zmq.PUSH) for _ in names]
    for name, output in zip(names, outputs):
        output.connect(f"ipc://{folder}/{name}")
    while request := requests.recv_json():
        outputs[request["client_index"]].send_json(f"tokens for {request['prompt']}")

if __name__ == "__main__":
    print("each front end got:", *serve(front_end, engine, [["Ada's prompt"], ["Bob's prompt"]]))
'''
_OUTPUT = 'outputs[request["client_index"]].send_json('
_SENT = '{"client_index": client_index, "prompt": prompt}'
_NAMES = """\
    names = ["statistics", *(f"tokens-{number}" for number in range(count))]
"""
_CONNECTED = f"""\
{_NAMES}\
    outputs = [zmq.Context.instance().socket(zmq.PUSH) for _ in names]
    for name, output in zip(names, outputs):
        output.connect(f"ipc://{{folder}}/{{name}}")
"""
_TOKENS = """\
    tokens, requests = zmq.Context.instance().socket(zmq.PULL), zmq.Context.instance().socket(zmq.PUSH)
    tokens.bind(f"ipc://{folder}/tokens-{client_index}")
"""
MAILBOXES_RIGHT = changed(MAILBOXES, _OUTPUT, 'outputs[request["client_index"] + 1].send_json(')
MAILBOXES_FROM_ONE = changed(MAILBOXES, _SENT, '{"client_index": client_index + 1, "prompt": prompt}')
MAILBOXES_STATISTICS_LAST = changed(
    MAILBOXES, _NAMES, '    names = [*(f"tokens-{number}" for number in range(count)), "statistics"]\n'
)
MAILBOXES_BY_NAME = changed(
    MAILBOXES,
    _CONNECTED,
    """\
    outputs = {}
    for number in range(count):
        outputs[number] = zmq.Context.instance().socket(zmq.PUSH)
        outputs[number].connect(f"ipc://{folder}/tokens-{number}")
""",
)
MAILBOXES_BY_ROUTER = changed(
    MAILBOXES,
    _TOKENS,
    "    tokens = requests = zmq.Context.instance().socket(zmq.DEALER)\n",
    "    requests = zmq.Context.instance().socket(zmq.PULL)\n",
    "    requests = zmq.Context.instance().socket(zmq.ROUTER)\n",
    _CONNECTED,
    "",
    'while request := requests.recv_json():\n        outputs[request["client_index"]].send_json('
    "f\"tokens for {request['prompt']}\")\n",
    """\
while True:
        sender, _ = requests.recv(), (request := requests.recv_json())
        requests.send(sender, zmq.SNDMORE)
        requests.send_json(f"tokens for {request['prompt']}")
""",
)

OFF = (
    "the first socket of the engine's list is not front end 0's: tokens go to somebody else's front end, or to none "
    "that reads them"
)
ONLY_TWO = (
    "with two front ends it comes out right, with three it does not: places that are counted from the end of the list "
    "move with the number of front ends"
)
IN_TURN = (
    "a PUSH socket that is connected to several front ends deals its messages out in turn, whoever they are for; the "
    "engine needs one for each front end, and a number to choose by"
)
TO_ALL = "every front end gets the tokens of all: each message must go to one"
NOT_SENT = (
    "no stranger's tokens arrive any more, but somebody's own don't either: they have to be sent to their front end"
)

MAILBOXES_WRONG = (
    Wrong(OFF, changed(MAILBOXES, _OUTPUT, 'outputs[request["client_index"] - 1].send_json(')),
    Wrong(OFF, changed(MAILBOXES, _SENT, '{"client_index": client_index - 1, "prompt": prompt}')),
    Wrong(ONLY_TWO, changed(MAILBOXES, _OUTPUT, 'outputs[request["client_index"] - 2].send_json(')),
    Wrong(NOT_SENT, changed(MAILBOXES, _OUTPUT, 'outputs[(request["client_index"] + 1) % count].send_json(')),
    Wrong(
        IN_TURN,
        changed(
            MAILBOXES,
            _CONNECTED,
            """\
    output = zmq.Context.instance().socket(zmq.PUSH)
    for number in range(count):
        output.connect(f"ipc://{folder}/tokens-{number}")
""",
            _OUTPUT,
            "output.send_json(",
        ),
    ),
    Wrong(
        TO_ALL,
        changed(MAILBOXES, f"        {_OUTPUT}", "        for output in outputs:\n            output.send_json("),
    ),
    Wrong(
        NOT_SENT,
        changed(
            MAILBOXES,
            "    return [tokens.recv_json() for _ in iter(lambda: tokens.poll(1000), 0)]\n",
            "    got = [tokens.recv_json() for _ in iter(lambda: tokens.poll(1000), 0)]\n"
            "    return [each for each in got if each.removeprefix('tokens for ') in prompts]\n",
        ),
    ),
)

MEASURE_MAILBOXES = """
from lab_support.notebook.script import emit
from lab_support.notebook.stages.front_ends import serve
import answer

def of(number, count):
    return [f"client {index} of front end {number}" for index in range(count)]

for counts in ((2, 5), (2, 3, 5)):
    prompts = [of(number, count) for number, count in enumerate(counts)]
    got = serve(answer.front_end, answer.engine, prompts)
    asked = [[int(text.rsplit(" ", 1)[1]) for text in each] for each in got]
    emit(measured={"counts": counts, "asked": asked, "different": len({text for each in got for text in each})})
    if any(numbers != [number] * count for number, (numbers, count) in enumerate(zip(asked, counts))):
        break
"""


def judge_mailboxes(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_MAILBOXES, timeout=20.0)
    counts, asked = seen["counts"], seen["asked"]
    measured = _in_words(counts, asked)
    if cause := _cause(counts, asked, seen["different"]):
        expected = "each front end gets the tokens of all its own clients, and nobody else's"
        return failed(measured, expected, cause)
    return passed(f"with two front ends, and with three: {measured}")


def _in_words(counts: list[int], asked: list[list[int]]) -> str:
    """For each front end, how many of its clients' tokens came, and how many of strangers'."""
    own = [numbers.count(number) for number, numbers in enumerate(asked)]
    return "; ".join(
        f"front end {number} got {own[number]} of {count} answers to its own clients, and {len(numbers) - own[number]} "
        "to strangers"
        for number, (numbers, count) in enumerate(zip(asked, counts, strict=True))
    )


def _cause(counts: list[int], asked: list[list[int]], different: int) -> str:
    own = all(numbers == [number] * count for number, (numbers, count) in enumerate(zip(asked, counts, strict=True)))
    strangers = any(set(numbers) - {number} for number, numbers in enumerate(asked))
    one_sender_each = all(len(set(numbers)) <= 1 for numbers in asked)
    findings: tuple[tuple[Any, str], ...] = (
        (own, ""),
        (not strangers, NOT_SENT),
        (different < sum(map(len, asked)), TO_ALL),
        (one_sender_each and len(counts) == 3, ONLY_TWO),
        (one_sender_each, OFF),
        (True, IN_TURN),
    )
    return next(cause for found, cause in findings if found)


EXERCISES = (
    Exercise(
        name="07.1",
        kind="must",
        task="mend the engine or the front end, so that each front end gets its own clients' tokens, however many "
        "there are",
        skeleton=MAILBOXES,
        reference=MAILBOXES_RIGHT,
        also_right=(MAILBOXES_FROM_ONE, MAILBOXES_STATISTICS_LAST, MAILBOXES_BY_NAME, MAILBOXES_BY_ROUTER),
        wrong=MAILBOXES_WRONG,
        hints=(
            "Front end 0 sends its number with each prompt. Which socket has that place in the engine's list?",
            "The first name is `statistics`, and no front end reads there.",
            "Both sides must count from the same place: `outputs[request[…] + …]`, or another order of `names`.",
        ),
        judge=judge_mailboxes,
    ),
)

"""A made folder behind the real server: its arithmetic, end tokens, sampling defaults, and ids that it has no row for.

The model is a random Qwen3 with the tokenizer of the model in the box, of which it lacks the last tokens.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import transformers

from lab_support.config import MODEL_IN_THE_BOX
from tests.engine.folders import make_folder, oracle, oracle_logits
from tests.running_server import RunningServer, running_server

ROWS = 2040  # of the tokenizer's 2,048
PROMPT = list(range(300, 340))
DEFAULTS = {"temperature": 0.5, "top_k": 1, "repetition_penalty": 1.0, "max_new_tokens": 7}
CHAT = {"messages": [{"role": "user", "content": "Tell me a story."}], "ignore_eos": True}


@dataclass
class Made:
    """The server, and transformers' greedy answer to PROMPT: token ids and log-probabilities. end: ends an answer."""

    server: RunningServer
    tokenizer: "transformers.PreTrainedTokenizerFast"
    answer: list[int]
    logprobs: list[float]
    end: int


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = make_folder(tmp_path_factory.mktemp("made") / "model", family="qwen3", vocab_size=ROWS, head_dim=32)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MODEL_IN_THE_BOX / name, folder)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    answer, logprobs = greedy(folder, 32)
    end = next(token for place, token in enumerate(answer) if place > 4 and token not in answer[:place] and token > 9)
    generation = DEFAULTS | {"eos_token_id": [end], "no_repeat_ngram_size": 3, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    make_end_token_plain(folder)
    with running_server(model=folder, api_server_count=1) as server:
        yield Made(server, tokenizer, answer, logprobs, end)


def greedy(folder: Path, count: int) -> tuple[list[int], list[float]]:
    model, tokens, logprobs = oracle(folder), list(PROMPT), []
    for _ in range(count):
        likely = oracle_logits(model, tokens)[-1].log_softmax(-1)
        tokens.append(int(likely.argmax()))
        logprobs.append(float(likely.max()))
    return tokens[len(PROMPT) :], logprobs


def make_end_token_plain(folder: Path) -> None:
    """The tokenizer's own end token no longer says that it is special."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["special"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def completion(made: Made, **fields: object) -> dict:
    answer = made.server.post("/v1/completions", {"prompt": PROMPT, "temperature": 0} | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_tokens_and_log_probabilities_are_transformers(made: Made) -> None:
    choice = completion(made, max_tokens=32, ignore_eos=True, logprobs=1)["choices"][0]
    assert choice["text"] == made.tokenizer.decode(made.answer, skip_special_tokens=True)
    found = torch.tensor(choice["logprobs"]["token_logprobs"])
    torch.testing.assert_close(found, torch.tensor(made.logprobs), atol=1e-3, rtol=0)


@pytest.mark.parametrize("stream", [False, True])
def test_an_end_token_of_generation_config_ends_an_answer_and_is_not_shown(made: Made, stream: bool) -> None:
    before = made.answer[: made.answer.index(made.end)]
    asked = {"prompt": PROMPT, "temperature": 0, "max_tokens": 32, "stream": stream, "include_stop_str_in_output": True}
    answer = made.server.post("/v1/completions", asked)
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")] if stream else [answer.text]
    choices = [json.loads(event)["choices"][0] for event in events]
    assert choices[-1]["finish_reason"] == "stop"
    assert "".join(choice["text"] for choice in choices) == made.tokenizer.decode(before, skip_special_tokens=True)


def test_the_tokenizers_end_token_ends_an_answer_too(made: Made) -> None:
    """A sampled answer comes to it soon where every token is about as likely, and is not allowed to go on."""
    fields = {"temperature": 2.0, "top_k": 0, "max_tokens": 450, "n": 16, "seed": 1}
    choices = completion(made, **fields)["choices"]
    ended = [choice for choice in choices if choice["finish_reason"] == "stop"]
    assert ended and not any("<|endoftext|>" in choice["text"] for choice in choices)


def test_a_request_that_says_nothing_gets_the_folders_defaults(made: Made) -> None:
    answers = [made.server.post("/v1/chat/completions", CHAT | {"seed": seed}).json() for seed in range(4)]
    assert {answer["usage"]["completion_tokens"] for answer in answers} == {7}
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1, "top_k is 1"


def test_a_request_that_says_otherwise_gets_what_it_asks_for(made: Made) -> None:
    asked = CHAT | {"top_k": 0, "temperature": 2, "max_tokens": 9}
    answers = [made.server.post("/v1/chat/completions", asked | {"seed": seed}).json() for seed in range(4)]
    assert {answer["usage"]["completion_tokens"] for answer in answers} == {9}
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 4


def test_completions_keep_their_sixteen_tokens(made: Made) -> None:
    assert completion(made, ignore_eos=True)["usage"]["completion_tokens"] == 16


def test_the_defaults_are_told(made: Made) -> None:
    sampling = made.server.get("/version").json()["sampling"]
    assert sampling == {"generation_config": "auto", "defaults": DEFAULTS}
    said = [line for line in made.server.said().splitlines() if "temperature 0.5, top_k 1" in line]
    assert len(said) == 1 and said[0].endswith("generation_config.json)")
    schema = made.server.get("/openapi.json").json()["components"]["schemas"]["ChatCompletionRequest"]["properties"]
    assert (schema["temperature"]["default"], schema["top_k"]["default"], schema["top_p"]["default"]) == (0.5, 1, 1.0)


@pytest.mark.parametrize("route", ["completions", "chat", "tokens"])
def test_a_text_whose_tokens_the_model_has_no_row_for(made: Made, route: str) -> None:
    text = "a" + made.tokenizer.decode([ROWS])
    assert made.tokenizer.encode(text)[-1] == ROWS
    asked: dict = {"prompt": [ROWS] if route == "tokens" else text, "max_tokens": 1}
    if route == "chat":
        asked = {"messages": [{"role": "user", "content": text}], "max_tokens": 1}
    answer = made.server.post("/v1/chat/completions" if route == "chat" else "/v1/completions", asked)
    assert answer.status_code == 400
    assert "id 2040" in answer.json()["error"]["message"]
    assert completion(made, max_tokens=1)["usage"]["completion_tokens"] == 1, "others are served on"


def test_what_does_not_fit_is_said_once_at_the_start(made: Made) -> None:
    warnings = [line for line in made.server.said().splitlines() if " WARNING " in line]
    assert len([line for line in warnings if "with id 2047, but the model's vocab_size is 2040" in line]) == 1
    assert len([line for line in warnings if "no_repeat_ngram_size, which this server ignores" in line]) == 1

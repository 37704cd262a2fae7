"""Every sampling field through a real server, on both routes: what it must do to an answer whatever the model is."""

import pytest

from tests.running_server import RunningServer

PROMPT = "Once upon a time there was a"
ROUTES = {
    "completions": ("/v1/completions", {"prompt": PROMPT}),
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]}),
}
each_route = pytest.mark.parametrize("route", ROUTES)


def answer(server: RunningServer, route: str, **fields: object) -> str:
    path, asked = ROUTES[route]
    done = server.post(path, asked | {"max_tokens": 24, "ignore_eos": True} | fields)
    assert done.status_code == 200, done.text
    choice = done.json()["choices"][0]
    return choice["text"] if route == "completions" else choice["message"]["content"]


@each_route
@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}], ids=lambda each: next(iter(each)))
def test_a_choice_among_one_token_is_the_greedy_one(server: RunningServer, route: str, narrow: dict) -> None:
    greedy = answer(server, route, temperature=0)
    assert {answer(server, route, temperature=2.0, seed=seed, **narrow) for seed in range(4)} == {greedy}
    assert {answer(server, route, temperature=2.0, seed=seed) for seed in range(4)} != {greedy}


@each_route
@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty", "repetition_penalty"])
def test_a_penalty_changes_the_answer_of_a_seed(server: RunningServer, route: str, penalty: str) -> None:
    drawn = {"temperature": 2.0, "seed": 7, "max_tokens": 64}  # the model is sure of itself: few greedy tokens give way
    assert answer(server, route, **drawn, **{penalty: 2.0}) != answer(server, route, **drawn)


@each_route
def test_a_seed_repeats_an_answer_and_another_gives_another(server: RunningServer, route: str) -> None:
    answers = [answer(server, route, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]

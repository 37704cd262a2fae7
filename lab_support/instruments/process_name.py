"""A short name for a process, for a box or a column: the program rather than the interpreter that runs it."""

import os
import re
from collections.abc import Iterator

from lab_support.instruments.proc import Process

_OF_CODE = {
    "resource_tracker": "resource tracker",
    "forkserver": "fork server",
    "multiprocessing.spawn": "spawned python",
    "spawn_main": "spawned python",
}
_TAKES_A_WORD = frozenset({"-X", "-W"})


def short_name(process: Process) -> str:
    """`lab:api-0` stays; `/usr/bin/python3 -u /bin/gunicorn app:app` is `gunicorn`; a kernel thread is `[name]`.

    A program that was started under a title, in the place of its name, is both: `lab:api-0 (vllm-rs)`.
    """
    words = process.title.split()
    if _was_given_a_title(process, words):
        return f"{words[0]} ({process.name})"
    if not words or process.title.startswith("[") or words[0].endswith(":") or _is_title(words[0]):
        return process.title.strip()
    program = os.path.basename(words[0])
    if re.fullmatch(r"(python|pypy)[\d.]*", program):
        return _python_name(program, words[1:])
    return program.lstrip("-") or process.name


def _was_given_a_title(process: Process, words: list[str]) -> bool:
    """Whether argv[0] is a title, and flags follow. One that sets its title has it as its name, too: prctl(2)."""
    of_its_own = process.title.startswith(process.name) or words[0].endswith(":")
    return len(words) > 1 and _is_title(words[0]) and not of_its_own


def _is_title(word: str) -> bool:
    """Whether the process set this title: `lab:api-0`, `VLLM::EngineCore`. Paths and plain programs have no colon."""
    return ":" in word and not word.startswith("/")


def _python_name(program: str, words: list[str]) -> str:
    rest = iter(words)
    for word in rest:
        if word in _TAKES_A_WORD:
            next(rest, None)
        elif word == "-m":
            module = next(rest, program)
            return " ".join([module, *_first_plain(rest)])
        elif word == "-c":
            code = " ".join(rest)
            return next((name for mark, name in _OF_CODE.items() if mark in code), f"{program} -c")
        elif not word.startswith("-"):
            return os.path.basename(word)
    return program


def _first_plain(words: Iterator[str]) -> list[str]:
    word = next(words, "-")
    return [] if word.startswith("-") else [word]

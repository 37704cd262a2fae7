"""Parses the arguments of `lab serve` into a `ServerConfig`, in the grammar of `vllm serve`.

The model may be the first argument, names may have underscores, and vLLM's flags that mean nothing here are accepted
or refused by name (vllm_flags.py). An error is one line. Like config.py, this imports no library.
"""

import argparse
from typing import NoReturn

from lab_support.config import MODEL_IN_THE_BOX, ConfigError, ServerConfig, add_flags, from_flags
from lab_support.vllm_flags import with_dashes, without_foreign

_HELP = "a model folder, the same as --model (vLLM's grammar)"
_EPILOG = (
    "Flags of `vllm serve` that change nothing here are accepted with a line that says so; others are refused by name."
)


class OneLineParser(argparse.ArgumentParser):
    """Reports an error in one line, because the usage of so many flags would hide it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def read_words(words: list[str], prog: str = "lab serve") -> tuple[ServerConfig, list[str]]:
    """The config, and notices on flags that change nothing. Ends the process if an argument makes no sense."""
    parser = OneLineParser(prog=prog, epilog=_EPILOG)
    parser.add_argument("model_tag", nargs="?", metavar="MODEL", help=_HELP)
    add_flags(parser)
    try:
        left, said = without_foreign(with_dashes(words), parser._option_string_actions)
        return _config(parser, left), said
    except ConfigError as error:
        parser.error(str(error))


def _config(parser: argparse.ArgumentParser, words: list[str]) -> ServerConfig:
    given, others = parser.parse_known_args(words)
    # argparse accepts an optional positional argument before the flags only.
    if given.model_tag is None and len(others) == 1 and not others[0].startswith("-"):
        given.model_tag = others.pop()
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)} ({parser.prog} --help names all)")
    if given.model_tag is not None:
        model = type(given.model)(given.model_tag)
        if given.model not in (MODEL_IN_THE_BOX, model):
            parser.error(f"got the model {given.model_tag} and --model {given.model}, expected only one of them")
        given.model = model
    return from_flags(given)

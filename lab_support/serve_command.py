"""The words after `lab serve` to a `ServerConfig`, in the grammar of `vllm serve`.

The model may be the first word, names may have underscores, and flags of vLLM that mean nothing here are taken or
refused by name (vllm_flags.py). What is wrong is said in one line. It imports no library, as config.py.
"""

import argparse
from typing import NoReturn

from lab_support.config import MODEL_IN_THE_BOX, ConfigError, ServerConfig, add_flags, from_flags
from lab_support.vllm_flags import with_dashes, without_foreign

_HELP = "a model folder, as --model has it (vLLM's grammar)"
_EPILOG = (
    "Flags of `vllm serve` that change nothing here are taken with a line that says so; others are refused by name."
)


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line: the usage of so many flags would hide it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def read_words(words: list[str], prog: str = "lab serve") -> tuple[ServerConfig, list[str]]:
    """The config, and what is to be said of flags that change nothing. Ends the process where a word makes no sense."""
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
    # argparse gives an optional word its place before the flags or never.
    if given.model_tag is None and len(others) == 1 and not others[0].startswith("-"):
        given.model_tag = others.pop()
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)} ({parser.prog} --help names all)")
    if given.model_tag is not None:
        model = type(given.model)(given.model_tag)
        if given.model not in (MODEL_IN_THE_BOX, model):
            parser.error(f"got the model {given.model_tag} and --model {given.model}, expected one of them")
        given.model = model
    return from_flags(given)

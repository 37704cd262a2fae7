"""The number of claims that each verdict makes, from the syntax tree of `notebooks/solutions/NN_verdicts.py`."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from lab_support.notebook.moves.verdicts import Judge

_FIELDS = [field.name for field in fields(Judge)]


def claims_of_verdicts(path: Path) -> dict[str, int]:
    """By the judge's number: the calls of `Claim` in its finder and in functions that this calls; a table counts 1."""
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    judges = [node for node in ast.walk(tree) if _calls(node) == "Judge"]
    return dict(_claims(judge, functions) for judge in judges if isinstance(judge, ast.Call))


def _claims(judge: ast.Call, functions: dict[str, ast.FunctionDef]) -> tuple[str, int]:
    given = dict(zip(_FIELDS, judge.args, strict=False)) | {each.arg: each.value for each in judge.keywords if each.arg}
    number = ast.literal_eval(given["number"])
    made = sum(_calls(node) == "Claim" for part in _reached(given["find"], functions) for node in ast.walk(part))
    return number, made + ("row_words" in given)


def _reached(start: ast.AST, functions: dict[str, ast.FunctionDef]) -> Iterator[ast.AST]:
    """`start`, and every function of the file that it names, or that one of these names."""
    yield start
    waiting = [start]
    seen: set[str] = set()
    while waiting:
        names = {node.id for node in ast.walk(waiting.pop()) if isinstance(node, ast.Name)} & functions.keys()
        for name in sorted(names - seen):
            seen.add(name)
            waiting.append(functions[name])
            yield functions[name]


def _calls(node: ast.AST) -> str:
    """The name of the function that a node calls; "" if it is no call."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")

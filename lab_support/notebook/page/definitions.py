"""Functions and classes with their calls and first sentences, read from source files. Nothing is imported or run.

A class's docstring explains its fields as `name: words`, here as everywhere in `lab_support`.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+(?=[A-Z`\"]|\w+(?:, \w+)*: )|(?<=:)\n\n")
_DECORATORS = {"takes_prediction": ("prediction=''", "right=None")}
"""Parameters that a decorator adds, as they are written."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Defined:
    """One name. call: as it is written, without anything before it, such as `by(field)` or `told`. words: a sentence.

    attributes: of a class, the public ones.
    """

    name: str
    call: str
    words: str
    attributes: tuple["Defined", ...] = ()


@cache
def tree_of(module: str) -> ast.Module:
    """The syntax tree of `lab_support.…`. Raises `LookupError` if there is no such file."""
    path = ROOT / module.replace(".", "/")
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return ast.parse(file.read_text(encoding="utf-8"))
    raise LookupError(f"got module {module!r}, expected a file {path.relative_to(ROOT)}.py")


def public_names(module: str) -> list[str]:
    """The functions and classes that the module itself defines, and its documented values, in their order."""
    body = tree_of(module).body
    lines = {node.name: node.lineno for node in body if isinstance(node, Function | ast.ClassDef)}
    lines |= {name: node.lineno for name, node in _values(body) if _said_below(body, node)}
    return sorted((name for name in lines if not name.startswith("_")), key=lines.__getitem__)


def define(module: str, name: str) -> Defined:
    """The name as its file defines it, also if the module only imports it. Raises `LookupError`."""
    body = tree_of(module).body
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and node.name == name:
            return _class(node) if isinstance(node, ast.ClassDef) else _function(node)
        if isinstance(node, ast.ImportFrom) and (original := _imported_as(node, name)):
            return define(node.module or "", original)
    if value := dict(_values(body)).get(name):
        return Defined(name, name, first_sentence(_said_below(body, value)))
    raise LookupError(f"got {name!r}, expected a name that {module} defines")


def _imported_as(node: ast.ImportFrom, name: str) -> str:
    """The name of the thing where it comes from, if this statement imports it as `name`; else ""."""
    return next((each.name for each in node.names if name == (each.asname or each.name)), "")


def first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, in one line; "" without one."""
    return " ".join(_SENTENCE_END.split((text or "").strip())[0].split())


# ---- values, functions and classes -----------------------------------------------------------------------------------


def _values(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node


def _said_below(body: list[ast.stmt], node: ast.stmt) -> str:
    """The string below an assignment, which documents it."""
    following = body[body.index(node) + 1 :][:1]
    value = following[0].value if following and isinstance(following[0], ast.Expr) else None
    return str(value.value) if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _function(node: Function, words: str = "") -> Defined:
    if _has_decorator(node, "property", "cached_property"):
        call = node.name
    else:
        call = f"{node.name}({', '.join(_parameters(node))})"
    return Defined(node.name, call, first_sentence(ast.get_docstring(node)) or words)


def _parameters(node: Function) -> list[str]:
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + given.defaults
    words = [_parameter(each, default) for each, default in zip(positional, defaults, strict=True)]
    if words and words[0] in ("self", "cls"):
        words = words[1:]
    if given.vararg:
        words.append(f"*{given.vararg.arg}")
    elif given.kwonlyargs:
        words.append("*")
    words += [_parameter(each, default) for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    words += [word for name, added in _DECORATORS.items() if _has_decorator(node, name) for word in added]
    return words + ([f"**{given.kwarg.arg}"] if given.kwarg else [])


def _parameter(each: ast.arg, default: ast.expr | None) -> str:
    return each.arg if default is None else f"{each.arg}={ast.unparse(default)}"


def _has_decorator(node: Function, *names: str) -> bool:
    return any(ast.unparse(each).rpartition(".")[2] in names for each in node.decorator_list)


def _class(node: ast.ClassDef) -> Defined:
    words = " ".join((ast.get_docstring(node) or "").split())
    attributes = [each for each in map(lambda part: _attribute(part, words), node.body) if each is not None]
    made = next((part for part in node.body if isinstance(part, Function) and part.name == "__init__"), None)
    call = node.name if made is None else f"{node.name}({', '.join(_parameters(made))})"
    return Defined(node.name, call, first_sentence(ast.get_docstring(node)), tuple(attributes))


def _attribute(node: ast.stmt, words: str) -> Defined | None:
    """A public field, property or method of a class whose docstring is `words`; None for anything else."""
    if isinstance(node, Function) and not node.name.startswith("_"):
        return _function(node, _field_words(words, node.name))
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
        name = node.target.id
        return Defined(name, name, _field_words(words, name) or f"`{ast.unparse(node.annotation)}`")
    return None


def _field_words(words: str, name: str) -> str:
    """The words that a class's docstring has for a field: `name: words.` or `name, other: words.`"""
    found = re.search(rf"(?<![\w`.]){name}(?:, \w+)*: (.+?)(?:\.(?= |$)|; (?=\w+: ))", words)
    return f"{found[1][0].upper()}{found[1][1:]}." if found else ""

"""Parts of a program made one clean file, by its syntax tree: a later part's function replaces an older one.

Pure functions. A part is a cell: imports, functions, constants. Lines that a cell has keep their text.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HEAD = '"""My server: a launcher, API servers and an engine core. Start it: python my_server.py"""'
_FOOT = 'if __name__ == "__main__":\n    main()'
_DEFINES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_MAY_STAND = _DEFINES | ast.Import | ast.ImportFrom | ast.Assign


@dataclass(frozen=True, slots=True)
class Part:
    """One step's source. title: of its section in the file, such as "step 1"."""

    title: str
    source: str


@dataclass(frozen=True, slots=True)
class _Definition:
    name: str
    part: int
    node: ast.stmt
    lines: tuple[str, ...]


def compose(parts: Sequence[Part]) -> str:
    """One program of all `parts`: one docstring, the imports that it needs, a section for each part, `main()`.

    A definition replaces an older one of the same name; one that `main` no longer needs is left out. Raises
    `SyntaxError` for a part that is no Python, or has statements outside of functions.
    """
    trees = [_parsed(part) for part in parts]
    newest = {each.name: each for index, part in enumerate(parts) for each in _definitions(index, part, trees[index])}
    kept = _needed(newest)
    lines, sections = [HEAD, "", *_imports(trees, kept)], 0
    for index, part in enumerate(parts):
        mine = {each.node.lineno: each for each in kept if each.part == index}
        if mine:
            lines += ["", *([""] if sections else []), f"# ---- {part.title} ".ljust(100, "-")]
            sections += 1
        for each in mine.values():
            lines += ["", "", *each.lines]
    return "\n".join([*lines, "", "", _FOOT]) + "\n"


def _parsed(part: Part) -> ast.Module:
    try:
        tree = ast.parse(part.source)
    except ValueError as error:  # a null byte
        raise SyntaxError(str(error)) from error
    for node in tree.body:
        if not isinstance(node, _MAY_STAND) and not _is_foot(node) and not _is_docstring(node):
            raise SyntaxError(f"line {node.lineno}: got a statement outside of functions, expected it in a function")
    return tree


def _is_foot(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in _used(node.test)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _definitions(index: int, part: Part, tree: ast.Module) -> Iterator[_Definition]:
    lines = part.source.splitlines()
    for node in tree.body:
        for name in _names_of(node):
            yield _Definition(name, index, node, tuple(lines[_first_line(node) - 1 : node.end_lineno]))


def _names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, _DEFINES):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])


def _needed(newest: dict[str, _Definition]) -> list[_Definition]:
    """Those that `main` uses, and those that they use, by part and place."""
    found, wanted = dict[str, _Definition](), ["main"]
    while wanted:
        name = wanted.pop()
        if name in newest and name not in found:
            found[name] = newest[name]
            wanted += _used(newest[name].node)
    return sorted(found.values(), key=lambda each: (each.part, each.node.lineno))


def _used(node: ast.AST) -> list[str]:
    return [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]


# ---- imports ---------------------------------------------------------------------------------------------------------


def _imports(trees: Sequence[ast.Module], kept: Sequence[_Definition]) -> list[str]:
    """The import lines, sorted: the standard library's, others', ours. Only those that bind a name that is used."""
    used = {name for each in kept for name in _used(each.node)} - {each.name for each in kept}
    plain, named = set[str](), dict[str, set[str]]()
    for node in (node for tree in trees for node in tree.body):
        for alias in getattr(node, "names", []):
            if (alias.asname or alias.name).split(".")[0] not in used:
                continue
            if isinstance(node, ast.Import):
                plain.add(_alias(alias))
            elif isinstance(node, ast.ImportFrom):
                named.setdefault("." * node.level + (node.module or ""), set()).add(_alias(alias))
    lines = [(name, f"import {name}") for name in _without_parents(plain)]
    lines += [(module, _from(module, sorted(names))) for module, names in named.items()]
    return _in_groups(lines)


def _without_parents(names: set[str]) -> list[str]:
    """`import a.b` binds `a` as well."""
    return sorted(name for name in names if not any(other.startswith(f"{name}.") for other in names))


def _alias(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name


def _from(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= 100:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"


def _in_groups(lines: list[tuple[str, str]]) -> list[str]:
    groups: dict[int, list[str]] = {}
    for module, line in sorted(lines, key=lambda each: (each[1].startswith("from"), each[0])):
        groups.setdefault(_group(module), []).extend(line.split("\n"))
    shown: list[str] = []
    for _, group in sorted(groups.items()):
        shown += [*([""] if shown else []), *group]
    return shown


def _group(module: str) -> int:
    top = module.split(".")[0].split(" ")[0]
    return 0 if top in sys.stdlib_module_names else 2 if top == "lab_support" else 1

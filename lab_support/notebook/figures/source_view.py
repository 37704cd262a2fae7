"""`lab.source`: a function, class or `main` of the server, from its file, highlighted; the file is never imported.

So it shows code of an API server or an engine core without bringing their libraries into the kernel. It works
for any installed module: the standard library's, and vLLM's if that is installed.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

import lab_support
from lab_support.notebook.page.views import View, escaped, highlighted
from lab_support.old_paths import MOVED

_ROOT = Path(lab_support.__file__).parents[1]
_WHOLE_WORDS = "white-space:pre-wrap;word-break:normal;overflow-wrap:break-word"  # JupyterLab's `pre` breaks in a word
_FULL_LINE = 60  # characters


def source(module: str, name: str = "") -> View:
    """The source of `name` in `module`, such as ("lab_support.boundary.channels", "ApiServerChannels.watch").

    Without a name: the file's docstring, which for a kind of process is its card. Raises `LookupError` that lists
    the known names.
    """
    module = MOVED.get(module, module)  # readers' own copies of the notebooks name old paths
    path = _file_of(module)
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    if not name:
        words = ast.get_docstring(tree) or ""
        shown = f'<pre style="{_WHOLE_WORDS}">{escaped(_flowing(words))}</pre>'
        return View(f"{_place(path, module)}\n\n{words}", f"<div>{_place(path, module)}</div>{shown}")
    first, last = _lines_of(tree, module, name)
    lines = textwrap.dedent("\n".join(text.splitlines()[first - 1 : last]))
    place = f"{_place(path, module)}, lines {first} to {last}: {name}"
    return View(f"# {place}\n{lines}", f"<div>{escaped(place)}</div>{highlighted(lines)}")


def _flowing(words: str) -> str:
    """Join the lines of each paragraph that was only wrapped; leave lists and columns as they are."""
    return "\n\n".join(
        paragraph.replace("\n", " ") if _is_prose(paragraph) else paragraph for paragraph in words.split("\n\n")
    )


def _is_prose(paragraph: str) -> bool:
    *broken, _ = paragraph.split("\n")
    return all(len(line) >= _FULL_LINE for line in broken) and not re.search(r"^\s|\S {2}", paragraph, re.MULTILINE)


# ---- the file --------------------------------------------------------------------------------------------------------


def _file_of(module: str) -> Path:
    """The module's file, found package by package, as an import would, but with nothing imported."""
    where: list[str] | None = None
    spec: ModuleSpec | None = None
    seen: list[str] = []
    for word in module.split("."):
        spec = PathFinder.find_spec(".".join([*seen, word]), where)
        if spec is None:
            raise LookupError(f"got no module {word!r} in {'.'.join(seen) or 'sys.path'}, expected {_expected(where)}")
        seen.append(word)
        where = list(spec.submodule_search_locations or [])
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise LookupError(f"got {module!r}, which has no Python source; expected a module that is a .py file")
    return Path(spec.origin)


def _expected(where: list[str] | None) -> str:
    if where is None:
        return 'a module in full, such as "lab_support.boundary.channels"'
    names = sorted(path.stem for place in where for path in Path(place).iterdir() if _is_module(path))
    return "one of " + (", ".join(names) or "none: it is a file, not a package")


def _is_module(path: Path) -> bool:
    return (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()


def _place(path: Path, module: str) -> str:
    """The path relative to this repository; for other modules, relative to the parent of their top package."""
    if path.is_relative_to(_ROOT) and module.startswith("lab_support"):
        return str(path.relative_to(_ROOT))
    depth = module.count(".") + (path.name == "__init__.py")
    return "/".join(path.parts[-depth - 1 :])


# ---- the name --------------------------------------------------------------------------------------------------------


def _lines_of(tree: ast.Module, module: str, name: str) -> tuple[int, int]:
    body, names, seen = tree.body, dict(_named(tree.body)), ""
    for word in name.split("."):
        if word not in names:
            there = ", ".join(names) or "nothing"
            raise LookupError(f"got no {word!r} in {module}{seen and f', {seen}'}, expected one of: {there}")
        node = names[word]
        seen = f"{seen}.{word}".strip(".")
        body = getattr(node, "body", []) if isinstance(node, ast.ClassDef) else []
        names = dict(_named(body))
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)])
    return first, node.end_lineno or node.lineno


def _named(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((target.id, node) for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.If):
            yield from _named(_taken(node))


def _taken(choice: ast.If) -> list[ast.stmt]:
    """The branch of `if sys.platform == …` that this machine takes; both branches of any other `if`."""
    question = ast.unparse(choice.test)
    if found := re.fullmatch(r"sys\.platform (==|!=) '(\w+)'", question):
        return choice.body if (sys.platform == found[2]) == (found[1] == "==") else choice.orelse
    return [*choice.body, *choice.orelse]

"""`lab.reference()`: all that a cell may call, one line each; `lab.reference("emit")`: the lines with a word.

The lines come from signatures and docstrings, and are those of `notebooks/reference.md`. Runs in the kernel.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from lab_support.notebook.cells.magic import options
from lab_support.notebook.moves import reference_contents as contents
from lab_support.notebook.moves.reference_contents import Kind
from lab_support.notebook.page.definitions import ROOT, Defined, define, first_sentence, public_names, tree_of
from lab_support.notebook.page.views import View, aligned, escaped, two_columns

_WITH_LINES_OF_THEIR_OWN = {kind.name for kind in (*contents.RESULTS, *contents.CREW, *contents.SERVERS)}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. names: all that it explains, without what stands before them, such as "told" for `run.told`."""

    call: str
    words: str
    names: frozenset[str]
    example: str = ""

    @property
    def explained(self) -> str:
        return f"{self.words} Example: `{self.example}`" if self.example else self.words

    def has(self, word: str) -> bool:
        return word.lower() in f"{self.call} {self.explained}".lower()


@dataclass(frozen=True, slots=True)
class Group:
    """Lines under one title. how: the way to the names, in a sentence."""

    title: str
    how: str
    entries: tuple[Entry, ...]


def reference(word: str = "") -> View:
    """All that cells may call, in groups, one line each; with a word, only the lines that have it."""
    found = [replace(group, entries=tuple(each for each in group.entries if each.has(word))) for group in groups()]
    found = [group for group in found if group.entries]
    if not found:
        return _nothing(word)
    text = "\n\n".join(f"{group.title}\n{aligned(_rows(group))}" for group in found)
    html = "".join(f"<h4>{escaped(group.title)}</h4><p>{escaped(group.how)}</p>{two_columns(_rows(group))}"
                   for group in found)  # fmt: skip
    return View(text, html)


def _rows(group: Group) -> list[tuple[str, str]]:
    return [(f"`{each.call}`", each.explained) for each in group.entries]


def _nothing(word: str) -> View:
    near = get_close_matches(word, sorted(names()), n=3)
    advice = f"did you mean {', '.join(near)}?" if near else "`lab.reference()` shows all."
    text = f"Nothing that cells may call has {word!r} in its line; {advice}"
    return View(text, f"<p>{escaped(text)}</p>")


def names() -> set[str]:
    """Every name that has a line, without what stands before it: "emit", "read_process", "told"."""
    return {name for group in groups() for each in group.entries for name in each.names}


def as_markdown() -> str:
    """The page `notebooks/reference.md`."""
    lines = [
        "# All that a cell may call",
        "",
        "One line each, made from the docstrings (`python -m lab_support.notebook.publishing.reference` writes this "
        'page). In a notebook: `lab.reference()`, or `lab.reference("emit")` for the lines with a word. '
        "`%%python_process --help` and `help(lab.drive)` tell more.",
    ]
    for group in groups():
        lines += ["", f"## {group.title}", "", group.how, "", "| call | |", "| --- | --- |"]
        lines += [f"| {_in_a_table(call)} | {_in_a_table(words)} |" for call, words in _rows(group)]
    return "\n".join(lines) + "\n"


def _in_a_table(text: str) -> str:
    return text.replace("|", "\\|")


# ---- the groups ------------------------------------------------------------------------------------------------------


def groups() -> list[Group]:
    """All groups, in the order of the page."""
    return [
        Group("Options of `%%python_process`", "In the first line of a cell.", tuple(_options())),
        Group(
            "In a cell's own program",
            "`from lab_support.notebook.script import emit`, and so on. They work in every process of the cell.",
            tuple(_of_module(contents.OWN_PROGRAM[0])),
        ),
        Group(
            "Workers, clients and other things for programs",
            "`from lab_support.notebook.crew import crew`, and so on; `with crew(4) as workers:`, "
            "`clients = workers.connect(64)`.",
            (*_of_modules(contents.OWN_PROGRAM[1:]), *_of_kinds(contents.CREW)),
        ),
        Group("The result of a cell", "With `--into run`.", tuple(_of_kinds(contents.RESULTS))),
        *_of_lab(),
        Group(
            "Results of `lab`'s functions",
            "`server = lab.live_server()`, `load = lab.drive(server)`, `seen = lab.xray(server)`, and so on.",
            tuple(_of_kinds(contents.SERVERS)),
        ),
        Group(
            "Instruments",
            "`from lab_support.instruments import proc`, and so on, in the kernel and in programs.",
            tuple(_of_modules(contents.INSTRUMENTS, qualified=True)),
        ),
        Group(
            "For recordings and figures",
            "`from lab_support.notebook.recordings import cuda_findings as found`, and so on.",
            tuple(map(_whole_module, contents.RECORDINGS)),
        ),
    ]


def _options() -> Iterable[Entry]:
    for flag, words in options().items():
        yield Entry(flag, words, frozenset({flag.split()[0].lstrip("-")}))


def _of_lab() -> Iterable[Group]:
    """A group for each folder from which the stub has names."""
    by_folder: dict[str, list[Entry]] = {}
    for node in _stub().body:
        if isinstance(node, ast.ImportFrom) and node.module:
            folder = node.module.partition(".")[0]
            title = contents.MOVES.get(folder, contents.THE_REST)
            defined = [define(f"lab_support.notebook.{node.module}", each.name) for each in node.names]
            by_folder.setdefault(title, []).extend(_entry(each, "lab.") for each in defined)
    for title in dict.fromkeys((*contents.MOVES.values(), contents.THE_REST)):
        yield Group(title, "`import lab_support.notebook as lab`.", tuple(by_folder.get(title, ())))


def _stub() -> ast.Module:
    return ast.parse((ROOT / "lab_support" / "notebook" / "__init__.pyi").read_text(encoding="utf-8"))


def _of_modules(modules: Iterable[str], *, qualified: bool = False) -> Iterable[Entry]:
    for module in modules:
        yield from _of_module(module, f"{module.rpartition('.')[2]}." if qualified else "")


def _of_module(module: str, before: str = "") -> Iterable[Entry]:
    for name in contents.ONLY.get(module, public_names(module)):
        yield _entry(define(module, name), before)


def _entry(defined: Defined, before: str) -> Entry:
    has = ", ".join(f"`{each.call}`" for each in defined.attributes)
    words = f"{defined.words} Has {has}." if has and defined.name not in _WITH_LINES_OF_THEIR_OWN else defined.words
    explained = frozenset({defined.name, *(each.name for each in defined.attributes)})
    example = contents.EXAMPLES.get(before + defined.name, "")
    return Entry(before + defined.call, words, explained, example)


def _of_kinds(kinds: Iterable[Kind]) -> Iterable[Entry]:
    for kind in kinds:
        for each in define(kind.module, kind.name).attributes:
            call = f"{kind.got_by}.{each.call}"
            yield Entry(call, each.words, frozenset({each.name}), contents.EXAMPLES.get(call, ""))


def _whole_module(module: str) -> Entry:
    """One line for a module, with all its names."""
    defined = [define(module, name) for name in public_names(module)]
    words = first_sentence(ast.get_docstring(tree_of(module)))
    has = ", ".join(f"`{each.call}`" for each in defined)
    explained = frozenset(name for each in defined for name in (each.name, *(one.name for one in each.attributes)))
    return Entry(module.rpartition(".")[2], f"{words} Has {has}.", explained)

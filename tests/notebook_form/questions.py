"""The predictions of a notebook: their options, and the option that the committed run's measurement supported."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from nbformat import NotebookNode

NUMBER = re.compile(r"""["'](\d\d[a-z]?\.\w+)["']""")
SUPPORTS = re.compile(r"The measurement supports (\w) \(")


@dataclass(frozen=True)
class Asked:
    """One prediction. options: text by letter; empty for a sketch. right: "" if it is not in the committed outputs."""

    number: str
    options: dict[str, str] = field(default_factory=dict)
    is_table: bool = False
    right: str = ""

    @property
    def is_choice(self) -> bool:
        """Whether it counts for the spread of right letters: one of three or four options."""
        return not self.is_table and len(self.options) in (3, 4)

    def right_by_length(self, extreme: Callable[[Iterable[int]], int]) -> float:
        """1 if the right option is the longest (`max`) or shortest (`min`), a share if several are, else 0."""
        length = extreme(map(len, self.options.values()))
        ties = [letter for letter, text in self.options.items() if len(text) == length]
        return 1 / len(ties) if self.right in ties else 0


def asked_in(cells: Sequence[NotebookNode]) -> list[Asked]:
    """All predictions in order, with the right letters that the outputs name."""
    found = [each for cell in cells for each in asked_by(cell)]
    right = _right_letters(cells, {each.number for each in found})
    return [Asked(each.number, each.options, each.is_table, right.get(each.number, "")) for each in found]


def asked_by(cell: NotebookNode) -> Iterator[Asked]:
    """The predictions of one cell, in order."""
    tree = syntax(cell)
    values = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in calls(tree, "predict"):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        options = given.get("options")
        named = values.get(options.id) if isinstance(options, ast.Name) else options
        yield Asked(ast.literal_eval(call.args[0]), _texts(named), "rows" in given)


def _texts(options: ast.AST | None) -> dict[str, str]:
    if not isinstance(options, ast.Dict):
        return {}
    pairs = [(key, value) for key, value in zip(options.keys, options.values, strict=True) if key is not None]
    return {str(ast.literal_eval(key)): _text(value) for key, value in pairs}


def _text(value: ast.expr) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else ast.unparse(value)


def _right_letters(cells: Sequence[NotebookNode], numbers: set[str]) -> dict[str, str]:
    """A cell that judges a prediction names it, and its output names the option."""
    found: dict[str, str] = {}
    for cell in cells:
        if cell.cell_type == "code" and "lab.again(" not in cell.source:
            named = [number for number in NUMBER.findall(cell.source) if number in numbers]
            found |= dict(zip(dict.fromkeys(named), SUPPORTS.findall(_output(cell)), strict=False))
    return found


def _output(cell: NotebookNode) -> str:
    texts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(texts)


def syntax(cell: NotebookNode) -> ast.Module:
    """The syntax tree of a cell that runs in the kernel; an empty one for text, programs and unfinished Python."""
    if cell.cell_type != "code" or cell.source.startswith("%%"):
        return ast.Module([], [])
    try:
        return ast.parse("\n".join(line for line in cell.source.splitlines() if not line.startswith(("%", "!"))))
    except SyntaxError:
        return ast.Module([], [])


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """The calls of `lab.NAME`, in order."""
    wanted = f"lab.{name}"
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == wanted]
    return sorted(found, key=lambda node: node.lineno)


@dataclass(frozen=True)
class Spread:
    """The right letters of several notebooks' predictions with three or four options."""

    asked: Sequence[Asked]

    @property
    def known(self) -> list[Asked]:
        return [each for each in self.asked if each.is_choice and each.right in each.options]

    @property
    def letters(self) -> Counter[str]:
        return Counter(each.right for each in self.known)

    @property
    def longest_right(self) -> float:
        """How many times the longest option is the right one."""
        return sum(each.right_by_length(max) for each in self.known)

    @property
    def shortest_right(self) -> float:
        return sum(each.right_by_length(min) for each in self.known)

    @property
    def by_chance(self) -> float:
        """How many times one option of each prediction, drawn by chance, is right."""
        return sum(1 / len(each.options) for each in self.known)

    def __str__(self) -> str:
        letters = ", ".join(f"{letter} {count}" for letter, count in sorted(self.letters.items())) or "none known"
        return (
            f"right letters {letters}; of {len(self.known)} the longest option right {self.longest_right:.1f} times, "
            f"the shortest {self.shortest_right:.1f} times, by chance {self.by_chance:.1f}"
        )

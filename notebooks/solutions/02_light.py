"""02.1, must: a child that does not pay for an import which it does not need."""

from typing import Any

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

LIGHT = '''\
%%python_process --name light --timeout 20 --expect any --into light
import multiprocessing
import numpy

def work(answer, numbers):
    """Runs in the child, which adds up, and needs nothing but Python for it."""
    answer.send(int(sum(numbers)))

def main():
    """Runs in the parent, which needs numpy."""
    numbers = numpy.arange(0, 1000, 3)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=work, args=(theirs, numbers))
    child.start()
    print("the child says", ours.recv())
    child.join()

if __name__ == "__main__":
    main()
'''

_TOP = "import multiprocessing\nimport numpy\n"
_MAIN = '    """Runs in the parent, which needs numpy."""\n'
_NUMBERS = "numbers = numpy.arange(0, 1000, 3)\n"
LIGHT_RIGHT = changed(
    LIGHT,
    _TOP,
    "import multiprocessing\n",
    _MAIN,
    _MAIN + "    import numpy\n",
    _NUMBERS,
    "numbers = numpy.arange(0, 1000, 3).tolist()\n",
)
LIGHT_UNDER_THE_GUARD = changed(
    LIGHT,
    _TOP,
    "import multiprocessing\n",
    'if __name__ == "__main__":\n',
    'if __name__ == "__main__":\n    import numpy\n\n',
    "args=(theirs, numbers)",
    "args=(theirs, [int(number) for number in numbers])",
)
LIGHT_AS_BYTES = changed(
    LIGHT,
    _TOP,
    "import array\nimport multiprocessing\n",
    "int(sum(numbers))",
    'sum(array.array("q", numbers))',
    _MAIN,
    _MAIN + "    import numpy\n",
    _NUMBERS,
    "numbers = numpy.arange(0, 1000, 3, dtype=numpy.int64).tobytes()\n",
)

TOP = (
    "the child runs the script's top level again, and numpy is imported there: import it where only the parent comes by"
)
ARGUMENT = (
    "the script is light now, but what the child is given is made of numpy: to unpickle it, the child has to import "
    "numpy; send plain Python numbers, or bytes"
)
NOT_SPAWNED = "the child is to be made by spawn: its parent is a process with threads, or will be"
PARENT = "the parent needs numpy, and does not have it any more"
NO_SUM = "the program does not print the sum of the numbers any more"

LIGHT_WRONG = (
    Wrong(ARGUMENT, changed(LIGHT, _TOP, "import multiprocessing\n", _MAIN, _MAIN + "    import numpy\n")),
    Wrong(TOP, changed(LIGHT, _NUMBERS, "numbers = numpy.arange(0, 1000, 3).tolist()\n")),
    Wrong(TOP, changed(LIGHT_RIGHT, "import multiprocessing\n", "import multiprocessing\nfrom numpy import add\n",
                       "int(sum(numbers))", "int(add(sum(numbers), 0))")),
    Wrong(NOT_SPAWNED, changed(LIGHT, '"spawn"', '"fork"')),
    Wrong(NOT_SPAWNED, changed(LIGHT_RIGHT, '"spawn"', '"forkserver"')),
    Wrong(PARENT, changed(LIGHT, _TOP, "import multiprocessing\n", "numpy.arange(0, 1000, 3)", "range(0, 1000, 3)")),
    Wrong(NO_SUM, changed(LIGHT_RIGHT, ".tolist()", ".tolist()[:1]")),
)  # fmt: skip

MEASURE_LIGHT = '''
import contextlib, io, json, os, runpy, subprocess, sys
from pathlib import Path
from lab_support.notebook.script import emit

LOOK = """
import atexit, os, sys
def tell():
    words = " ".join(sys.orig_argv)
    role = "child" if "spawn_main" in words else "other" if "multiprocessing" in words else "parent"
    with open("/proc/self/maps") as maps, open(os.path.join(os.environ["LOOK"], f"{role}-{os.getpid()}"), "w") as file:
        file.write("numpy" if "_multiarray_umath" in maps.read() else "")
atexit.register(tell)
"""
cell = Path(os.environ["LAB_CELL"])
(cell / "look").mkdir()
(cell / "look" / "sitecustomize.py").write_text(LOOK)
environment = os.environ | {
    "PYTHONPATH": f"{os.environ['PYTHONPATH']}{os.pathsep}{cell / 'look'}", "LOOK": str(cell / "look")
}
command = [sys.executable, str(cell / "answer.py")]
done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
seen = {path.name: path.read_text() for path in (cell / "look").glob("*-*")}
with contextlib.redirect_stdout(io.StringIO()):
    runpy.run_path(str(cell / "answer.py"), run_name="__mp_main__")
with open("/proc/self/maps") as maps:
    again = "_multiarray_umath" in maps.read()
if done.returncode:
    sys.exit(f"the program ended with exit code {done.returncode}")
emit(measured={
    "said": done.stdout,
    "children": sum(name.startswith("child") for name in seen),
    "children with numpy": sum(name.startswith("child") and bool(text) for name, text in seen.items()),
    "parent with numpy": any(name.startswith("parent") and text for name, text in seen.items()),
    "script imports it": again,
})
'''
_SUM = str(sum(range(0, 1000, 3)))


def judge_light(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_LIGHT, timeout=20)
    parent = "has" if seen["parent with numpy"] else "lacks"
    measured = (
        f"children spawned: {seen['children']}, with numpy: {seen['children with numpy']}; the parent {parent} numpy; "
        f"it printed {seen['said'].strip() or 'nothing'!r}"
    )
    cause = _cause(seen)
    expected = f"a spawned child without numpy, a parent with it, and the sum {_SUM}"
    return failed(measured, expected, cause) if cause else passed(measured)


def _cause(seen: dict[str, Any]) -> str:
    findings = (
        (seen["children"] < 1, NOT_SPAWNED),
        (not seen["parent with numpy"], PARENT),
        (seen["children with numpy"] and seen["script imports it"], TOP),
        (seen["children with numpy"] > 0, ARGUMENT),
        (_SUM not in seen["said"], NO_SUM),
    )
    return next((cause for found, cause in findings if found), "")


EXERCISES = (
    Exercise(
        name="02.1",
        kind="must",
        task="the child adds numbers and needs no numpy for it; change the program so that it does not import numpy",
        skeleton=LIGHT,
        reference=LIGHT_RIGHT,
        also_right=(LIGHT_UNDER_THE_GUARD, LIGHT_AS_BYTES),
        wrong=LIGHT_WRONG,
        hints=(
            "Which lines of this file does the child run before it comes to `work`?",
            "The child runs the whole top level of the script. And to unpickle its arguments it imports whatever "
            "they are made of: `type(numbers)` says what that is.",
            "Import numpy inside `main`, and send `numbers.tolist()`.",
        ),
        judge=judge_light,
    ),
)

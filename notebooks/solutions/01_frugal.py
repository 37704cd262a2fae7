"""01.1, must: a table that a forked child can read without copying it."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

FRUGAL = '''\
%%python_process --name frugal --timeout 20 --expect any --into frugal
import os
from lab_support.instruments import proc
from lab_support.notebook.script import in_child

def make_table():
    """Runs in the parent: a number for each of 400,000 requests."""
    return [[n * 7919 % 100_003] for n in range(400_000)]

def total(table, first, last):
    """Runs in a child: the sum of the numbers from place `first` up to, not with, `last`."""
    return sum(table[place][0] for place in range(first, last))

def cost(table):
    """Runs in a child: how many MB of memory of its own it needs to read the whole table."""
    before = proc.read_memory(os.getpid()).uss
    total(table, 0, 400_000)
    return (proc.read_memory(os.getpid()).uss - before) / 1e6

if __name__ == "__main__":
    table = make_table()
    print(f"one child copies {in_child(lambda: cost(table)):.1f} MB; four of them, four times as much")
'''
_LISTS = "    return [[n * 7919 % 100_003] for n in range(400_000)]\n"
_SUM = "    return sum(table[place][0] for place in range(first, last))\n"
_FLAT_SUM = "    return sum(table[place] for place in range(first, last))\n"
_IMPORT = "import os\n"

FRUGAL_ARRAY = changed(
    FRUGAL,
    _IMPORT,
    "import os\nfrom array import array\n",
    _LISTS,
    '    return array("q", (n * 7919 % 100_003 for n in range(400_000)))\n',
    _SUM,
    _FLAT_SUM,
)
FRUGAL_MAPPED = changed(
    FRUGAL,
    _IMPORT,
    "import mmap, os\n",
    _LISTS,
    """\
    numbers = memoryview(mmap.mmap(-1, 8 * 400_000)).cast("q")
    for n in range(400_000):
        numbers[n] = n * 7919 % 100_003
    return numbers
""",
    _SUM,
    "    return sum(table[first:last])\n",
)
FRUGAL_BYTES = changed(
    FRUGAL,
    _IMPORT,
    "import os, struct\n",
    _LISTS,
    '    return b"".join(struct.pack("i", n * 7919 % 100_003) for n in range(400_000))\n',
    _SUM,
    '    return sum(number for (number,) in struct.iter_unpack("i", table[4 * first : 4 * last]))\n',
)

OBJECTS = (
    "the child still visits hundreds of thousands of Python objects, and each visit writes to the object's reference "
    "count; keep the numbers in one object, side by side"
)
WRONG_SUM = "the sum is another one than before: `total` adds the numbers from `first` up to, not with, `last`"

FRUGAL_WRONG = (
    Wrong(
        OBJECTS,
        changed(FRUGAL, _LISTS, "    return [n * 7919 % 100_003 for n in range(400_000)]\n", _SUM, _FLAT_SUM),
    ),
    Wrong(
        OBJECTS,
        changed(
            FRUGAL,
            _IMPORT,
            "import gc, os\n",
            _LISTS,
            "    table = [[n * 7919 % 100_003] for n in range(400_000)]\n    gc.freeze()\n    return table\n",
        ),
    ),
    Wrong(
        OBJECTS,
        changed(
            FRUGAL,
            _LISTS,
            "    return tuple(str(n * 7919 % 100_003) for n in range(400_000))\n",
            _SUM,
            "    return sum(int(table[place]) for place in range(first, last))\n",
        ),
    ),
    Wrong(
        OBJECTS,
        changed(
            FRUGAL,
            _IMPORT,
            "import os\nfrom array import array\n",
            _SUM,
            '    return sum(array("q", (row[0] for row in table))[first:last])\n',
        ),
    ),
    Wrong(
        WRONG_SUM,
        changed(FRUGAL_ARRAY, _FLAT_SUM, "    return sum(table[place] for place in range(first, last - 1))\n"),
    ),
)

MEASURE_FRUGAL = """
import os
from lab_support.instruments import proc
from lab_support.notebook.script import emit, in_child
import answer

def read(first, last):
    before = proc.read_memory(os.getpid()).uss
    found = answer.total(table, first, last)
    return int(found), proc.read_memory(os.getpid()).uss - before

table = answer.make_table()
expected = [sum(n * 7919 % 100_003 for n in range(*part)) for part in ((0, 400_000), (1234, 98_765))]
whole, part = in_child(lambda: read(0, 400_000), 20), in_child(lambda: read(1234, 98_765), 20)
if isinstance(whole, str) or isinstance(part, str):
    raise SystemExit(f"in the child, total(...) ended with {whole if isinstance(whole, str) else part}")
emit(measured={"right": [whole[0], part[0]] == expected, "mb": whole[1] / 1e6})
"""
_MOST_MB = 4.0  # lists cost about 26, a flat list 13, one array 0.2


def judge_frugal(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_FRUGAL, timeout=50.0)
    expected = f"the same sums, and a child that copies less than {_MOST_MB:g} MB to read the whole table"
    measured = f"a child copied {seen['mb']:.1f} MB, and its sums were {'right' if seen['right'] else 'wrong'}"
    if not seen["right"]:
        return failed(measured, expected, WRONG_SUM)
    if seen["mb"] >= _MOST_MB:
        return failed(measured, expected, OBJECTS)
    return passed(measured)


EXERCISES = (
    Exercise(
        name="01.1",
        kind="must",
        task="change what `make_table` returns, and `total` with it: a child that reads it is to copy next to nothing",
        skeleton=FRUGAL,
        reference=FRUGAL_ARRAY,
        also_right=(FRUGAL_MAPPED, FRUGAL_BYTES),
        wrong=FRUGAL_WRONG,
        hints=(
            "Which of the three kinds of data in the figure could be read without being copied? Why that one?",
            "A reference count belongs to an object. How few objects can 400,000 numbers be?",
            'The module `array`: `array("q", …)` keeps whole numbers of 8 bytes side by side, in one object.',
        ),
        judge=judge_frugal,
    ),
)

"""06.2, should: a program that asks whether there is a device, and by asking spoils what it wanted to know."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

PROBE = '''\
%%python_process --name probe --timeout 3 --expect any --into probe
import os
from lab_support.notebook.stages.pretend_driver import Driver
driver = Driver("/dev/zero")

def is_available():
    """Whether there is a device to compute on."""
    try:
        return driver.run(lambda: True)
    except OSError:
        return False

def work(number):
    """Runs in a child: compute, and end with the result as exit code."""
    os._exit(driver.run(lambda: 2 * number))

def serve(numbers):
    """Fork a child for each number, or none where there is no device. Returns their exit codes."""
    if not is_available():
        return []
    children = [os.fork() or work(number) for number in numbers]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

if __name__ == "__main__":
    print("the children ended with", serve([1, 2, 3]))
'''
_ASKS = """\
    try:
        return driver.run(lambda: True)
    except OSError:
        return False
"""
_WORK = "    os._exit(driver.run(lambda: 2 * number))\n"
PROBE_LOOK = changed(PROBE, _ASKS, "    return os.path.exists(driver.device)\n")
PROBE_IN_CHILD = changed(
    PROBE,
    _ASKS,
    """\
    if (child := os.fork()) == 0:
        try:
            driver.run(lambda: True)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0
""",
)
PROBE_STAT = changed(
    PROBE,
    "        return driver.run(lambda: True)\n",
    "        os.stat(driver.device)\n        return True\n",
)

STUCK = (
    "the parent has used the driver before the fork, so each child has memory in which the driver's thread runs, and "
    "no such thread: asking `is_available` was already using it"
)
NOT_ASKED = "where there is no device, it made children all the same"
NO_DRIVER = "the children did not compute on the driver"
NONE_MADE = "where there is a device, no children were made"

PROBE_WRONG = (
    Wrong(
        STUCK,
        changed(
            PROBE,
            "def work(number):",
            "found = is_available()\n\ndef work(number):",
            "    if not is_available():",
            "    if not found:",
        ),
    ),
    Wrong(STUCK, changed(PROBE, "lambda: True", "bool")),
    Wrong(NOT_ASKED, changed(PROBE, "    if not is_available():\n        return []\n", "")),
    Wrong(NO_DRIVER, changed(PROBE_LOOK, _WORK, "    os._exit(2 * number)\n")),
    Wrong(NONE_MADE, changed(PROBE, _ASKS, '    return os.path.exists("/dev/nvidia-uvm-of-another-machine")\n')),
)

# The driver's answers are one too high here, so that one can tell whether it was asked.
WITH_AND_WITHOUT = """
import os
from lab_support.notebook.stages.pretend_driver import Driver
from lab_support.notebook.script import emit, in_child

run = Driver.run
Driver.run = lambda driver, job: run(driver, job) + 1

def guarded(work, number):
    try:
        work(number)
    except BaseException:
        os._exit(99)

def serve_on(device):
    import answer
    answer.driver.device = device
    work = answer.work
    answer.work = lambda number: guarded(work, number)
    return answer.serve([1, 2, 3])

there, absent = (in_child(lambda: serve_on(device), 1.5) for device in ("/dev/zero", "/no/device"))
emit(measured={"with": there, "without": absent})
"""


def judge_probe(attempt: Attempt) -> Verdict:
    seen = attempt.measure(WITH_AND_WITHOUT, timeout=8.0)
    expected = "with a device three children that compute on it, without one no children"
    there = "children that wait for ever" if seen["with"] == "stuck" else seen["with"]
    measured = f"with a device: {there}; without: {seen['without']}"
    if seen["with"] == "stuck":
        return failed(measured, expected, STUCK)
    if seen["without"] != []:
        return failed(measured, expected, NOT_ASKED)
    if seen["with"] == [2, 4, 6]:
        return failed(measured, expected, NO_DRIVER)
    if seen["with"] != [3, 5, 7]:
        return failed(measured, expected, NONE_MADE)
    return passed("with a device, three children computed on it; without one, there were none")


EXERCISES = (
    Exercise(
        name="06.2",
        kind="should",
        task="find out why the children wait for ever, and mend the program; it is still to ask first",
        skeleton=PROBE,
        reference=PROBE_LOOK,
        also_right=(PROBE_IN_CHILD, PROBE_STAT),
        wrong=PROBE_WRONG,
        hints=(
            "Read the report below the cell: how many threads has each child? Which one does it wait for?",
            "`is_available` lets the driver do something. When does the driver start its thread?",
            "Ask without the driver: `os.path.exists(driver.device)`. Or ask in a child of its own, which then ends.",
        ),
        judge=judge_probe,
    ),
)

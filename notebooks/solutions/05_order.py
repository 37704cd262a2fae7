"""05.1, must: a launcher that has used the driver forks its workers, and they wait for ever."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed
from lab_support.plural import counted

ORDER = '''\
%%python_process --name workers --timeout 3 --expect any --into workers
import multiprocessing
from lab_support.notebook.stages.pretend_driver import driver

def worker(number, pipe):
    """Runs in a child: store a number on the device, and send what stands there."""
    pipe.send(driver.load(driver.store(number)))

def launch(count):
    """Store 99 for the launcher, run `count` workers; return what the launcher and each of them find."""
    own = driver.store(99)
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(count)]
    for number, (_, theirs) in enumerate(pipes):
        context.Process(target=worker, args=(number, theirs), daemon=True).start()
    found = [ours.recv() for ours, _ in pipes]
    return driver.load(own), found

if __name__ == "__main__":
    print("found", launch(2))
'''
_STORE = "    own = driver.store(99)\n"
_FOUND = "    found = [ours.recv() for ours, _ in pipes]\n"

ORDER_FORK_FIRST = changed(ORDER, _STORE, "", _FOUND, _STORE + _FOUND)
ORDER_SPAWN = changed(ORDER, '"fork"', '"spawn"')
ORDER_FORKSERVER = changed(ORDER, '"fork"', '"forkserver"')
ORDER_FORGET = changed(
    ORDER,
    "import multiprocessing\n",
    "import multiprocessing, os\n",
    "def worker(",
    "os.register_at_fork(after_in_child=driver.forget)  # no worker uses a handle of the launcher's\n\ndef worker(",
)

STUCK = (
    "a worker waits for the driver's thread, and that stayed in the launcher: fork before the launcher's first use of "
    "the driver, or start the workers with nothing of it"
)
REFUSED = "the workers got an error and did no work: to refuse is better than to hang, but the workers are to work"
LOST = "the launcher has lost what it had stored: it is to keep using the driver, with its own handle"
GAVE_UP = "the workers did not find their numbers on the device"
NO_PROCESS = "the workers are to be processes, one each"

ORDER_WRONG = (
    Wrong(
        STUCK, changed(ORDER, _STORE, "    driver.store(0)                                     # warm up\n" + _STORE)
    ),
    Wrong(STUCK, changed(ORDER, _STORE, "", "    pipes = [", f"{_STORE}    pipes = [")),
    Wrong(
        REFUSED,
        changed(
            ORDER,
            "import multiprocessing\n",
            "import multiprocessing, os\n",
            "def worker(",
            "os.register_at_fork(after_in_child=driver.refuse)\n\ndef worker(",
        ),
    ),
    Wrong(LOST, changed(ORDER, _STORE, f"{_STORE}    driver.forget()\n")),
    Wrong(
        GAVE_UP,
        changed(
            ORDER,
            "    found = [ours.recv() for ours, _ in pipes]\n",
            "    found = [ours.recv() if ours.poll(0.3) else None for ours, _ in pipes]\n",
        ),
    ),
    Wrong(
        NO_PROCESS,
        changed(
            ORDER,
            "import multiprocessing\n",
            "import multiprocessing, threading\n",
            "context.Process(",
            "threading.Thread(",
        ),
    ),
)

MEASURE_ORDER = """
import multiprocessing, os, threading
from lab_support.notebook.script import emit
import answer

ended = []

def launch():
    try:
        ended.append(answer.launch(3))
    except BaseException as error:
        ended.append(f"{type(error).__name__}: {error}")

thread = threading.Thread(target=launch, daemon=True)
thread.start()
thread.join(1.5)
children = multiprocessing.active_children()
if not ended and any(child.is_alive() for child in children) and children[0]._start_method != "fork":
    thread.join(6)                                      # a machine that is slow to start programs is no mistake
emit(measured={"ended": ended, "hang": sum(child.is_alive() for child in children)})
for child in children:
    child.kill()
os._exit(0)
"""


def judge_order(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_ORDER, timeout=9.0)
    workers = [each for each in attempt.processes[1:] if each.name.startswith("P")]
    expected = "the launcher finds 99, and three workers, each a process, find 0, 1 and 2"
    codes = [each.exit_code for each in workers]
    if not seen["ended"]:
        measured = f"it did not come back: {counted(seen['hang'], 'worker')} waiting, exit codes of the others: {codes}"
        return failed(measured, expected, STUCK if seen["hang"] else REFUSED)
    said = seen["ended"][0]
    if isinstance(said, str):
        return failed(said, expected, REFUSED if 1 in codes else STUCK)
    own, found = said
    measured = f"the launcher found {own}, the workers {found}"
    if own != 99:
        return failed(measured, expected, LOST)
    if found != [0, 1, 2]:
        return failed(measured, expected, GAVE_UP)
    if len(workers) < 3:
        return failed(f"{measured}; worker processes: {len(workers)}", expected, NO_PROCESS)
    return passed(measured)


EXERCISES = (
    Exercise(
        name="05.1",
        kind="must",
        task="change the order, or the start, so that the launcher and its workers can all use the driver",
        skeleton=ORDER,
        reference=ORDER_FORK_FIRST,
        also_right=(ORDER_SPAWN, ORDER_FORKSERVER, ORDER_FORGET),
        wrong=ORDER_WRONG,
        hints=(
            "Read the report below the cell: where does each worker stand, and how many threads does it have?",
            "The driver's thread lives in the process that used it first. Which process is that?",
            "Move `own = driver.store(99)` below the loop that starts the workers. Or ask for another start method.",
        ),
        judge=judge_order,
    ),
)

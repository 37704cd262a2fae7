"""Random small programs, made to fork, flood, crash and hang, each with what a cell that runs it must show."""

import random
from dataclasses import dataclass

TIMEOUT = 2.0  # seconds; on a machine that does other work, Python alone has taken one to start


@dataclass(frozen=True)
class Program:
    """lines: of its output, without regard to order between processes. outcomes: how it may end."""

    kind: str
    source: str
    lines: tuple[str, ...]
    outcomes: tuple[str, ...]


def make(chance: random.Random) -> Program:
    return chance.choice((forks, crash, flood, threads, nested, daemon, deadlock))(chance)


def forks(chance: random.Random) -> Program:
    count, lines = chance.randint(1, 6), chance.randint(1, 50)
    source = f"""
import os
for child in range({count}):
    if os.fork() == 0:
        for number in range({lines}):
            print(child, number)
        os._exit(child)
for child in range({count}):
    os.wait()
"""
    return Program("forks", source, tuple(f"{c} {n}" for c in range(count) for n in range(lines)), ("0",))


def crash(chance: random.Random) -> Program:
    number = chance.choice((6, 9, 11, 15))
    return Program("crash", f"import os\nprint('first')\nos.kill(os.getpid(), {number})", ("first",), (f"-{number}",))


def flood(chance: random.Random) -> Program:
    count = chance.randint(1000, 20_000)
    return Program("flood", f"for number in range({count}): print(number)", tuple(map(str, range(count))), ("0",))


def threads(chance: random.Random) -> Program:
    count, lines = chance.randint(1, 6), chance.randint(1, 50)
    source = f"""
import os, threading
def write(name):
    for number in range({lines}):
        os.write(1, f"{{name}} {{number}}\\n".encode())
for name in range({count}):
    threading.Thread(target=write, args=(name,)).start()
"""
    return Program("threads", source, tuple(f"{c} {n}" for c in range(count) for n in range(lines)), ("0",))


def nested(chance: random.Random) -> Program:
    source = """
import multiprocessing
def work(number):
    print("work", number)
if __name__ == "__main__":
    workers = [multiprocessing.get_context(METHOD).Process(target=work, args=(n,)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
"""
    method = chance.choice(("fork", "spawn", "forkserver"))
    return Program(method, source.replace("METHOD", repr(method)), ("work 0", "work 1"), ("0",))


def daemon(_: random.Random) -> Program:
    source = """
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("daemon")
        signal.pause()
    os._exit(0)
os.wait()
print("parent")
"""
    return Program("daemon", source, ("daemon", "parent"), ("leftover", "timeout"))


def deadlock(chance: random.Random) -> Program:
    source = """
import os, signal, threading
lock = threading.Lock()
lock.acquire()
child = os.fork()
print("begun")
if child == 0:
    HANG
os.waitpid(child, 0)
"""
    hang = chance.choice(("lock.acquire()", "os.kill(os.getpid(), signal.SIGSTOP)", "\n    while True: pass"))
    return Program("deadlock", source.replace("HANG", hang), ("begun", "begun"), ("timeout",))

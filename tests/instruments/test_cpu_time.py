"""CPU time by thread: a thread that works is found, and a process that has ended is nothing."""

import os
import subprocess
import threading
import time

from lab_support.instruments.cpu_time import busy_seconds, spent, thread_seconds


def work(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_the_busiest_thread_is_a_part_of_all():
    cores = os.sched_getaffinity(0)
    before, machine = thread_seconds(os.getpid()), busy_seconds(cores)
    threads = [threading.Thread(target=work, args=(seconds,)) for seconds in (0.05, 0.3)]
    for thread in threads:
        thread.start()
    while len([each for each in threads if each.is_alive()]) == 2:
        work(0.001)
    took = spent(before, thread_seconds(os.getpid()))
    for thread in threads:
        thread.join()
    assert 0 < took.busiest < took.all
    assert busy_seconds(cores) > machine


def test_a_process_that_has_ended_has_no_threads():
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
        assert thread_seconds(ended.pid) == {}


def test_other_cores_are_not_counted():
    every = os.sched_getaffinity(0)
    alone = [busy_seconds([core]) for core in every]
    assert busy_seconds([]) == 0 < min(alone)
    assert max(alone) <= busy_seconds(every)

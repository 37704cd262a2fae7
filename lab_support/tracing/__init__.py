"""The trace of a server (`--trace-dir`): every process writes its events to a file of its own; `lab trace` reads them.

All times are `time.monotonic()` seconds. On Linux this is CLOCK_MONOTONIC, one clock of the kernel for all processes
(clock_gettime(2)), so times of different processes can be compared, whether a process was made by fork, spawn or a fork
server. Two limits: a process in a time namespace of its own has another offset (time_namespaces(7)), but children of
the launcher share its namespace; and the clock stands still while the machine is suspended (CLOCK_BOOTTIME does not).

`events.py` lists the events, `trace.py` is the writing end in each process, `files.py` the files. Prompts and answers
are never written.
"""

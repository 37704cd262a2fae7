"""What a process that does not answer is doing, as the kernel has it in /proc. Linux only."""

from pathlib import Path

_STATES = {
    "T": "it is stopped by a signal (SIGSTOP, or Ctrl-Z)",
    "t": "a debugger has stopped it",
    "D": "it is in a call of the kernel that no signal interrupts",
    "R": "it runs",
    "Z": "it has ended",
}


def state_of(pid: int) -> str:
    """In words: whether the main thread runs, is stopped, or waits, and then in which function of the kernel."""
    stat = _stat(pid)
    if not stat:
        return "what it does can't be told"
    told = _STATES.get(stat[0], "it waits")
    where = _wait_channel(Path(f"/proc/{pid}")) if stat[0] in "SD" else ""
    return f"{told} in {where}" if where else told


def cpu_ticks(pid: int) -> int:
    """CPU time of all its threads, in ticks of the kernel; 0 if that can't be told."""
    stat = _stat(pid)
    return int(stat[11]) + int(stat[12]) if stat else 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on (proc_pid_stat(5), number 3); an empty list if there are none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _wait_channel(folder: Path) -> str:
    try:
        name = (folder / "wchan").read_text()
    except OSError:
        return ""
    return "" if name in ("", "0") else name
